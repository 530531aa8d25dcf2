"""The sweep of one shard: read it, renew its calls, and write the proof, or how far it came."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable
from shared.leases import Lease, Progress, SweepPosition, Watermark, credible
from shared.line import Hand, Held, Line
from shared.renewal import Renewer
from shared.store import CallStore, Stored
from shared.sweep import BREAK_OFF, Pass, Plan, Tally
from shared.wakeups import SweepShard

MOST_UNWRITTEN = 50  # calls that a watermark excepts; with more the store is in trouble, and the shard is swept again
MOST_IN_HAND = 8_000  # leases that are not done in a process while it reads another shard: a few megabytes


@dataclass(slots=True)
class Found:
    """What a sweep reads of a shard."""

    progress: Progress | None = None
    watermark: Watermark | None = None
    etag: str | None = None
    leases: list[Lease] = field(default_factory=list)


class ShardSweeper:
    """Sweeps shards: any number at once, in any number of processes, and any may die anywhere."""

    def __init__(self, store: CallStore, renewer: Renewer, clock: Clock, plan: Plan) -> None:
        self._store = store
        self._renewer = renewer
        self._clock = clock
        self._plan = plan
        self._hand = Hand(MOST_IN_HAND)

    async def sweep(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> Tally:
        """Sweep a shard, until `deadline`; what is left then goes to the queue.

        Parameters
        ----------
        unless_younger_than
            A shard whose last sweep began less than this ago is left alone. None: sweep in any case, from the start.

        Raises
        ------
        StoreUnavailable
            It could not be read, or what was done could not be written.
        """
        # Once the turn is over: where the queue is slow, sixteen shards must not wait for it one after the other.
        return await self._sweep_in_turn(shard, deadline, unless_younger_than) or await self._leave(shard)

    async def _sweep_in_turn(
        self, shard: int, deadline: datetime, unless_younger_than: timedelta | None
    ) -> Tally | None:
        """What was done; None, and nothing was, where the turn came too late."""
        async with self._hand.turn():
            now = self._clock.now()
            if now >= deadline:
                return None
            fresh_after = now - unless_younger_than if unless_younger_than else None
            found = await self._read_in_time(shard, now, deadline, fresh_after)
            if found is None:
                return Tally(skipped=1)
            new = Progress(now, found.watermark.sweep_started_at if found.watermark else None)
            resumable = self._resumable(new, found.progress)
            progress = resumable if resumable and unless_younger_than else new
            place = partial(Lease.sweep_position, watermark=found.watermark, timing=self._plan.timing)
            order = _order(found.leases, place, progress.cursor)
            line, held = Line(order, self._renewer.slots.has_room), self._hand.take(len(order))
        try:
            run = await self._renew(line, held, found.watermark, deadline)
        finally:
            held.release()
        if order:
            run.tally.see(min(lease.expires_at(found.watermark, self._plan.timing) for lease in order) - now)
        done = _after(progress, run, _last_taken(order, line, place) or progress.cursor)
        if line and resumable and _is_further(resumable, done):
            done = resumable  # an operator's sweep began anew: another's, that came further, goes on
        return await self._conclude(shard, run.tally, done, found.etag, is_done=not line)

    async def _leave(self, shard: int) -> Tally:
        """It has to wait for the queue."""
        sent = await self._renewer.send(SweepShard(shard=shard))
        return Tally(handed_over=1) if sent else Tally(failed=1)

    async def _read_in_time(
        self, shard: int, now: datetime, deadline: datetime, fresh_after: datetime | None
    ) -> Found | None:
        """See `_read`. Each page may take long, of many; the host would end more than this sweep."""
        try:
            async with asyncio.timeout((deadline + BREAK_OFF - now).total_seconds()):
                return await self._read(shard, now, fresh_after)
        except TimeoutError:
            raise StoreUnavailable("The shard could not be read in the time of a sweep.") from None

    async def _read(self, shard: int, now: datetime, fresh_after: datetime | None) -> Found | None:
        """What a sweep goes by. None, and little is read, where one began after `fresh_after`."""
        found = Found()
        async with aclosing(self._store.scan(shard)) as scan:
            async for record in scan:
                match record:
                    case Lease():
                        found.leases.append(record)
                    case Progress():
                        found.progress = record
                    case Stored(value=watermark, etag=etag):
                        found.watermark, found.etag = credible(watermark, now, self._plan.timing), etag
                        if fresh_after and found.watermark and watermark.sweep_started_at > fresh_after:
                            return None
        return found

    def _resumable(self, new: Progress, old: Progress | None) -> Progress | None:
        """Where a sweep ran out of time, for one to go on; None: the order is another by now, or it is long ago."""
        if old is None or old.base_watermark_at != new.base_watermark_at:
            return None
        return old if new.started_at - old.started_at < self._plan.timing.at_risk_after else None

    async def _renew(self, line: Line, held: Held, watermark: Watermark | None, deadline: datetime) -> Pass:
        run = Pass(self._renewer, self._clock, self._plan, watermark, deadline)
        with self._renewer.slots.shared_by(lease.tenant_app for lease in line.rest()):
            await run.renew_all(line, held.one_done)
        return run

    async def _conclude(self, shard: int, tally: Tally, done: Progress, etag: str | None, *, is_done: bool) -> Tally:
        if len(done.unwritten) > MOST_UNWRITTEN:
            raise StoreUnavailable(f"What became of {len(done.unwritten)} calls could not be written.")
        if is_done:
            await self._write_watermark(shard, done, etag)
        else:
            await self._hand_over(shard, done)
            tally.handed_over = 1
        return tally

    async def _hand_over(self, shard: int, done: Progress) -> None:
        """The row first: should the message be lost, the next wake-up goes on from there, and nobody starves."""
        await self._store.put_progress(shard, done)
        await self._renewer.send(SweepShard(shard=shard))

    async def _write_watermark(self, shard: int, done: Progress, etag: str | None) -> None:
        """The proof, last."""
        counts = (done.renewed, done.ended, done.failing, done.unwritten)
        await self._store.put_watermark(shard, Watermark(done.started_at, self._clock.now(), *counts), etag)
        telemetry.ACTIVE.add(done.renewed + done.failing, shard=shard)


def _order(
    leases: Iterable[Lease], place: Callable[[Lease], SweepPosition], after: SweepPosition | None
) -> list[Lease]:
    """Those that are to be renewed, the earliest deadline first."""
    order = sorted(leases, key=place)
    return [lease for lease in order if place(lease) > after] if after else order


def _last_taken(order: Sequence[Lease], line: Line, place: Callable[[Lease], SweepPosition]) -> SweepPosition | None:
    """The last call before which none was left. Of those behind it some may be renewed twice."""
    first_left = min(map(place, line.rest()), default=None)
    return next((taken for taken in map(place, reversed(order)) if first_left is None or taken < first_left), None)


def _is_further(one: Progress, other: Progress) -> bool:
    return one.cursor is not None and (other.cursor is None or one.cursor > other.cursor)


def _after(progress: Progress, run: Pass, after: SweepPosition | None) -> Progress:
    """The progress with what a pass has done."""
    return replace(
        progress,
        cursor=after,
        renewed=progress.renewed + run.tally.renewed,
        ended=progress.ended + run.tally.ended,
        failing=progress.failing + run.tally.failing,
        unwritten=progress.unwritten | run.unwritten,
    )
