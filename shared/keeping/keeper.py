"""The heart: sweeps the shards, so that no lease lapses, and watches that sweeps happen at all."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import Watermark
from shared.errors import StoreUnavailable, safe_message
from shared.keeping.purge import Purger
from shared.keeping.renewal_pass import SweepConfig, SweepStats
from shared.keeping.renewer import Outcome, Renewer
from shared.keeping.shard_sweep import ShardSweeper
from shared.keeping.watchdog import Watchdog
from shared.keeping.watermarks import read_watermark, read_watermarks, time_until_stale
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import SHARDS, CallStore
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard, WakeUp

RESWEEP_COOLDOWN = timedelta(minutes=5)  # in which a shard that failed is left one message
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


class Keeper:
    """Sweeps. Any number of sweeps may run at once, and any may die anywhere: the worst is a call renewed twice."""

    def __init__(
        self, store: CallStore, renewer: Renewer, queue: BestEffortQueue, clock: Clock, config: SweepConfig
    ) -> None:
        self._store = store
        self._queue = queue
        self._renewer = renewer
        self._clock = clock
        self._config = config
        self.watchdog = Watchdog(store, queue, clock, config)
        self._purger = Purger(store, clock, config.retention)
        self._sweeper = ShardSweeper(store, renewer, queue, clock, config)
        self._swept_at: dict[int, datetime] = {}  # when the last sweep of this process began that did the whole shard
        self._requeued_at: dict[int, datetime] = {}  # when this process last left a message to sweep a shard again

    async def sweep(
        self,
        wake_up: str,
        *,
        unless_younger_than: timedelta | None = None,
        budget: timedelta | None = None,
        without_queue: bool = False,
    ) -> SweepStats:
        """Leave the dead man's switch; sweep all shards; tell what was done.

        Parameters
        ----------
        wake_up
            What began it: timer, watchdog, request or operator.
        unless_younger_than
            A shard whose last sweep began less than this ago is left alone. None: sweep in any case, from the start.
        budget
            How long it may take, if that is less than the plan's.
        without_queue
            Leave no shard to the queue, however many calls there are. An operator's sweep never does.

        Raises
        ------
        StoreUnavailable
            No shard could be swept.
        """
        began = self._clock.now()
        deadline = began + min(budget or self._config.budget, self._config.budget)
        shards = self._shard_order(began)
        is_operator = wake_up == "operator"
        watchdog_armed = is_operator and await self.watchdog.is_armed(began)
        watchdog_armed = watchdog_armed or await self.watchdog.arm(self._config.timing.sweep_stale_after, began)
        queued = set[int]() if without_queue or is_operator else await self._fan_out(shards)
        total = SweepStats(handed_over=len(queued))

        async def sweep_one(shard: int) -> None:
            stats = await self._sweep_shard(shard, deadline, unless_younger_than)
            total.add(stats)
            if not stats.failed and not stats.handed_over:
                self._swept_at[shard] = began

        async with asyncio.TaskGroup() as group:
            for shard in shards:
                if shard not in queued:
                    group.create_task(sweep_one(shard))
        if not watchdog_armed:
            await self.watchdog.arm(self._config.timing.sweep_stale_after, began)
        total.purged = await self._purger.purge(range(SHARDS), deadline)
        self._report(wake_up, total, began)
        if total.failed == SHARDS:
            raise StoreUnavailable("No shard could be swept; each failure is in the log.")
        return total

    async def handle(self, message: WakeUp) -> None:
        """Do what a queue message asks for.

        While the store is away the message is put back with a delay: after five failures the host would poison it, and
        a few minutes' outage would silence the retries and the dead man's switch.

        Raises
        ------
        StoreUnavailable
            It could not be put back either: the host shows it again.
        """
        try:
            await self._dispatch(message)
        except StoreUnavailable:
            await self._queue.put_back(message)

    async def _dispatch(self, message: WakeUp) -> None:
        match message:
            case Renew():
                await self._renewer.retry(message)
            case SweepShard():
                began = self._clock.now()
                deadline = began + self._config.budget
                self._requeued_at.pop(message.shard, None)
                stats = await self._sweeper.sweep(message.shard, deadline, self._config.timing.sweep_fresh_for)
                stats.purged = await self._purger.purge([message.shard], deadline)
                self._report("queue", stats, began, shards=1)
            case Sweep():
                last = await self._store.get_watchdog_state()
                if last is None or not self.watchdog.is_superfluous(message, last):
                    await self._sweep_if_stale(message, last.sweep_began_at if last else None)

    async def _sweep_if_stale(self, message: Sweep, last_began: datetime | None) -> None:
        """One stale shard is enough to sweep all: a shard that is nearly stale would wait for the next switch."""
        marks = await read_watermarks(self._store)
        stale_in = min(map(self._time_until_stale, marks))
        if stale_in <= timedelta():
            with suppress(StoreUnavailable):  # what failed has left messages of its own: nothing to put back
                await self.sweep(message.wake_up, unless_younger_than=self._config.timing.sweep_fresh_for)
        elif message.due:  # shards that were swept one by one left none, and the timer may be dead
            await self.watchdog.arm(max(stale_in, self._config.timing.minute), last_began)
        if message.due and not self.watchdog.has_successor:  # this one must stay, as it has no successor
            raise StoreUnavailable("The next dead man's switch could not be left.")

    async def _sweep_shard(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> SweepStats:
        try:
            return await self._sweeper.sweep(shard, deadline, unless_younger_than)
        except Exception as error:  # noqa: BLE001 (one shard's trouble, a bug's too, never holds up the others)
            telemetry.SHARD_FAILED(shard=shard, error=safe_message(error))
            await self._requeue_shard(shard)
            return SweepStats(failed=1)

    async def _requeue_shard(self, shard: int) -> None:
        """Leave a message for a minute later, unless one is under way: each would bring others, without end."""
        now, requeued_at = self._clock.now(), self._requeued_at.get(shard)
        if requeued_at and now - requeued_at < self._config.timing.scaled(RESWEEP_COOLDOWN):
            return
        if await self._queue.send(SweepShard(shard=shard), self._config.timing.minute):
            self._requeued_at[shard] = now

    def _time_until_stale(self, watermark: Watermark | None) -> timedelta:
        return time_until_stale(watermark, self._clock.now(), self._config.timing)

    def _shard_order(self, now: datetime) -> list[int]:
        """The shards that were not done for longest first, then from another one each time.

        Should sweeps end early and the queue be away, the same shards would always come last.
        """
        first = int(now.timestamp()) // 60 * 7 % SHARDS  # at a tick each quarter of an hour: 0, 9, 2, 11, …
        return sorted([*range(first, SHARDS), *range(first)], key=lambda shard: self._swept_at.get(shard, _NEVER))

    async def _fan_out(self, shards: list[int]) -> set[int]:
        """Leave a message a shard, if there are more calls than one process shall sweep; those shards.

        A stale shard is not among them: the message of the sweep before was not done, so the queue may stand still.
        """
        if not await self._is_over_fan_out_threshold(shards[0]):
            return set()
        marks = await read_watermarks(self._store)
        current = [shard for shard in shards if self._time_until_stale(marks[shard]) > timedelta()]
        return {shard for shard in current if await self._queue.send(SweepShard(shard=shard))}

    async def _is_over_fan_out_threshold(self, shard: int) -> bool:
        """One shard tells for all: ids are hashed."""
        mark = await read_watermark(self._store, shard)
        return mark is not None and SHARDS * (mark.renewed + mark.failing) > self._config.fan_out_threshold

    def _report(self, wake_up: str, stats: SweepStats, began: datetime, shards: int = SHARDS) -> None:
        margin = None if stats.margin is None else round(stats.margin / timedelta(minutes=1), 1)
        telemetry.SWEEP_FINISHED(
            wakeUp=wake_up,
            shards=shards,
            swept=shards - stats.skipped - stats.failed - stats.handed_over,
            skipped=stats.skipped,
            failed=stats.failed,
            handedOver=stats.handed_over,
            renewed=stats.renewed,
            ended=stats.ended,
            failing=stats.failing,
            purged=stats.purged,
            smallestMarginMinutes=margin,
        )
        for outcome in (Outcome.RENEWED, Outcome.ENDED, Outcome.FAILING):
            telemetry.RENEWALS.add(getattr(stats, outcome.value), outcome=outcome.value, wakeUp=wake_up)
        telemetry.DURATION.add((self._clock.now() - began).total_seconds(), wakeUp=wake_up)
        if margin is not None:
            telemetry.MARGIN.add(margin, wakeUp=wake_up)
