"""The heart: sweeps the shards, so that no lease lapses, and watches that sweeps happen at all."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

from shared import telemetry
from shared.calls import Lease, Progress, Watermark
from shared.clock import Clock
from shared.errors import StoreUnavailable, words
from shared.renewal import Outcome, Renewer
from shared.store import SHARDS, CallStore, Stored
from shared.sweep import Pass, Plan, Tally
from shared.wakeups import Renew, Sweep, SweepShard, WakeUp

PURGE_LIMIT = 100  # ended calls that one sweep of a shard deletes at most
MOST_UNWRITTEN = 50  # calls that a watermark excepts; with more the store is in trouble, and the shard is swept again
AGAIN = 5  # minutes in which a shard that failed is left one message
LOOK_PATIENCE = 2.0  # seconds that a request may lose by looking whether sweeps still happen


@dataclass(slots=True)
class _Shard:
    """What a sweep reads of a shard."""

    progress: Progress | None = None
    watermark: Watermark | None = None
    etag: str | None = None
    leases: list[Lease] = field(default_factory=list)


class Keeper:
    """Sweeps. Any number of sweeps may run at once, and any may die anywhere: the worst is a call renewed twice."""

    def __init__(self, store: CallStore, renewer: Renewer, clock: Clock, plan: Plan) -> None:
        self._store = store
        self._renewer = renewer
        self._clock = clock
        self._plan = plan
        self._left: dict[int, datetime] = {}  # when this process last left a message to sweep a shard again
        self._switch_left_at: datetime | None = None
        self._switch_due = clock.now()
        self._next_look: datetime | None = None
        self._look_at = count()

    async def sweep(
        self, wake_up: str, *, unless_younger_than: timedelta | None = None, budget: timedelta | None = None
    ) -> Tally:
        """Sweep all shards, one after another; leave the dead man's switch; tell what was done.

        Parameters
        ----------
        wake_up
            What began it: timer, watchdog, request or operator.
        unless_younger_than
            A shard whose last sweep began less than this ago is left alone. None: sweep in any case, from the start.
        budget
            How long it may take, if that is less than the plan's.

        Raises
        ------
        StoreUnavailable
            No shard could be swept.
        """
        began = self._clock.now()
        deadline = began + min(budget or self._plan.budget, self._plan.budget)
        fan_out = wake_up == "timer" and await self._too_many()
        total = Tally()
        for shard in range(SHARDS):
            late = self._clock.now() >= deadline  # with the store away each shard takes seconds to fail
            if (fan_out or late) and await self._renewer.send(SweepShard(shard=shard)):
                total.handed_over += 1
            elif late:
                total.failed += 1
            else:  # also where the queue, which fanning out needs, does not take the message
                total.add(await self._try_shard(shard, deadline, unless_younger_than))
        if total.skipped < SHARDS:
            await self._leave_switch(self._plan.timing.stale)
        total.purged = await self._purge(range(SHARDS), deadline)
        self._tell(wake_up, total, began)
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
            await self._do(message)
        except StoreUnavailable:
            await self._renewer.put_back(message)

    async def notice(self) -> None:
        """The third wake-up: a request looks, once in a while, whether sweeps still happen, and if not, queues one.

        It never fails, and takes two seconds at most: the request is done, and must be answered.
        """
        now = self._clock.now()
        if self._next_look and now < self._next_look:
            return
        self._next_look = now + self._plan.timing.minute
        try:
            async with asyncio.timeout(LOOK_PATIENCE):
                if self._until_stale(await self._store.watermark(next(self._look_at) % SHARDS)) <= timedelta():
                    await self._renewer.send(Sweep(wake_up="request"))
        except Exception as error:  # noqa: BLE001 (see above)
            telemetry.LOOK_FAILED(error=words(error))

    async def _do(self, message: WakeUp) -> None:
        match message:
            case Renew():
                await self._renewer.retry(message)
            case SweepShard():
                began = self._clock.now()
                deadline = began + self._plan.budget
                self._left.pop(message.shard, None)
                tally = await self._sweep_shard(message.shard, deadline, self._plan.timing.fresh)
                tally.purged = await self._purge(range(message.shard, message.shard + 1), deadline)
                self._tell("queue", tally, began, shards=1)
            case Sweep():
                if not await self._is_leftover(message):
                    await self._see_to_stale(message)

    async def _see_to_stale(self, message: Sweep) -> None:
        """One stale shard is enough to sweep all: a shard that is nearly stale would wait for the next switch."""
        stale_in = await self._stale_in()
        if stale_in <= timedelta():
            with suppress(StoreUnavailable):  # what failed has left messages of its own: nothing to put back
                await self.sweep(message.wake_up, unless_younger_than=self._plan.timing.fresh)
        elif message.due:  # shards that were swept one by one left none, and the timer may be dead
            await self._leave_switch(max(stale_in, self._plan.timing.minute))

    async def _try_shard(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> Tally:
        try:
            return await self._sweep_shard(shard, deadline, unless_younger_than)
        except Exception as error:  # noqa: BLE001 (one shard's trouble, a bug's too, never holds up the others)
            telemetry.SHARD_FAILED(shard=shard, error=words(error))
            await self._sweep_again(shard)
            return Tally(failed=1)

    async def _sweep_again(self, shard: int) -> None:
        """Leave a message for a minute later, unless one is under way: each would bring others, without end."""
        now, left_at = self._clock.now(), self._left.get(shard)
        if left_at and now - left_at < AGAIN * self._plan.timing.minute:
            return
        if await self._renewer.send(SweepShard(shard=shard), self._plan.timing.minute):
            self._left[shard] = now

    async def _sweep_shard(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> Tally:
        now = self._clock.now()
        found = await self._read(shard, now - unless_younger_than if unless_younger_than else None)
        if found is None:
            return Tally(skipped=1)
        watermark = found.watermark
        progress = Progress(now, watermark.sweep_started_at if watermark else None)
        if unless_younger_than:
            progress = self._resumed(progress, found.progress)
        order = sorted(found.leases, key=lambda lease: self._place(lease, watermark))
        if progress.after:
            order = [lease for lease in order if self._place(lease, watermark) > progress.after]
        run = Pass(self._renewer, self._clock, self._plan, watermark, deadline)
        if order:
            run.tally.see(order[0].expires_at(watermark, self._plan.timing) - now)
        left = await run.renew_all(order)
        done = _after(progress, run, self._place(order[-left - 1], watermark) if left < len(order) else progress.after)
        if len(done.unwritten) > MOST_UNWRITTEN:
            raise StoreUnavailable(f"What became of {len(done.unwritten)} calls could not be written.")
        if left:
            await self._hand_over(shard, done)
            run.tally.handed_over = 1
        else:
            await self._write_watermark(shard, done, found.etag)
        return run.tally

    async def _read(self, shard: int, fresh_after: datetime | None) -> _Shard | None:
        """What a sweep goes by. None, and little is read, where one began after `fresh_after`."""
        found = _Shard()
        async with aclosing(self._store.scan(shard)) as scan:
            async for record in scan:
                match record:
                    case Lease():
                        found.leases.append(record)
                    case Progress():
                        found.progress = record
                    case Stored(value=watermark, etag=etag):
                        if fresh_after and watermark.sweep_started_at > fresh_after:
                            return None
                        found.watermark, found.etag = watermark, etag
        return found

    def _place(self, lease: Lease, watermark: Watermark | None) -> tuple[datetime, str]:
        """The order of a sweep: earliest deadline first. It does not change until the watermark does."""
        return lease.expires_at(watermark, self._plan.timing), lease.call_id

    def _resumed(self, new: Progress, old: Progress | None) -> Progress:
        """Go on where a sweep ran out of time, unless the order is another by now, or that is too long ago."""
        age = new.started_at - old.started_at if old else timedelta()
        is_of_use = old and old.under == new.under and age < self._plan.timing.at_risk_after
        return old if old and is_of_use else new

    async def _hand_over(self, shard: int, done: Progress) -> None:
        """The row first: should the message be lost, the next wake-up goes on from there, and nobody starves."""
        await self._store.put_progress(shard, done)
        await self._renewer.send(SweepShard(shard=shard))

    async def _write_watermark(self, shard: int, done: Progress, etag: str | None) -> None:
        """The proof, last. A slower sweep does not take back what a later one has proved."""
        counts = (done.renewed, done.ended, done.failing, done.unwritten)
        await self._store.put_watermark(shard, Watermark(done.started_at, self._clock.now(), *counts), etag)
        telemetry.ACTIVE.add(done.renewed + done.failing, shard=shard)

    async def _purge(self, shards: range, deadline: datetime) -> int:
        """Delete calls that ended long ago, when everything else is done, and while there is time."""
        purged = 0
        for shard in shards:
            if self._clock.now() >= deadline:
                break
            try:
                purged += await self._store.purge(shard, self._clock.now() - self._plan.retention, PURGE_LIMIT)
            except StoreUnavailable as error:  # it can wait
                telemetry.SHARD_FAILED(shard=shard, error=words(error))
        return purged

    async def _leave_switch(self, delay: timedelta) -> None:
        """The message before the row: should the row not be written, two switches come, which is better than none."""
        now = self._clock.now()
        due = now + delay
        if self._switch_left_at and now - self._switch_left_at < self._plan.timing.fresh and now < self._switch_due:
            return  # one was just left, and is still to come
        if await self._renewer.send(Sweep(wake_up="watchdog", due=due), delay):
            self._switch_left_at, self._switch_due = now, due
            try:
                await self._store.put_switch_due(due)
            except StoreUnavailable as error:
                telemetry.LOOK_FAILED(error=words(error))

    async def _is_leftover(self, message: Sweep) -> bool:
        """One chain of switches is enough: each sweep leaves one, and only the last that was left counts."""
        last = await self._store.switch_due() if message.due else None
        return last is not None and message.due is not None and message.due < last

    async def _stale_in(self) -> timedelta:
        """How long it is until the first shard is stale: nothing or less if one is, by this machine's clock.

        The sweeper's may have been ahead: then the switch comes early, and must not wait for as long once more.
        """
        return min(map(self._until_stale, await self._watermarks()))

    def _until_stale(self, watermark: Watermark | None) -> timedelta:
        if watermark is None:
            return timedelta()
        return watermark.sweep_started_at + self._plan.timing.stale - self._clock.now()

    async def _too_many(self) -> bool:
        active = sum(mark.renewed + mark.failing for mark in await self._watermarks() if mark)
        return active > self._plan.fan_out_above

    async def _watermarks(self) -> list[Watermark | None]:
        """All of them; one that cannot be read counts as none, as it must not stop the others' sweep."""

        async def read(shard: int) -> Watermark | None:
            try:
                return await self._store.watermark(shard)
            except Exception as error:  # noqa: BLE001 (see above)
                telemetry.LOOK_FAILED(error=words(error))
                return None

        return await asyncio.gather(*map(read, range(SHARDS)))

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


def _after(progress: Progress, run: Pass, after: tuple[datetime, str] | None) -> Progress:
    """The progress with what a pass has done."""
    return replace(
        progress,
        after=after,
        renewed=progress.renewed + run.tally.renewed,
        ended=progress.ended + run.tally.ended,
        failing=progress.failing + run.tally.failing,
        unwritten=progress.unwritten | run.unwritten,
    )
