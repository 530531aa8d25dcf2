"""The CPU time of each layer around a keepAlive, in one process: `python -m bench.layers GRAPH CALLS TURNS`.

The layers go from a bare POST to a whole sweep with storage in memory. Each includes the one before. They take turns,
so that a disturbance of the machine hits all of them.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bench.workload import TENANT, call_ids, run_concurrently
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.domain.calls import Call
from shared.http_client import HttpClient, Request, Response
from shared.services import Services
from shared.storage.memory_table import MemoryTable
from shared.storage.store import CallStore, Change
from shared.storage.wakeup_queue import WakeUp

_HEADERS = {"authorization": f"Bearer {'a' * 1500}", "client-request-id": "8a3c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"}
_TIMEOUT = timedelta(seconds=10)

type Work = Callable[[], Awaitable[None]]


class _NoQueue:
    async def send(self, message: WakeUp, delay: timedelta) -> None:
        """Drop the message."""


async def run(graph: str, count: int, turns: int) -> None:
    """Run each layer `turns` times, and print the median and the minimum of its CPU time, in microseconds a call."""
    parts = await _compose(count)
    layers = _layers(parts, graph, list(call_ids(count)))
    microseconds: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(turns + 1):
        for name, work in layers.items():
            began = time.process_time()
            await work()
            microseconds[name].append(1e6 * (time.process_time() - began) / count)
    warm = {name: values[1:] for name, values in microseconds.items()}
    print(
        json.dumps({name: {"median": statistics.median(values), "least": min(values)} for name, values in warm.items()})
    )
    await parts.http.close()


def _layers(parts: Services, graph: str, ids: list[str]) -> dict[str, Work]:
    async def bare(call_id: str) -> None:
        async with parts.http._session.post(_address(graph, call_id), headers=_HEADERS) as response:  # noqa: SLF001 (what our client sends with)
            response.raise_for_status()
            await response.read()

    async def through_client(call_id: str) -> None:
        await _send(parts.http, _address(graph, call_id))

    async def keep_alive(call_id: str) -> None:
        await parts.graph.keep_alive(call_id, TENANT)

    async def sweep() -> None:
        stats = await parts.keeper.sweep("operator")
        assert stats.renewed == len(ids)  # noqa: S101 (otherwise the figure means nothing)

    return {
        "a bare POST of aiohttp's": lambda: run_concurrently(ids, bare),
        "our client: HttpClient.ask": lambda: run_concurrently(ids, through_client),
        "with token and pace: GraphCalls.keep_alive": lambda: run_concurrently(ids, keep_alive),
        "a sweep, storage in memory: Keeper.sweep": sweep,
    }


async def _compose(count: int) -> Services:
    """Build the services as in Azure, but with storage in memory, and store `count` calls."""
    parts, store = Services(load_settings(), SystemClock()), CallStore(MemoryTable())
    parts.__dict__ |= {"store": store, "queue": _NoQueue()}
    now = parts.clock.now()
    for call_id in call_ids(count):
        await store.commit(Change(None, Call(call_id, TENANT, "established", known_at=now, started_at=now)))
    return parts


def _address(graph: str, call_id: str) -> str:
    return f"{graph}/v1.0/communications/calls/{call_id}/keepAlive"


async def _send(client: HttpClient, url: str) -> Response:
    request = Request("POST", url, _HEADERS, None, via_aiohttp=True)
    return await client.send(request, _TIMEOUT, wants_body=lambda head: not head.succeeded)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
