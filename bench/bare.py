"""Contestant (a): a bare aiohttp loop that only POSTs. What a program would do that keeps no records at all."""

import asyncio
import sys

import aiohttp

from bench.load import IN_FLIGHT, call_ids, side_by_side
from bench.measure import Figures, Measure
from bench.rounds import in_rounds


async def run(graph: str, count: int) -> None:
    """POST keepAlive for so many calls; tell the figures."""
    headers = {"authorization": f"Bearer {'a' * 1500}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:

        async def work(_number: int) -> Figures:
            measure = Measure()

            async def post(call_id: str) -> None:
                with measure.request():
                    async with session.post(f"{graph}/v1.0/communications/calls/{call_id}/keepAlive") as response:
                        response.raise_for_status()
                        await response.read()

            await side_by_side(call_ids(count), post)
            return measure.figures()

        await in_rounds(work)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
