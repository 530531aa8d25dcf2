"""The sweep of one shard: reads it, renews its calls, and writes its watermark or the position it reached."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import Lease, Progress, SweepPosition, Watermark, credible
from shared.errors import StoreUnavailable
from shared.keeping.counts import SweepCounts
from shared.keeping.renewal_pass import CANCEL_GRACE, RenewalPass, SweepConfig
from shared.keeping.renewer import Renewer
from shared.keeping.work_queue import LeaseBudget, LeaseReservation, TenantFairQueue
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import CallStore, Stored
from shared.storage.wakeup_queue import SweepShard

MAX_UNWRITTEN = 50  # calls that a watermark excepts; with more the store is in trouble, and the shard is swept again
MAX_LEASES_IN_MEMORY = 8_000  # leases not yet done in a process while it reads another shard: a few megabytes


@dataclass(slots=True)
class ShardState:
    """The records that a sweep reads of a shard."""

    progress: Progress | None = None
    watermark: Watermark | None = None
    etag: str | None = None
    leases: list[Lease] = field(default_factory=list)


class ShardSweeper:
    """Sweeps single shards. Any number of sweeps may run concurrently, in any number of processes; any may die."""

    def __init__(
        self, store: CallStore, renewer: Renewer, queue: BestEffortQueue, clock: Clock, config: SweepConfig
    ) -> None:
        self._store = store
        self._renewer = renewer
        self._queue = queue
        self._clock = clock
        self._config = config
        self._lease_budget = LeaseBudget(MAX_LEASES_IN_MEMORY)

    async def sweep(self, shard: int, deadline: datetime, unless_younger_than: timedelta | None) -> SweepCounts:
        """Sweep a shard until `deadline`, and hand the rest over to the queue.

        Parameters
        ----------
        shard
            The shard's number.
        deadline
            The time after which no further keepAlive is sent.
        unless_younger_than
            Leave a shard alone if its last sweep began less than this ago. None: sweep in any case, from the start.

        Raises
        ------
        StoreUnavailable
            The shard could not be read, or the result not written.
        """
        counts = await self._sweep_with_capacity(shard, deadline, unless_younger_than)
        if counts is None:  # outside of the turn: if the queue is slow, sixteen shards must not wait for it in turn
            return await self._queue_shard(shard)
        return counts

    async def _sweep_with_capacity(
        self, shard: int, deadline: datetime, unless_younger_than: timedelta | None
    ) -> SweepCounts | None:
        """Sweep the shard once there is room for its leases. None, and nothing is done, if that is too late."""
        async with self._lease_budget.wait_for_capacity():
            now = self._clock.now()
            if now >= deadline:
                return None
            fresh_after = now - unless_younger_than if unless_younger_than else None
            state = await self._read_before_deadline(shard, now, deadline, fresh_after)
            if state is None:
                return SweepCounts(skipped=1)
            new = Progress(now, state.watermark.sweep_started_at if state.watermark else None)
            resumable = self._find_resumable(new, state.progress)
            progress = resumable if resumable and unless_younger_than else new
            position_of = partial(Lease.sweep_position, watermark=state.watermark, timing=self._config.timing)
            leases = _leases_to_renew(state.leases, position_of, progress.cursor)
            queue = TenantFairQueue(leases, self._renewer.limiter.has_room)
            reservation = self._lease_budget.reserve(len(leases))
        try:
            renewal = await self._renew(queue, reservation, state.watermark, deadline)
        finally:
            reservation.release()
        counts = renewal.counts + self._margin(leases, state.watermark, now)
        progress_made = _advance(progress, renewal, _new_cursor(leases, queue, position_of) or progress.cursor)
        if queue and resumable and _is_ahead(resumable, progress_made):
            progress_made = resumable  # an operator's sweep began anew: a sweep that came further goes on from there
        return await self._conclude(shard, counts, progress_made, state.etag, is_done=not queue)

    def _margin(self, leases: Iterable[Lease], watermark: Watermark | None, now: datetime) -> SweepCounts:
        expiries = [lease.expires_at(watermark, self._config.timing) for lease in leases]
        return SweepCounts(margin=min(expiries) - now) if expiries else SweepCounts()

    async def _queue_shard(self, shard: int) -> SweepCounts:
        sent = await self._queue.send(SweepShard(shard=shard))
        return SweepCounts(handed_over=1) if sent else SweepCounts(failed=1)

    async def _read_before_deadline(
        self, shard: int, now: datetime, deadline: datetime, fresh_after: datetime | None
    ) -> ShardState | None:
        """Call `_read` with a time limit: each of many pages may be slow, and the host would end the whole process."""
        try:
            async with asyncio.timeout((deadline + CANCEL_GRACE - now).total_seconds()):
                return await self._read(shard, now, fresh_after)
        except TimeoutError:
            raise StoreUnavailable("The shard could not be read in the time of a sweep.") from None

    async def _read(self, shard: int, now: datetime, fresh_after: datetime | None) -> ShardState | None:
        """Return the shard's records. None, after little is read, if its last sweep began after `fresh_after`."""
        state = ShardState()
        async with aclosing(self._store.scan(shard)) as scan:
            async for record in scan:
                match record:
                    case Lease():
                        state.leases.append(record)
                    case Progress():
                        state.progress = record
                    case Stored(value=watermark, etag=etag):
                        state.watermark, state.etag = credible(watermark, now, self._config.timing), etag
                        if fresh_after and state.watermark and watermark.sweep_started_at > fresh_after:
                            return None
        return state

    def _find_resumable(self, new: Progress, old: Progress | None) -> Progress | None:
        """Return the progress of a sweep that ran out of time, if a sweep can go on from there.

        It cannot under another watermark, because the order of the calls is another, nor after half an hour.
        """
        if old is None or old.base_watermark_at != new.base_watermark_at:
            return None
        return old if new.started_at - old.started_at < self._config.timing.at_risk_after else None

    async def _renew(
        self, queue: TenantFairQueue, reservation: LeaseReservation, watermark: Watermark | None, deadline: datetime
    ) -> RenewalPass:
        renewal = RenewalPass(self._renewer, self._queue, self._clock, self._config, watermark, deadline)
        with self._renewer.limiter.sharing_with(lease.tenant_app for lease in queue.remaining()):
            await renewal.renew_all(queue, reservation.release_one)
        return renewal

    async def _conclude(
        self, shard: int, counts: SweepCounts, progress: Progress, etag: str | None, *, is_done: bool
    ) -> SweepCounts:
        if len(progress.unwritten) > MAX_UNWRITTEN:
            raise StoreUnavailable(f"The results of {len(progress.unwritten)} calls could not be written.")
        if is_done:
            await self._write_watermark(shard, progress, etag)
            return counts
        await self._hand_over(shard, progress)
        return counts + SweepCounts(handed_over=1)

    async def _hand_over(self, shard: int, progress: Progress) -> None:
        """Store the position, then queue the rest.

        The row is written before the message is sent: if the message is lost, the next wake-up goes on from there, and
        no call is left out in every sweep.
        """
        await self._store.put_progress(shard, progress)
        await self._queue.send(SweepShard(shard=shard))

    async def _write_watermark(self, shard: int, progress: Progress, etag: str | None) -> None:
        """Write the proof of the sweep, after everything else."""
        counts = (progress.renewed, progress.ended, progress.failing, progress.unwritten)
        await self._store.put_watermark(shard, Watermark(progress.started_at, self._clock.now(), *counts), etag)
        telemetry.ACTIVE.add(progress.renewed + progress.failing, shard=shard)


def _leases_to_renew(
    leases: Iterable[Lease], position_of: Callable[[Lease], SweepPosition], cursor: SweepPosition | None
) -> list[Lease]:
    """Return the leases after `cursor`, earliest deadline first."""
    order = sorted(leases, key=position_of)
    return [lease for lease in order if position_of(lease) > cursor] if cursor else order


def _new_cursor(
    leases: Sequence[Lease], queue: TenantFairQueue, position_of: Callable[[Lease], SweepPosition]
) -> SweepPosition | None:
    """Return the position of the last call before which none is left. Some calls after it may be renewed twice."""
    first_left = min(map(position_of, queue.remaining()), default=None)
    return next(
        (taken for taken in map(position_of, reversed(leases)) if first_left is None or taken < first_left), None
    )


def _is_ahead(one: Progress, other: Progress) -> bool:
    return one.cursor is not None and (other.cursor is None or one.cursor > other.cursor)


def _advance(progress: Progress, renewal: RenewalPass, cursor: SweepPosition | None) -> Progress:
    """Return the progress with the results of a pass."""
    return replace(
        progress,
        cursor=cursor,
        renewed=progress.renewed + renewal.counts.renewed,
        ended=progress.ended + renewal.counts.ended,
        failing=progress.failing + renewal.counts.failing,
        unwritten=progress.unwritten | renewal.unwritten,
    )
