"""One pass over the calls of a shard: in order of their deadlines, side by side, within a budget of time."""

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
from shared.keeping.renewer import Outcome, Renewer
from shared.keeping.work_queue import TenantFairQueue
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.wakeup_queue import Renew

MAX_THROTTLE_ROUNDS = 3  # how often a sweep comes to the calls of a tenant in trouble
WRITE_GRACE = timedelta(seconds=15)  # beyond its budget, to write down what became of calls that were put off
# Beyond its budget: a token, Graph and storage may each be slow, one after the other.
CANCEL_GRACE = timedelta(seconds=25)
MAX_BACKOFF_WAIT = timedelta(seconds=10)  # for a slowed tenant; with a longer one its calls get retries of their own


@dataclass(slots=True)
class SweepStats:
    """What a sweep did."""

    renewed: int = 0
    ended: int = 0
    failing: int = 0
    purged: int = 0
    skipped: int = 0
    failed: int = 0
    handed_over: int = 0
    margin: timedelta | None = None

    def count(self, outcome: Outcome) -> None:
        """Add one keepAlive."""
        self.renewed += outcome is Outcome.RENEWED
        self.ended += outcome is Outcome.ENDED
        self.failing += outcome is Outcome.FAILING

    def observe_margin(self, margin: timedelta) -> None:
        """Note how much a lease had left; the smallest counts."""
        self.margin = margin if self.margin is None else min(self.margin, margin)

    def add(self, other: "SweepStats") -> None:
        """Sum up."""
        for name in ("renewed", "ended", "failing", "purged", "skipped", "failed", "handed_over"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.margin is not None:
            self.observe_margin(other.margin)


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """How a keeper works: the limits that an operator may set."""

    timing: Timing = field(default_factory=Timing)
    concurrency: int = 32
    budget: timedelta = timedelta(minutes=4)
    fan_out_threshold: int = 20_000
    retention: timedelta = timedelta(days=30)


@dataclass(slots=True)
class RenewalPass:
    """One pass over the calls of a shard."""

    _renewer: Renewer
    _queue: BestEffortQueue
    _clock: Clock
    _config: SweepConfig
    _watermark: Watermark | None
    _deadline: datetime
    stats: SweepStats = field(default_factory=SweepStats)
    unwritten: set[str] = field(default_factory=set)
    _deferred: list[Lease] = field(default_factory=list)
    _in_flight: dict[str, Lease] = field(default_factory=dict)  # taken, and not done
    _on_done: Callable[[], None] = lambda: None

    async def renew_all(self, queue: TenantFairQueue, on_done: Callable[[], None]) -> None:
        """Renew in order, as long as there is time; come back to tenants in trouble. What was not done stays in line.

        Parameters
        ----------
        on_done
            Is told of each lease that need not be held any more.
        """
        self._on_done = on_done
        time_left = self._deadline + CANCEL_GRACE - self._clock.now()
        with suppress(TimeoutError):  # the host would end more than this sweep, if it took that long
            async with asyncio.timeout(time_left.total_seconds()):
                with sweep_requests():
                    await self._renew_queue(queue)
        queue.requeue(self._in_flight.values())

    async def _renew_queue(self, queue: TenantFairQueue) -> None:
        await self._run_round(queue)
        for _ in range(MAX_THROTTLE_ROUNDS - 1):
            if queue or not self._deferred or not await self._wait_for_backoff():
                break
            again, self._deferred = TenantFairQueue(self._deferred, self._renewer.limiter.has_room), []
            await self._run_round(again)
            self._deferred.extend(again.remaining())
        # These were taken too: their rows say what holds them up, and each gets a retry of its own.
        deferred = deque(self._deferred)
        await self._run_concurrently(
            deferred, lambda: self._fail_deferred(deferred.popleft()), lambda: self._is_late(WRITE_GRACE)
        )

    def _is_late(self, grace: timedelta = timedelta()) -> bool:
        return self._clock.now() >= self._deadline + grace

    async def _run_round(self, queue: TenantFairQueue) -> None:
        limiter, is_late = self._renewer.limiter, self._is_late

        async def renew_next() -> None:
            # The choice comes as late as can be: the wait for a slot may be long, and others have room then.
            async with limiter.acquire(lambda: None if is_late() else queue.pop()) as lease:
                if lease is not None:
                    self._in_flight[lease.call_id] = lease
                    await self._renew(lease)
                    return
            if queue and not is_late():
                await limiter.wait_for_change()

        await self._run_concurrently(queue, renew_next, is_late)

    async def _run_concurrently(
        self, pending: Sized, work_on_next: Callable[[], Awaitable[None]], stop: Callable[[], bool] = bool
    ) -> None:
        async def work() -> None:
            while pending and not stop():
                await work_on_next()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._config.concurrency, len(pending))):
                group.create_task(work())

    async def _renew(self, lease: Lease) -> None:
        """Renew a call; put it off if its tenant is slowed down: the others must not wait for it."""
        if not self._renewer.backoff.current(lease.tenant_app):
            outcome = await self._record_outcome(lease, self._renewer.renew_in_sweep(lease, self._watermark))
            if outcome is not Outcome.THROTTLED:
                return
        self._deferred.append(lease)

    async def _fail_deferred(self, lease: Lease) -> None:
        failure = self._renewer.reason_not_asked(self._renewer.backoff.current(lease.tenant_app))
        await self._record_outcome(lease, self._renewer.record_failure(lease, self._watermark, failure))

    async def _record_outcome(self, lease: Lease, work: Awaitable[Outcome]) -> Outcome | None:
        """One call's trouble never holds up the others; but of what could not be written the watermark says nothing."""
        outcome = None
        try:
            outcome = await work
            self.stats.count(outcome)
        except Exception as error:  # noqa: BLE001 (see above)
            self.unwritten.add(lease.call_id)
            telemetry.CALL_WRITE_FAILED(callId=lease.call_id, error=safe_message(error))
            await self._queue.send(Renew(call_id=lease.call_id), self._config.timing.minute)
        if outcome is not Outcome.THROTTLED:
            del self._in_flight[lease.call_id]
            self._on_done()
        return outcome

    async def _wait_for_backoff(self) -> bool:
        """Wait for the first of the slowed tenants, if that is soon: other shards wait too."""
        backoffs = [self._renewer.backoff.current(lease.tenant_app) for lease in self._deferred]
        now = self._clock.now()
        until = min((backoff.until for backoff in backoffs if backoff), default=now)
        if until >= self._deadline or until - now > MAX_BACKOFF_WAIT:
            return False
        await self._clock.sleep((until - now).total_seconds())
        return True
