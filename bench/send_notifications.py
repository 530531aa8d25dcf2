"""Sends the notifications of some calls to a webhook: `python -m bench.send_notifications URL CALLS TOKEN FIRST`."""

import asyncio
import http.client
import sys

import aiohttp

from bench.measure import Measure
from bench.notifications import bodies
from bench.workload import IN_FLIGHT, call_ids, run_concurrently


async def run(url: str, count: int, token: str, first: int) -> None:
    """Send the notifications of `count` calls, and print the figures.

    Before the measurement it sends those of `IN_FLIGHT` other calls, so that all connections are open.
    """
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session:

        async def send(call_id: str) -> None:
            for body in bodies(call_id):
                with measure.request():
                    async with session.post(url, data=body) as response:
                        if response.status != http.client.ACCEPTED:  # the one answer that says: stored
                            raise RuntimeError(f"a notification was answered with {response.status}")

        measure = Measure()
        await run_concurrently(call_ids(IN_FLIGHT, first + count), send)
        measure = Measure()
        await run_concurrently(call_ids(count, first), send)
        measure.print_figures()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
