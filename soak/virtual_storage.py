"""Storage as one process reaches it: slow, flaky or away at times. Behind it is one table in memory for all processes.

The product's own `CallStore` works over it, so each of its requests meets the faults.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from shared.domain.calls import Call, Event, Status
from shared.domain.leases import Watermark
from shared.errors import StoreUnavailable
from shared.storage.memory_table import MemoryTable
from shared.storage.row_codec import to_call, to_event, to_watermark
from shared.storage.rows import WATERMARK_ROW
from shared.storage.table import MAX_PAGE_ROWS, Create, Delete, KeyRange, Put, Replace, Row, TableRow, Write
from soak.fault_schedule import FaultSchedule
from soak.intervals import Interval
from soak.process import Environment, Process

STORAGE_TIMEOUT = 10.0  # seconds: the clients give up after that
_PAGE_ENDS = 0.02  # odds that a page of a scan ends after a row


@dataclass(frozen=True, slots=True)
class CallWrite:
    """A transaction's write of a call: the call, its status before (None: it had no row), and its new events."""

    call: Call
    before: Status | None
    events: tuple[Event, ...]


class CheckedTable(MemoryTable):
    """Reports each write of a call or of a watermark at the moment at which it takes effect, as the rows say."""

    def __init__(self, on_call: Callable[[CallWrite], None], on_watermark: Callable[[int, Watermark], None]) -> None:
        super().__init__()
        self.on_write: Callable[[Sequence[Write]], None] = lambda _writes: None  # of any transaction
        self._on_call = on_call
        self._on_watermark = on_watermark

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        """Write all rows in one transaction, or none, and report them. Raises `StoreConflict`."""
        etags = await super().write(shard, writes)
        self.on_write(writes)
        if (written := _call_write(writes)) is not None:
            self._on_call(written)
        for write in writes:
            if write.key == WATERMARK_ROW and not isinstance(write, Delete):
                self._on_watermark(shard, to_watermark(write.cells))
        return etags


class ProcessTable:
    """The table as one process reaches it: each request may fail, be late, or lose its answer."""

    def __init__(self, table: MemoryTable, process: Process, environment: Environment) -> None:
        self._table = table
        self._process = process
        self._schedule = environment.schedule
        self._random = environment.random

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def read(self, shard: int, key: str) -> TableRow | None:
        """Return one row, or None if it does not exist."""
        return await self._ask(lambda: at_once(self._table.read(shard, key)))

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        """Yield the rows of a range, one request for each page. Pages are short, since a scan is no snapshot."""
        while True:
            rows = min(size, 1 + int(self._random.expovariate(-math.log(1 - _PAGE_ENDS))))
            read_page = partial(self._table.page, shard, key_range, size=rows, matching=matching, select=select)
            page = await self._ask(read_page)
            yield page
            if len(page) < rows:
                return
            key_range = KeyRange(page[-1].key, key_range.below)

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        """Write all rows in one transaction, or none, and return their ETags. Raises `StoreConflict`."""
        return await self._ask(lambda: at_once(self._table.write(shard, writes)))

    async def _ask[T](self, effect: Callable[[], T]) -> T:
        return await through(
            self._process, trouble(self._schedule, "tables", self._process.now()), self._random, effect
        )


def at_once[T](work: Awaitable[T]) -> T:
    """Run what awaits nothing, as no method of the memory table does."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the memory table waited")


def _call_write(writes: Sequence[Write]) -> CallWrite | None:
    """Return what a transaction wrote of a call; None if it wrote none, as a purge does."""
    before, call = None, None
    events: list[Event] = []
    for write in writes:
        kind = write.key.partition("|")[0]
        if kind in {"active", "ended"}:
            if isinstance(write, Replace | Delete):
                before = Status(kind)
            if not isinstance(write, Delete):
                call = to_call(_row(write))
        elif kind == "event" and isinstance(write, Create):
            events.append(to_event(_row(write)))
    return CallWrite(call, before, tuple(events)) if call else None


def _row(write: Create | Replace | Put) -> Row:
    return {**write.cells, "RowKey": write.key}


def trouble(schedule: FaultSchedule, part: str, now: float) -> Interval | None:
    """Return the current fault of the tables or the queues, or None."""
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
        await process.request(random.uniform(0.05, STORAGE_TIMEOUT), lambda: None)
        raise StoreUnavailable("away")
    result = await process.request(random.uniform(1, STORAGE_TIMEOUT) if span.mode == "slow" else 0.02, effect)
    if chance < 0.5 and (span.mode == "flaky" or chance < 0.1):
        await asyncio.sleep(0.1)
        raise StoreUnavailable("the answer was lost")
    return result
