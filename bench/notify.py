"""Sends the notifications of so many calls to a webhook, 32 calls at once: `python -m bench.notify URL CALLS TOKEN`."""

import asyncio
import sys
import time
from collections.abc import Iterator

import aiohttp

from bench.load import IN_FLIGHT, call_ids
from bench.measure import Measure
from bench.notifications import bodies


async def run(url: str, count: int, token: str) -> None:
    """Send them; tell the figures."""
    ids = call_ids(count)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:
        measure = Measure()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(_tell(session, url, ids, measure.latencies))
        measure.tell(len(measure.latencies))


async def _tell(session: aiohttp.ClientSession, url: str, ids: Iterator[str], latencies: list[float]) -> None:
    for call_id in ids:
        for body in bodies(call_id):
            began = time.perf_counter()
            async with session.post(url, data=body) as response:
                if response.status != 202:  # noqa: PLR2004 (the one answer that says: stored)
                    raise RuntimeError(f"a notification was answered with {response.status}")
            latencies.append(time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
