"""Contestant (a): a bare aiohttp loop that only sends POSTs, as a program without any records would."""

import asyncio
import sys

import aiohttp

from bench.measure import Figures, Measure
from bench.rounds import serve_rounds
from bench.workload import IN_FLIGHT, call_ids, run_concurrently


async def run(graph: str, count: int) -> None:
    """POST keepAlive for `count` calls in each round, and print the figures of each."""
    headers = {"authorization": f"Bearer {'a' * 1500}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:

        async def work(_number: int) -> Figures:
            measure = Measure()

            async def post(call_id: str) -> None:
                with measure.request():
                    async with session.post(f"{graph}/v1.0/communications/calls/{call_id}/keepAlive") as response:
                        response.raise_for_status()
                        await response.read()

            await run_concurrently(call_ids(count), post)
            return measure.figures()

        await serve_rounds(work)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
