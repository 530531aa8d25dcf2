"""The keeper: sweeps all shards, so that no lease lapses, and handles the messages that ask for it."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import Watermark
from shared.errors import StoreUnavailable, safe_message
from shared.keeping.counts import SweepCounts
from shared.keeping.purge import Purger
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Outcome, Renewer
from shared.keeping.shard_sweep import ShardSweeper
from shared.keeping.watchdog import Watchdog
from shared.keeping.watermarks import read_watermark, read_watermarks, time_until_stale
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import SHARDS, CallStore
from shared.storage.wakeup_queue import Renew, Sweep, SweepShard, WakeUp

if TYPE_CHECKING:
    from shared.relay.care import OutboxCare

RESWEEP_COOLDOWN = timedelta(minutes=5)  # within which a shard that failed gets one message
_NEVER = datetime(2000, 1, 1, tzinfo=UTC)


class Keeper:
    """Sweeps all shards.

    Any number of sweeps may run concurrently, and any may die anywhere: at worst a call is renewed twice.
    """

    def __init__(  # noqa: PLR0913 (the parts of a process)
        self,
        store: CallStore,
        renewer: Renewer,
        queue: BestEffortQueue,
        clock: Clock,
        config: SweepConfig,
        *,
        outbox_care: "OutboxCare | None" = None,
    ) -> None:
        self._store = store
        self._renewer = renewer
        self._queue = queue
        self._clock = clock
        self._config = config
        self.watchdog = Watchdog(store, queue, clock, config)
        self._sweeper = ShardSweeper(store, renewer, queue, clock, config)
        self._outbox_care = outbox_care
        self._purger = Purger(store, clock, config.retention)
        self._swept_at: dict[int, datetime] = {}  # by shard: start of this process's last sweep that did all of it
        self._requeued_at: dict[int, datetime] = {}  # by shard: when this process last sent a message to sweep it again

    async def sweep(
        self,
        wake_up: str,
        *,
        unless_younger_than: timedelta | None = None,
        budget: timedelta | None = None,
        without_queue: bool = False,
    ) -> SweepCounts:
        """Arm the watchdog, sweep all shards, purge ended calls, report, and look at the outbox of the relay.

        Parameters
        ----------
        wake_up
            The start of the sweep: timer, watchdog, request or operator.
        unless_younger_than
            Leave a shard alone if its last sweep began less than this ago. None: sweep in any case, from the start.
        budget
            The time that the sweep may take, if that is less than the configured one.
        without_queue
            Sweep all shards in this process, however many calls there are. An operator's sweep always does.

        Raises
        ------
        StoreUnavailable
            No shard could be swept.
        """
        began = self._clock.now()
        deadline = began + min(budget or self._config.budget, self._config.budget)
        shards = self._shard_order(began)
        is_operator = wake_up == "operator"
        is_armed = await self._arm_watchdog(began, unless_armed=is_operator)
        queued = set[int]() if without_queue or is_operator else await self._fan_out(shards)
        in_process = [shard for shard in shards if shard not in queued]
        counts = await self._sweep_shards(in_process, began, deadline, unless_younger_than)
        if not is_armed:
            await self._arm_watchdog(began)
        purged = await self._purger.purge(range(SHARDS), deadline)
        total = counts + SweepCounts(handed_over=len(queued), purged=purged)
        self._report(wake_up, total, began)
        if self._outbox_care and self._clock.now() < deadline:
            await self._outbox_care.run(deletes_old=True, until=deadline)
        if total.failed == SHARDS:
            raise StoreUnavailable("No shard could be swept; each failure is in the log.")
        return total

    async def handle(self, message: WakeUp) -> None:
        """Do what a queue message asks for.

        While the store is away the message is put back with a delay. Otherwise the host would poison it after five
        failures, and an outage of a few minutes would end the retries and the watchdog's chain.

        Raises
        ------
        StoreUnavailable
            The message could not be put back either, so the host delivers it again.
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
                await self._sweep_queued_shard(message.shard)
            case Sweep():
                last = await self._store.get_watchdog_state()
                if last is None or not self.watchdog.is_superfluous(message, last):
                    await self._sweep_if_stale(message, last.sweep_began_at if last else None)

    async def _sweep_queued_shard(self, shard: int) -> None:
        began = self._clock.now()
        deadline = began + self._config.budget
        self._requeued_at.pop(shard, None)
        counts = await self._sweeper.sweep(shard, deadline, self._config.timing.sweep_fresh_for)
        purged = await self._purger.purge([shard], deadline)
        self._report("queue", counts + SweepCounts(purged=purged), began, shards=1)

    async def _sweep_if_stale(self, message: Sweep, last_began: datetime | None) -> None:
        """Sweep all shards if one is stale; otherwise arm the watchdog for the time when one will be.

        One is enough: a shard that is nearly stale would otherwise wait for the next message.
        """
        marks = await read_watermarks(self._store)
        stale_in = min(map(self._time_until_stale, marks))
        if stale_in <= timedelta():
            with suppress(StoreUnavailable):  # the shards that failed have messages of their own: nothing to put back
                await self.sweep(message.wake_up, unless_younger_than=self._config.timing.sweep_fresh_for)
        elif message.due:
            # Shards that were swept one by one armed no watchdog, and the timer may be dead. The clock of the process
            # that armed it may have been ahead: then the message is early, and its successor must not wait as long.
            await self.watchdog.arm(max(stale_in, self._config.timing.minute), last_began)
        if message.due and not self.watchdog.has_successor:
            raise StoreUnavailable("The next watchdog message could not be sent.")  # so this message is put back

    async def _sweep_shards(
        self, shards: list[int], began: datetime, deadline: datetime, unless_younger_than: timedelta | None
    ) -> SweepCounts:
        total = SweepCounts()

        async def sweep_one(shard: int) -> None:
            nonlocal total
            counts = await self._sweep_shard(shard, deadline, unless_younger_than)
            total += counts
            if not counts.failed and not counts.handed_over:
                self._swept_at[shard] = began

        async with asyncio.TaskGroup() as group:
            for shard in shards:
                group.create_task(sweep_one(shard))
        return total

    async def _sweep_shard(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> SweepCounts:
        try:
            return await self._sweeper.sweep(shard, deadline, unless_younger_than)
        except Exception as error:  # noqa: BLE001 (a bug that one shard sets off must not stop the others)
            telemetry.SHARD_FAILED(shard=shard, error=safe_message(error))
            await self._requeue_shard(shard)
            return SweepCounts(failed=1)

    async def _requeue_shard(self, shard: int) -> None:
        """Send a message for a minute later, unless one was sent in the last 5 minutes.

        A message that fails sends the next one, so without this limit their number would grow without end.
        """
        now, requeued_at = self._clock.now(), self._requeued_at.get(shard)
        if requeued_at and now - requeued_at < self._config.timing.scaled(RESWEEP_COOLDOWN):
            return
        if await self._queue.send(SweepShard(shard=shard), self._config.timing.minute):
            self._requeued_at[shard] = now

    async def _arm_watchdog(self, began: datetime, *, unless_armed: bool = False) -> bool:
        """Arm the watchdog for the time when this sweep's watermarks are stale. True if it is armed now.

        `unless_armed`: send nothing if a message of any process is on the queue.
        """
        if unless_armed:
            is_armed = await self.watchdog.is_armed(began)
            if is_armed:
                return True
        return await self.watchdog.arm(self._config.timing.sweep_stale_after, began)

    def _time_until_stale(self, watermark: Watermark | None) -> timedelta:
        return time_until_stale(watermark, self._clock.now(), self._config.timing)

    def _shard_order(self, now: datetime) -> list[int]:
        """Return the shards in the order in which they were last done; equal ones begin with another each time.

        Otherwise, if sweeps run out of time while the queue is away, the same shards would always come last.
        """
        first = int(now.timestamp()) // 60 * 7 % SHARDS  # for a tick each quarter of an hour: 0, 9, 2, 11, …
        return sorted([*range(first, SHARDS), *range(first)], key=lambda shard: self._swept_at.get(shard, _NEVER))

    async def _fan_out(self, shards: list[int]) -> set[int]:
        """Send a message for each shard if there are more calls than one process should sweep; return those shards.

        Stale shards are not among them: their last message was not handled, so the queue may be stalled.
        """
        if not await self._is_over_fan_out_threshold(shards[0]):
            return set()
        marks = await read_watermarks(self._store)
        current = [shard for shard in shards if self._time_until_stale(marks[shard]) > timedelta()]
        return {shard for shard in current if await self._queue.send(SweepShard(shard=shard))}

    async def _is_over_fan_out_threshold(self, shard: int) -> bool:
        """Estimate by one shard: a hash of their ids spreads the calls evenly."""
        mark = await read_watermark(self._store, shard)
        return mark is not None and SHARDS * (mark.renewed + mark.failing) > self._config.fan_out_threshold

    def _report(self, wake_up: str, counts: SweepCounts, began: datetime, shards: int = SHARDS) -> None:
        margin = None if counts.margin is None else round(counts.margin / timedelta(minutes=1), 1)
        telemetry.SWEEP_FINISHED(
            wakeUp=wake_up,
            shards=shards,
            swept=shards - counts.skipped - counts.failed - counts.handed_over,
            skipped=counts.skipped,
            failed=counts.failed,
            handedOver=counts.handed_over,
            renewed=counts.renewed,
            ended=counts.ended,
            failing=counts.failing,
            purged=counts.purged,
            smallestMarginMinutes=margin,
        )
        outcomes = {Outcome.RENEWED: counts.renewed, Outcome.ENDED: counts.ended, Outcome.FAILING: counts.failing}
        for outcome, number in outcomes.items():
            telemetry.RENEWALS.add(number, outcome=outcome.value, wakeUp=wake_up)
        telemetry.DURATION.add((self._clock.now() - began).total_seconds(), wakeUp=wake_up)
        if margin is not None:
            telemetry.MARGIN.add(margin, wakeUp=wake_up)
