"""Contestant (c): our whole sweep, composed as in Azure: read calls from storage, renew them, write the results.

`python -m bench.sweep` sweeps as the timer does, `python -m bench.sweep drain` as an instance of the queue, and
`python -m bench.sweep sample` as the timer with a profile of the second sweep. Settings come from the environment. Each
process sweeps twice, 15 minutes apart by the app's clock, because a process in Azure sweeps many times.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta

from azure.storage.queue import TextBase64DecodePolicy
from azure.storage.queue.aio import QueueClient

from bench.measure import Measure
from bench.rounds import serve_rounds
from bench.sampler import Sampler
from bench.transactions import Transactions
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.keeping.counts import SweepCounts
from shared.services import Services, replace_services, services
from shared.storage.wakeup_queue import QUEUE_NAME, Sweep, parse_wake_up

PERIOD = timedelta(minutes=15)  # of KEEP_ALIVE_SCHEDULE
MAX_MESSAGES = 4  # that an instance handles at once, by host.json
# For the first message. It comes within a second of the signal, unless another instance handles all messages first.
MAX_WAIT = timedelta(seconds=20)
_POLL = timedelta(milliseconds=50)

type RoundFigures = dict[str, object]


class ShiftedClock(SystemClock):
    """The machine's clock plus an offset, so that the next sweep is due."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        """Return the shifted time, aware, in UTC."""
        return super().now() + self.offset


async def sweep(*, sampled: bool = False) -> None:
    """Sweep as the timer does, then handle the watchdog's message, in each round. The figures cover the sweep only.

    Parameters
    ----------
    sampled
        True to profile the second sweep.
    """
    clock, parts = _compose()

    async def work(number: int) -> RoundFigures:
        clock.offset = (number - 1) * PERIOD
        counted.counts.clear()
        sampler = Sampler()
        profiling: AbstractContextManager[object] = sampler if sampled and number > 1 else nullcontext()
        measure = Measure()
        _time_requests(parts, measure)
        with profiling:
            stats = await parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)
        figures = measure.figures(stats.renewed, **_counts(stats))
        swept = counted.counts.copy()
        await parts.keeper.handle(Sweep(wake_up="watchdog", due=datetime(2000, 1, 1, tzinfo=UTC)))
        watchdog = counted.counts - swept
        return {**figures, "transactions": swept, "watchdog_transactions": watchdog, "samples": sampler.samples}

    with Transactions() as counted:
        await serve_rounds(work)
    await _close(parts)


async def drain() -> None:
    """Handle messages as a queue instance does, until the queue is empty. The time begins with the first message."""
    clock, parts = _compose()
    storage = parts.settings.calls_storage
    queue = QueueClient.from_connection_string(
        storage.get_secret_value() if storage else "", QUEUE_NAME, message_decode_policy=TextBase64DecodePolicy()
    )

    async def work(number: int) -> RoundFigures:
        clock.offset = (number - 1) * PERIOD
        counted.counts.clear()
        first = await _wait_for_messages(queue)
        measure = Measure()
        _time_requests(parts, measure)
        await _handle_messages(queue, first, lambda text: parts.keeper.handle(parse_wake_up(text)))
        return {**measure.figures(), "transactions": counted.counts.copy()}

    with Transactions() as counted:
        async with queue:
            await serve_rounds(work)
    await _close(parts)


def _compose() -> tuple[ShiftedClock, Services]:
    clock = ShiftedClock()
    replace_services(Services(load_settings(), clock))
    return clock, services()


async def _wait_for_messages(queue: QueueClient) -> list[tuple[object, str]]:
    deadline = time.monotonic() + MAX_WAIT.total_seconds()
    while time.monotonic() < deadline:
        if found := await _receive(queue):
            return found
        await asyncio.sleep(_POLL.total_seconds())
    return []


async def _handle_messages(
    queue: QueueClient, found: list[tuple[object, str]], handle: Callable[[str], Awaitable[None]]
) -> None:
    """Work as the host does: fetch two messages if two fit in, and delete each that is handled."""

    async def one(message: object, text: str) -> None:
        await handle(text)
        await queue.delete_message(message)  # type: ignore[arg-type] # as it was received

    running: set[asyncio.Task[None]] = set()
    while found or running:
        running |= {asyncio.create_task(one(*item)) for item in found}
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        found = await _receive(queue) if len(running) <= MAX_MESSAGES // 2 else []


async def _receive(queue: QueueClient) -> list[tuple[object, str]]:
    pages = queue.receive_messages(messages_per_page=MAX_MESSAGES // 2, visibility_timeout=600).by_page()
    page = await anext(pages, None)
    return [(message, str(message.content)) async for message in page] if page else []


def _time_requests(parts: Services, measure: Measure) -> None:
    """Measure the duration of each keepAlive."""
    graph = parts.graph

    async def timed(call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        with measure.request():
            await type(graph).keep_alive(graph, call_id, tenant_id, app_id)

    graph.keep_alive = timed  # type: ignore[method-assign] # wraps the method with a stop-watch


def _counts(stats: SweepCounts) -> dict[str, float]:
    return {
        "failing": stats.failing,
        "failed": stats.failed,
        "skipped": stats.skipped,
        "handed_over": stats.handed_over,
    }


async def _close(parts: Services) -> None:
    await parts.http.close()
    await parts.store.close()


if __name__ == "__main__":
    asyncio.run(drain() if sys.argv[1:] == ["drain"] else sweep(sampled=sys.argv[1:] == ["sample"]))
