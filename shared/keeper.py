"""The heart: sweeps the shards, so that no lease lapses, and watches that sweeps happen at all."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from shared import telemetry
from shared.calls import Lease, Watermark
from shared.clock import Clock
from shared.errors import StoreUnavailable, words
from shared.renewal import Outcome, Renewer
from shared.store import SHARDS, CallStore
from shared.sweep import Pass, Plan, Tally
from shared.wakeups import Renew, Sweep, SweepShard, WakeUp

PURGE_LIMIT = 100  # ended calls that one sweep of a shard deletes at most


class Keeper:
    """Sweeps. Any number of sweeps may run at once, and any may die anywhere: the worst is a call renewed twice."""

    def __init__(self, store: CallStore, renewer: Renewer, clock: Clock, plan: Plan) -> None:
        self._store = store
        self._renewer = renewer
        self._clock = clock
        self._plan = plan
        self._next_look: datetime | None = None
        self._look_at = count()

    async def sweep(self, wake_up: str, *, unless_younger_than: timedelta | None = None) -> Tally:
        """Sweep all shards, one after another; leave the dead man's switch; tell what was done.

        Parameters
        ----------
        wake_up
            What began it: timer, watchdog, request or operator.
        unless_younger_than
            A shard whose last sweep began less than this ago is left alone. None: sweep in any case.
        """
        if wake_up == "timer" and await self._too_many():
            return await self._fan_out(wake_up)
        began = self._clock.now()
        deadline = began + self._plan.budget
        total, failed = Tally(), list[int]()
        for shard in range(SHARDS):
            try:
                total.add(await self._sweep_shard(shard, deadline, unless_younger_than))
            except Exception as error:  # noqa: BLE001 (one shard's trouble, a bug's too, never holds up the others)
                failed.append(shard)
                telemetry.SHARD_FAILED(shard=shard, error=words(error))
                await self._renewer.send(SweepShard(shard=shard), self._plan.timing.minute)
        if total.skipped < SHARDS:
            await self._leave_switch()
        total.failed = len(failed)
        self._tell(wake_up, total, began)
        if len(failed) == SHARDS:
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
            await self._do(message)
        except StoreUnavailable:
            await self._renewer.put_back(message)

    async def _do(self, message: WakeUp) -> None:
        match message:
            case Renew():
                await self._renewer.retry(message)
            case SweepShard():
                began = self._clock.now()
                deadline = began + self._plan.budget
                tally = await self._sweep_shard(message.shard, deadline, self._plan.timing.fresh, message)
                self._tell("queue", tally, began, shards=1)
            case Sweep():
                # One stale shard is enough to sweep all: a shard that is nearly stale would wait for the next switch.
                if await self._any_stale():
                    await self.sweep(message.wake_up, unless_younger_than=self._plan.timing.fresh)

    async def notice(self) -> None:
        """The third wake-up: a request looks, once in a while, whether sweeps still happen, and if not, queues one."""
        now = self._clock.now()
        if self._next_look and now < self._next_look:
            return
        self._next_look = now + self._plan.timing.minute
        try:
            watermark = await self._store.watermark(next(self._look_at) % SHARDS)
        except StoreUnavailable:
            return  # the request itself will meet the store's trouble and tell of it
        if self._is_stale(watermark):
            await self._renewer.send(Sweep(wake_up="request"))

    async def _any_stale(self) -> bool:
        return any(map(self._is_stale, await self._watermarks()))

    def _is_stale(self, watermark: Watermark | None) -> bool:
        stale_before = self._clock.now() - self._plan.timing.stale
        return watermark is None or watermark.sweep_started_at <= stale_before

    async def _watermarks(self) -> list[Watermark | None]:
        return await asyncio.gather(*(self._store.watermark(shard) for shard in range(SHARDS)))

    async def _sweep_shard(
        self, shard: int, deadline: datetime, unless_younger_than: timedelta | None, resumed: SweepShard | None = None
    ) -> Tally:
        started = resumed.started_at if resumed and resumed.started_at else self._clock.now()
        watermark = await self._store.watermark(shard)
        if watermark and unless_younger_than and started - watermark.sweep_started_at < unless_younger_than:
            return Tally(skipped=1)
        leases = [lease async for lease in self._store.active(shard)]
        order = sorted(leases, key=lambda lease: self._place(lease, watermark))
        if resumed and resumed.after:
            order = [lease for lease in order if self._place(lease, watermark) > resumed.after]
        run = Pass(self._renewer, self._clock, self._plan, watermark, deadline)
        for lease in order[:1]:
            run.tally.see(lease.expires_at(watermark, self._plan.timing) - self._clock.now())
        left = await run.renew_all(order)
        done = _plus(run.tally, resumed)
        if left:
            taken = order[: len(order) - left]
            before = resumed.after if resumed else None
            await self._hand_over(shard, started, done, self._place(taken[-1], watermark) if taken else before)
            run.tally.handed_over = 1
            return run.tally
        mark = Watermark(started, self._clock.now(), done.renewed, done.ended, done.failing)
        await self._store.put_watermark(shard, mark)
        telemetry.ACTIVE.add(done.renewed + done.failing, shard=shard)
        run.tally.purged = await self._store.purge(shard, self._clock.now() - self._plan.retention, PURGE_LIMIT)
        return run.tally

    def _place(self, lease: Lease, watermark: Watermark | None) -> tuple[datetime, str]:
        """The order of a sweep: earliest deadline first. It does not change until the watermark does."""
        return lease.expires_at(watermark, self._plan.timing), lease.call_id

    async def _hand_over(self, shard: int, started: datetime, done: Tally, after: tuple[datetime, str] | None) -> None:
        message = SweepShard(
            shard=shard,
            started_at=started,
            after=after,
            renewed=done.renewed,
            ended=done.ended,
            failing=done.failing,
        )
        await self._renewer.send(message)

    async def _too_many(self) -> bool:
        marks = await self._watermarks()
        return sum(mark.renewed + mark.failing for mark in marks if mark) > self._plan.fan_out_above

    async def _fan_out(self, wake_up: str) -> Tally:
        began = self._clock.now()
        for shard in range(SHARDS):
            await self._renewer.send(SweepShard(shard=shard))
        await self._leave_switch()
        total = Tally(handed_over=SHARDS)
        self._tell(wake_up, total, began)
        return total

    async def _leave_switch(self) -> None:
        await self._renewer.send(Sweep(wake_up="watchdog"), self._plan.timing.stale)

    def _tell(self, wake_up: str, tally: Tally, began: datetime, shards: int = SHARDS) -> None:
        margin = None if tally.margin is None else round(tally.margin / timedelta(minutes=1), 1)
        telemetry.SWEEP_FINISHED(
            wakeUp=wake_up,
            shards=shards,
            swept=shards - tally.skipped - tally.failed - tally.handed_over,
            skipped=tally.skipped,
            failed=tally.failed,
            handedOver=tally.handed_over,
            renewed=tally.renewed,
            ended=tally.ended,
            failing=tally.failing,
            purged=tally.purged,
            smallestMarginMinutes=margin,
        )
        for outcome in (Outcome.RENEWED, Outcome.ENDED, Outcome.FAILING):
            telemetry.RENEWALS.add(getattr(tally, outcome.value), outcome=outcome.value, wakeUp=wake_up)
        telemetry.DURATION.add((self._clock.now() - began).total_seconds(), wakeUp=wake_up)
        if margin is not None:
            telemetry.MARGIN.add(margin, wakeUp=wake_up)


def _plus(tally: Tally, resumed: SweepShard | None) -> Tally:
    if resumed is None:
        return tally
    return replace(
        tally,
        renewed=tally.renewed + resumed.renewed,
        ended=tally.ended + resumed.ended,
        failing=tally.failing + resumed.failing,
    )
