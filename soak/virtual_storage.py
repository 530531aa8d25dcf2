"""Storage as one process reaches it: slow, flaky or away at times. Behind it is one memory store for all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isasyncgenfunction
from random import Random
from typing import Any

from shared.errors import StoreUnavailable
from shared.storage.memory_store import MemoryCallStore
from shared.storage.store import Change
from soak.fault_schedule import FaultSchedule
from soak.intervals import Interval
from soak.process import Environment, Process

PATIENCE = 10.0  # seconds: the clients give up after that


class JudgedStore(MemoryCallStore):
    """Tells of each write, at once."""

    def __init__(self, on_commit: Callable[[Change], None], on_watermark: Callable[[int], None]) -> None:
        super().__init__()
        self._on_commit = on_commit
        self._on_watermark = on_watermark

    async def commit(self, change: Change) -> None:
        """See `MemoryCallStore.commit`. A change that tells nothing new writes nothing, however old what it read."""
        before = await self.get(change.after.id)
        await super().commit(change)
        if await self.get(change.after.id) != before:
            self._on_commit(change)

    async def put_watermark(self, shard: int, *rest: Any) -> None:  # noqa: ANN401 whatever the protocol has
        """See `MemoryCallStore.put_watermark`."""
        await super().put_watermark(shard, *rest)
        self._on_watermark(shard)


def at_once[T](work: Awaitable[T]) -> T:
    """Run what waits for nothing, as no method of the memory store does."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the memory store waited")


class StoreOf:
    """The store as one process reaches it. Has every method of the store, whatever they are."""

    def __init__(self, store: MemoryCallStore, process: Process, environment: Environment) -> None:
        self._store = store
        self._process = process
        self._schedule = environment.schedule
        self._random = environment.random

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        if isasyncgenfunction(method):
            wrapped: Callable[..., Any] = lambda *args: self._scan(method(*args))  # noqa: E731 the other one is its like
        else:
            wrapped = lambda *args, **named: self._ask(lambda: at_once(method(*args, **named)))  # noqa: E731 as above
        setattr(self, name, wrapped)
        return wrapped

    async def _scan[T](self, rows: AsyncIterator[T]) -> AsyncIterator[T]:
        """Rows as they stand when their turn comes: a scan is no snapshot."""
        await self._ask(lambda: None)
        while True:
            try:
                row = at_once(anext(rows))
            except StopAsyncIteration:
                return
            yield row
            if self._random.random() < 0.02:
                await self._ask(lambda: None)

    async def _ask[T](self, effect: Callable[[], T]) -> T:
        return await through(
            self._process, trouble(self._schedule, "tables", self._process.now()), self._random, effect
        )


def trouble(schedule: FaultSchedule, part: str, now: float) -> Interval | None:
    """What is wrong with the tables or the queues at the moment."""
    span = schedule.storage.at(now)
    return span if span and span.target in {part, "both"} else None


async def through[T](process: Process, span: Interval | None, random: Random, effect: Callable[[], T]) -> T:
    """Ask storage, and meet what is wrong with it.

    Raises
    ------
    StoreUnavailable
        It was away, or its answer was lost after it had done what it was asked.
    """
    if span is None:
        return await process.request(0.003 + random.expovariate(1 / 0.012), effect)
    chance = random.random()
    if span.mode == "away" or (span.mode == "flaky" and chance < 0.25):
        await process.request(random.uniform(0.05, PATIENCE), lambda: None)
        raise StoreUnavailable("away")
    result = await process.request(random.uniform(1, PATIENCE) if span.mode == "slow" else 0.02, effect)
    if chance < 0.5 and (span.mode == "flaky" or chance < 0.1):
        await asyncio.sleep(0.1)
        raise StoreUnavailable("the answer was lost")
    return result
