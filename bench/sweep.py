"""Contestant (c): our whole sweep, composed as in Azure: read from storage, renew, write what must be written.

`python -m bench.sweep` is the timer's, `python -m bench.sweep drain` a queue instance's. Settings from the environment.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp  # noqa: F401 (what the app loads late is loaded before the clock starts, as it is for the others)
import azure.data.tables.aio
import azure.identity.aio  # noqa: F401 (as above)
from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from bench.measure import Measure
from bench.transactions import Transactions
from shared.services import Services, services
from shared.sweep import Tally
from shared.wakeups import QUEUE, Sweep, parse

AT_ONCE = 4  # messages that an instance works on
PATIENCE = 60.0  # seconds that it waits for its first
_PAUSE = 0.05


async def sweep() -> None:
    """Do what the timer does; then, what the dead man's switch does that it leaves. Tell the figures of the first."""
    parts, counted = services(), Transactions()
    measure = Measure()
    _time_requests(parts, measure)
    tally = await parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.fresh)
    figures = measure.figures(tally.renewed, **_of(tally))
    swept = counted.counts.copy()
    await parts.keeper.handle(Sweep(wake_up="watchdog", due=datetime(2000, 1, 1, tzinfo=UTC)))
    switch = counted.counts - swept
    print(json.dumps({**figures, "transactions": swept, "switch_transactions": switch}), flush=True)
    await _close(parts)


async def drain() -> None:
    """Work as a queue instance does, until the queue is empty; tell the figures from the first message on."""
    parts, counted = services(), Transactions()
    storage = parts.settings.calls_storage
    queue = QueueClient.from_connection_string(
        storage.get_secret_value() if storage else "", QUEUE, message_decode_policy=TextBase64DecodePolicy()
    )
    async with queue:
        first = await _first(queue)
        measure = Measure()
        renewed = _time_requests(parts, measure)
        await _work(queue, first, lambda text: parts.keeper.handle(parse(text)))
        figures = measure.figures(renewed())
    print(json.dumps({**figures, "transactions": counted.counts}), flush=True)
    await _close(parts)


async def _first(queue: QueueClient) -> list[tuple[object, str]]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := await _receive(queue):
            return found
        await asyncio.sleep(_PAUSE)
    return []


async def _work(queue: QueueClient, found: list[tuple[object, str]], handle: Callable[[str], Awaitable[None]]) -> None:
    """As the host: fetch two when there is room for two, delete what is done."""

    async def one(message: object, text: str) -> None:
        await handle(text)
        await queue.delete_message(message)  # type: ignore[arg-type] # as it was received

    running: set[asyncio.Task[None]] = set()
    while found or running:
        running |= {asyncio.create_task(one(*item)) for item in found}
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        found = await _receive(queue) if len(running) <= AT_ONCE // 2 else []


async def _receive(queue: QueueClient) -> list[tuple[object, str]]:
    pages = queue.receive_messages(messages_per_page=AT_ONCE // 2, visibility_timeout=600).by_page()
    page = await anext(pages, None)
    return [(message, str(message.content)) async for message in page] if page else []


def _time_requests(parts: Services, measure: Measure) -> Callable[[], int]:
    """Take the time of each keepAlive; gives how many there were."""
    graph = parts.graph
    renew = graph.keep_alive

    async def timed(call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        began = time.perf_counter()
        await renew(call_id, tenant_id, app_id)
        measure.latencies.append(time.perf_counter() - began)

    graph.keep_alive = timed  # type: ignore[method-assign] # a stop-watch, around the very method
    return lambda: len(measure.latencies)


def _of(tally: Tally) -> dict[str, float]:
    return {
        "failing": tally.failing,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "handed_over": tally.handed_over,
    }


async def _close(parts: Services) -> None:
    await parts.http.close()
    await parts.store.close()


if __name__ == "__main__":
    asyncio.run(drain() if sys.argv[1:] == ["drain"] else sweep())
