"""What each layer about a keepAlive costs, in one process: `python -m bench.layers GRAPH CALLS TURNS`.

From a bare POST to a whole sweep with storage in memory: each does what the one before does, and more. They take turns.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bench.load import TENANT, call_ids, side_by_side
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
        """Take it."""


async def run(graph: str, count: int, turns: int) -> None:
    """Take turns; tell the median and the least of the CPU time of each, in microseconds a call."""
    parts = await _composed(count)
    layers = _layers(parts, graph, list(call_ids(count)))
    found: dict[str, list[float]] = {name: [] for name in layers}
    for _ in range(turns + 1):
        for name, work in layers.items():
            began = time.process_time()
            await work()
            found[name].append(1e6 * (time.process_time() - began) / count)
    warm = {name: took[1:] for name, took in found.items()}
    print(json.dumps({name: {"median": statistics.median(took), "least": min(took)} for name, took in warm.items()}))
    await parts.http.close()


def _layers(parts: Services, graph: str, ids: list[str]) -> dict[str, Work]:
    async def bare(call_id: str) -> None:
        async with parts.http._session.post(_address(graph, call_id), headers=_HEADERS) as response:  # noqa: SLF001 (what our client sends with)
            response.raise_for_status()
            await response.read()

    async def asked(call_id: str) -> None:
        await _ask(parts.http, _address(graph, call_id))

    async def kept(call_id: str) -> None:
        await parts.graph.keep_alive(call_id, TENANT)

    async def swept() -> None:
        tally = await parts.keeper.sweep("operator")
        assert tally.renewed == len(ids)  # noqa: S101 (else it is no measure)

    return {
        "a bare POST of aiohttp's": lambda: side_by_side(ids, bare),
        "our client: HttpClient.ask": lambda: side_by_side(ids, asked),
        "with token and pace: GraphCalls.keep_alive": lambda: side_by_side(ids, kept),
        "a sweep, storage in memory: Keeper.sweep": swept,
    }


async def _composed(count: int) -> Services:
    """As in Azure, but with storage in memory."""
    parts, store = Services(load_settings(), SystemClock()), CallStore(MemoryTable())
    parts.__dict__ |= {"store": store, "queue": _NoQueue()}
    now = parts.clock.now()
    for call_id in call_ids(count):
        await store.commit(Change(None, Call(call_id, TENANT, "established", known_at=now, started_at=now)))
    return parts


def _address(graph: str, call_id: str) -> str:
    return f"{graph}/v1.0/communications/calls/{call_id}/keepAlive"


async def _ask(client: HttpClient, url: str) -> Response:
    request = Request("POST", url, _HEADERS, None, via_aiohttp=True)
    return await client.send(request, _TIMEOUT, wants_body=lambda head: not head.succeeded)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
