"""Sends the notifications of so many calls to a webhook, 32 at once: `python -m bench.notify URL CALLS TOKEN FIRST`."""

import asyncio
import sys

import aiohttp

from bench.load import IN_FLIGHT, call_ids, side_by_side
from bench.measure import Measure
from bench.notifications import bodies


async def run(url: str, count: int, token: str, first: int) -> None:
    """Send those of some other calls, so that all connections are open; send them; tell the figures."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:

        async def tell(call_id: str) -> None:
            for body in bodies(call_id):
                with measure.request():
                    async with session.post(url, data=body) as response:
                        if response.status != 202:  # noqa: PLR2004 (the one answer that says: stored)
                            raise RuntimeError(f"a notification was answered with {response.status}")

        measure = Measure()
        await side_by_side(call_ids(IN_FLIGHT, first + count), tell)
        measure = Measure()
        await side_by_side(call_ids(count, first), tell)
        measure.tell()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
