"""Processes with the keeper in them, in virtual time: one memory store, one queue and one Graph for all of them."""

from collections.abc import AsyncGenerator, Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.calls import Call
from shared.domain.leases import Lease, Progress, RenewalFailure, Timing, WatchdogState, Watermark
from shared.errors import GraphUnavailable, StoreUnavailable
from shared.keeping.counts import SweepCounts
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Renewer
from shared.keeping.staleness import StalenessCheck
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Committed
from shared.storage.memory_table import MemoryTable
from shared.storage.store import SHARDS, CallStore, Change, Stored, shard_of
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard
from tests.support.stores import some_ids
from tests.support.virtual import Fault, VirtualClock, VirtualGraph, VirtualQueue, refuse

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
TICK = 15 * MINUTE  # the timer's schedule
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
OTHER = "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d"


@dataclass(frozen=True)
class Process:
    """The parts of one process, composed as `shared/services.py` does."""

    renewer: Renewer
    keeper: Keeper
    staleness_check: StalenessCheck


class World:
    """A deployment: its storage, its queue, Graph, and one process to begin with."""

    def __init__(self, config: SweepConfig | None = None, store: CallStore | None = None) -> None:
        self.config = config or SweepConfig()
        self.clock = VirtualClock()
        self.store = store or CallStore(MemoryTable())
        self.queue, self.graph = VirtualQueue(self.clock), VirtualGraph(self.clock)
        self.process = self.start_process()

    @property
    def keeper(self) -> Keeper:
        return self.process.keeper

    def start_process(self, config: SweepConfig | None = None, clock: VirtualClock | None = None) -> Process:
        """Compose another process beside those that run, by its own clock if one is given."""
        config, clock, store = config or self.config, clock or self.clock, self.store
        queue = BestEffortQueue(self.queue, clock, config.timing)
        renewer = Renewer(store, self.graph, queue, clock, config.timing, concurrency=config.concurrency)
        keeper = Keeper(store, renewer, queue, clock, config)
        return Process(renewer, keeper, StalenessCheck(store, keeper, queue, clock, config))

    async def add_call(
        self, call_id: str = "call", *, tenant: str = TENANT, app: str | None = None, age: timedelta = 10 * MINUTE
    ) -> None:
        """A call that began `age` ago, and was registered then."""
        began = self.clock.now() - age
        self.graph.start(call_id, age=age)
        call = Call(call_id, tenant, "established", began, began, registered_at=began, app_id=app)
        await self.store.commit(Change(None, call))

    async def add_calls(
        self, number: int, *, prefix: str = "call", tenant: str = TENANT, age: timedelta = 10 * MINUTE
    ) -> list[str]:
        """Calls of all shards; their ids."""
        return await self._add([f"{prefix}-{each}" for each in range(number)], tenant, age)

    async def calls_in_shard(
        self, shard: int, number: int, *, tenant: str = TENANT, age: timedelta = 10 * MINUTE
    ) -> list[str]:
        """Calls of one shard; their ids, in order."""
        return await self._add(some_ids(shard, number), tenant, age)

    async def _add(self, ids: Iterable[str], tenant: str, age: timedelta) -> list[str]:
        added = list(ids)
        for call_id in added:
            await self.add_call(call_id, tenant=tenant, age=age)
        return added

    async def read(self, call_id: str = "call") -> Call:
        stored = await self.store.get(call_id)
        assert stored is not None
        return stored.value

    async def failing(self, call_id: str = "call") -> RenewalFailure:
        """The failure of a call that is failing."""
        failing = (await self.read(call_id)).failing
        assert failing is not None
        return failing

    async def watermark(self, call_id: str = "call") -> Watermark:
        """The watermark of the call's shard."""
        watermark = await self.store.get_watermark(shard_of(call_id))
        assert watermark is not None
        return watermark

    async def run[T](self, work: Awaitable[T]) -> T:
        """Let time pass until the work is done."""
        return await self.clock.run(work)

    async def sweep(self, wake_up: str = "operator") -> SweepCounts:
        """Sweep all shards from the start, however fresh they are."""
        return await self.run(self.keeper.sweep(wake_up))

    async def tick(self) -> SweepCounts:
        """Sweep as the timer does."""
        return await self.run(self.keeper.sweep("timer", unless_younger_than=Timing().sweep_fresh_for))

    async def advance(self, step: timedelta) -> None:
        await self.clock.advance(step)

    async def drain(self, by: datetime | None = None) -> None:
        """Handle the messages that are visible now, or were by then."""
        while message := self.queue.due(by):
            await self.run(self.keeper.handle(message))

    async def live(self, minutes: int, *, timer: bool) -> None:
        """Minute by minute, handle the messages; each quarter of an hour the timer ticks, unless it is dead."""
        for minute in range(minutes):
            if timer and minute % 15 == 0:
                await self.tick()
            await self.drain(self.clock.now())  # handling one may take minutes, and the next be due by then
            await self.advance(MINUTE)

    def keep_alives(self, *ids: str) -> list[int]:
        """Return the number of keepAlives of each of these calls, or of all calls if none is named."""
        return [len(self.graph.calls[call_id].keep_alives) for call_id in ids or self.graph.calls]

    def retries(self) -> list[Renew]:
        """The messages on the queue that renew one call."""
        return [message for _, message in self.queue.waiting() if isinstance(message, Renew)]

    def shard_messages(self) -> list[SweepShard]:
        return [message for _, message in self.queue.waiting() if isinstance(message, SweepShard)]

    def sweep_messages(self) -> list[Sweep]:
        """The messages on the queue that sweep all shards: the watchdog's, and those of requests."""
        return [message for _, message in self.queue.waiting() if isinstance(message, Sweep)]

    def slow(self, seconds: float) -> Fault:
        """A fault of Graph: it answers after so many seconds."""

        async def fault(_operation: str, _call_id: str) -> None:
            await self.clock.sleep(seconds)

        return fault

    def time_out(self, seconds: float) -> Fault:
        """A fault of Graph: no answer comes."""

        async def fault(_operation: str, _call_id: str) -> None:
            await self.clock.sleep(seconds)
            raise GraphUnavailable("time-out (test)")

        return fault


def unavailable(times: int | None = None) -> Fault:
    """A fault of Graph: 503."""
    return refuse(GraphUnavailable("503 (test)", status=503), times)


class BrokenStore(CallStore):
    """A store that fails as a test says."""

    def __init__(self) -> None:
        super().__init__(MemoryTable())
        self.refuses_commits = False
        self.unreadable_shards: set[int] = set()

    def break_all(self) -> None:
        """No shard can be read."""
        self.unreadable_shards = set(range(SHARDS))

    def repair(self) -> None:
        self.refuses_commits = False
        self.unreadable_shards = set()

    async def commit(self, change: Change) -> Committed:
        if self.refuses_commits:
            raise StoreUnavailable("Table Storage does not answer (test).")
        return await super().commit(change)

    async def get_watermark(self, shard: int) -> Watermark | None:
        if shard in self.unreadable_shards:
            raise StoreUnavailable("Table Storage does not answer (test).")
        return await super().get_watermark(shard)

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        if shard in self.unreadable_shards:
            raise StoreUnavailable("Table Storage does not answer (test).")
        async for record in super().scan(shard):
            yield record


class ReadOnlyStore(CallStore):
    """A store that reads, and refuses every write: the role is a reader's, or the account fails over."""

    read_only = False

    async def commit(self, change: Change) -> Committed:
        self._refuse()
        return await super().commit(change)

    async def put_watermark(self, shard: int, watermark: Watermark, etag: str | None = None) -> None:
        self._refuse()
        await super().put_watermark(shard, watermark, etag)

    async def put_watchdog_state(self, state: WatchdogState) -> None:
        self._refuse()
        await super().put_watchdog_state(state)

    def _refuse(self) -> None:
        if self.read_only:
            raise StoreUnavailable("The store may not be written (test).")
