"""Contestant (c): our whole sweep, composed as in Azure: read from storage, renew, write what must be written.

`python -m bench.sweep` is the timer's, `python -m bench.sweep drain` a queue instance's, `python -m bench.sweep sample`
the timer's with a look at where the next sweep's CPU time goes. Settings from the environment. Two sweeps, a quarter of
an hour apart by the app's clock: a process of Azure's sweeps again and again.
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
from bench.rounds import in_rounds
from bench.sampler import Sampler
from bench.transactions import Transactions
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.keeping.counts import SweepCounts
from shared.services import Services, replace_services, services
from shared.storage.wakeup_queue import QUEUE_NAME, Sweep, parse_wake_up

PERIOD = timedelta(minutes=15)  # of KEEP_ALIVE_SCHEDULE
AT_ONCE = 4  # messages that an instance works on
PATIENCE = 60.0  # seconds that it waits for its first
_PAUSE = 0.05

type Told = dict[str, object]


class SetForward(SystemClock):
    """The machine's clock, set forward so that it is time for the next sweep."""

    def __init__(self) -> None:
        self.by = timedelta()

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return super().now() + self.by


async def sweep(*, sampled: bool = False) -> None:
    """Do what the timer does; then, what the dead man's switch does that it leaves. Tell the figures of the first."""
    clock, parts = _composed()

    async def work(number: int) -> Told:
        clock.by = (number - 1) * PERIOD
        counted.counts.clear()
        sampler = Sampler()
        looking: AbstractContextManager[object] = sampler if sampled and number > 1 else nullcontext()
        measure = Measure()
        _time_requests(parts, measure)
        with looking:
            tally = await parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)
        figures = measure.figures(tally.renewed, **_of(tally))
        swept = counted.counts.copy()
        await parts.keeper.handle(Sweep(wake_up="watchdog", due=datetime(2000, 1, 1, tzinfo=UTC)))
        switch = counted.counts - swept
        return {**figures, "transactions": swept, "switch_transactions": switch, "samples": sampler.samples}

    with Transactions() as counted:
        await in_rounds(work)
    await _close(parts)


async def drain() -> None:
    """Work as a queue instance does, until the queue is empty; tell the figures from the first message on."""
    clock, parts = _composed()
    storage = parts.settings.calls_storage
    queue = QueueClient.from_connection_string(
        storage.get_secret_value() if storage else "", QUEUE_NAME, message_decode_policy=TextBase64DecodePolicy()
    )

    async def work(number: int) -> Told:
        clock.by = (number - 1) * PERIOD
        counted.counts.clear()
        first = await _first(queue)
        measure = Measure()
        _time_requests(parts, measure)
        await _work(queue, first, lambda text: parts.keeper.handle(parse_wake_up(text)))
        return {**measure.figures(), "transactions": counted.counts.copy()}

    with Transactions() as counted:
        async with queue:
            await in_rounds(work)
    await _close(parts)


def _composed() -> tuple[SetForward, Services]:
    clock = SetForward()
    replace_services(Services(load_settings(), clock))
    return clock, services()


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


def _time_requests(parts: Services, measure: Measure) -> None:
    """Take the time of each keepAlive."""
    graph = parts.graph

    async def timed(call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        with measure.request():
            await type(graph).keep_alive(graph, call_id, tenant_id, app_id)

    graph.keep_alive = timed  # type: ignore[method-assign] # a stop-watch, around the very method


def _of(tally: SweepCounts) -> dict[str, float]:
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
    asyncio.run(drain() if sys.argv[1:] == ["drain"] else sweep(sampled=sys.argv[1:] == ["sample"]))
