"""One pass over the calls of a shard: concurrently, earliest deadline first, within a budget of time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import Lease, Timing, Watermark
from shared.errors import safe_message
from shared.graph.rate_limit import sweep_requests
from shared.keeping.counts import SweepCounts
from shared.keeping.renewer import Outcome, Renewer
from shared.keeping.work_queue import TenantFairQueue
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.wakeup_queue import Renew

MAX_THROTTLE_ROUNDS = 3  # rounds in which a sweep tries the calls of a tenant that has to wait
WRITE_GRACE = timedelta(seconds=15)  # after the deadline, to store the failures of calls that were deferred
# After the deadline, to finish what is in flight: a token, Graph and storage may each be slow, one after the other.
CANCEL_GRACE = timedelta(seconds=25)
MAX_BACKOFF_WAIT = timedelta(seconds=10)  # of a sweep, for a tenant; after a longer wait each call gets a retry


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """The limits of sweeps that an operator can set.

    Attributes
    ----------
    timing
        The durations that follow from Graph's lease.
    concurrency
        The number of slots: keepAlive requests in flight, of all sweeps of a process.
    budget
        The time of one sweep.
    fan_out_threshold
        The number of calls above which the timer sends a message for each shard.
    retention
        The time for which ended calls are kept.
    """

    timing: Timing = field(default_factory=Timing)
    concurrency: int = 32
    budget: timedelta = timedelta(minutes=4)
    fan_out_threshold: int = 20_000
    retention: timedelta = timedelta(days=30)


@dataclass(slots=True)
class RenewalPass:
    """One pass over the calls of a shard.

    `counts` says what became of the calls; `unwritten` names those whose result could not be stored.
    """

    _renewer: Renewer
    _queue: BestEffortQueue
    _clock: Clock
    _config: SweepConfig
    _watermark: Watermark | None
    _deadline: datetime
    counts: SweepCounts = field(default_factory=SweepCounts)
    unwritten: set[str] = field(default_factory=set)
    _deferred: list[Lease] = field(default_factory=list)
    _in_flight: dict[str, Lease] = field(default_factory=dict)  # by call id: taken from the queue, and not done
    _on_done: Callable[[], None] = lambda: None

    async def renew_all(self, queue: TenantFairQueue, on_done: Callable[[], None]) -> None:
        """Renew in order until the deadline, and try again the calls of tenants that have to wait.

        Calls that were not done are in `queue` afterwards.

        Parameters
        ----------
        queue
            The leases to renew.
        on_done
            Called for each lease that need not be held in memory any more.
        """
        self._on_done = on_done
        time_left = self._deadline + CANCEL_GRACE - self._clock.now()
        with suppress(TimeoutError):  # after a longer time the host would end the whole process
            async with asyncio.timeout(time_left.total_seconds()):
                with sweep_requests():
                    await self._renew_queue(queue)
        queue.requeue(self._in_flight.values())

    async def _renew_queue(self, queue: TenantFairQueue) -> None:
        await self._run_round(queue)
        for _ in range(MAX_THROTTLE_ROUNDS - 1):
            if queue or not self._deferred:
                break
            if not await self._wait_for_backoff():
                break
            again, self._deferred = TenantFairQueue(self._deferred, self._renewer.limiter.has_room), []
            await self._run_round(again)
            self._deferred.extend(again.remaining())
        # Deferred calls count as taken: each row gets the reason, and each call a retry of its own.
        deferred = deque(self._deferred)
        await self._run_concurrently(
            deferred, lambda: self._fail_deferred(deferred.popleft()), lambda: self._is_late(WRITE_GRACE)
        )

    def _is_late(self, grace: timedelta = timedelta()) -> bool:
        return self._clock.now() >= self._deadline + grace

    async def _run_round(self, queue: TenantFairQueue) -> None:
        limiter, is_late = self._renewer.limiter, self._is_late

        async def renew_next() -> None:
            # Choose the call when the slot is free: the wait may be long, and other tenants may have room by then.
            async with limiter.acquire(lambda: None if is_late() else queue.pop()) as lease:
                if lease is not None:
                    self._in_flight[lease.call_id] = lease
                    await self._renew(lease)
                    return
            if queue and not is_late():
                await limiter.wait_for_change()

        await self._run_concurrently(queue, renew_next, is_late)

    async def _run_concurrently(
        self, pending: Sized, work_on_next: Callable[[], Awaitable[None]], stop: Callable[[], bool]
    ) -> None:
        async def work() -> None:
            while pending and not stop():
                await work_on_next()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._config.concurrency, len(pending))):
                group.create_task(work())

    async def _renew(self, lease: Lease) -> None:
        """Renew a call, or defer it if its tenant has to wait, so that the calls of others do not wait for it."""
        if not self._renewer.backoff.current(lease.tenant_app):
            outcome = await self._record_outcome(lease, self._renewer.renew_in_sweep(lease, self._watermark))
            if outcome is not Outcome.THROTTLED:
                return
        self._deferred.append(lease)

    async def _fail_deferred(self, lease: Lease) -> None:
        failure = self._renewer.reason_not_asked(self._renewer.backoff.current(lease.tenant_app))
        await self._record_outcome(lease, self._renewer.record_failure(lease, self._watermark, failure))

    async def _record_outcome(self, lease: Lease, work: Awaitable[Outcome]) -> Outcome | None:
        """Count the outcome and return it; None if it could not be stored.

        A call whose outcome could not be stored does not stop the others. The watermark excepts it, and it gets a
        message.
        """
        outcome = None
        try:
            outcome = await work
            self.counts += SweepCounts.of(outcome)
        except Exception as error:  # noqa: BLE001 (a bug in one call's renewal must not stop the others)
            self.unwritten.add(lease.call_id)
            telemetry.CALL_WRITE_FAILED(callId=lease.call_id, error=safe_message(error))
            await self._queue.send(Renew(call_id=lease.call_id), self._config.timing.minute)
        if outcome is not Outcome.THROTTLED:
            del self._in_flight[lease.call_id]
            self._on_done()
        return outcome

    async def _wait_for_backoff(self) -> bool:
        """Wait for the first tenant whose backoff ends. False, without a wait, if that is not soon.

        Other shards wait for this one to finish.
        """
        backoffs = [self._renewer.backoff.current(lease.tenant_app) for lease in self._deferred]
        now = self._clock.now()
        until = min((backoff.until for backoff in backoffs if backoff), default=now)
        if until >= self._deadline or until - now > MAX_BACKOFF_WAIT:
            return False
        await self._clock.sleep((until - now).total_seconds())
        return True
