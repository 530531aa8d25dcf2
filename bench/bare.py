"""Contestant (a): a bare aiohttp loop that only POSTs. What a program would do that keeps no records at all."""

import asyncio
import sys
import time
from collections.abc import Iterator

import aiohttp

from bench.load import IN_FLIGHT, call_ids
from bench.measure import Measure


async def run(graph: str, count: int) -> None:
    """POST keepAlive for so many calls; tell the figures."""
    ids = call_ids(count)
    headers = {"authorization": f"Bearer {'a' * 1500}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:
        measure = Measure()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(_post(session, graph, ids, measure.latencies))
        measure.tell(len(measure.latencies))


async def _post(session: aiohttp.ClientSession, graph: str, ids: Iterator[str], latencies: list[float]) -> None:
    for call_id in ids:
        began = time.perf_counter()
        async with session.post(f"{graph}/v1.0/communications/calls/{call_id}/keepAlive") as response:
            response.raise_for_status()
            await response.read()
        latencies.append(time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
