"""One pass over the calls of a shard: in order of their deadlines, side by side, within a budget of time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import telemetry
from shared.calls import Lease, Timing, Watermark
from shared.clock import Clock
from shared.errors import StoreUnavailable, words
from shared.renewal import Failure, Outcome, Renewer

MAX_ROUNDS = 3  # how often a sweep comes back to the calls of a throttled tenant


@dataclass(slots=True)
class Tally:
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

    def see(self, margin: timedelta) -> None:
        """Note how much a lease had left; the smallest counts."""
        self.margin = margin if self.margin is None else min(self.margin, margin)

    def add(self, other: "Tally") -> None:
        """Sum up."""
        for name in ("renewed", "ended", "failing", "purged", "skipped", "handed_over"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.margin is not None:
            self.see(other.margin)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a keeper works: the limits that an operator may set."""

    timing: Timing = field(default_factory=Timing)
    concurrency: int = 32
    budget: timedelta = timedelta(minutes=4)
    fan_out_above: int = 5000
    retention: timedelta = timedelta(days=30)


class Pass:
    """One pass over the calls of a shard."""

    def __init__(
        self, renewer: Renewer, clock: Clock, plan: Plan, watermark: Watermark | None, deadline: datetime
    ) -> None:
        self._renewer = renewer
        self._clock = clock
        self._plan = plan
        self._watermark = watermark
        self._deadline = deadline
        self._put_off: list[Lease] = []
        self._unwritten = 0
        self.tally = Tally()

    async def renew_all(self, leases: Iterable[Lease]) -> int:
        """Renew in order, as long as there is time; come back to throttled tenants. How many were not taken."""
        pending = deque(leases)
        await self._round(pending)
        for _ in range(MAX_ROUNDS - 1):
            if not self._put_off or not await self._wait():
                break
            again, self._put_off = deque(self._put_off), []
            await self._round(again)
            self._put_off.extend(again)
        for lease in self._put_off:  # they were taken: their rows say so, and each gets a retry of its own
            until = self._renewer.throttled_until(lease.tenant_id)
            wait = until - self._clock.now() if until else timedelta()
            await self._take(self._renewer.fail(lease, self._watermark, Failure("throttled", 429, retry_after=wait)))
        if self._unwritten:
            raise StoreUnavailable(
                f"What became of {self._unwritten} calls could not be written; the shard is swept again."
            )
        return len(pending)

    async def _round(self, pending: deque[Lease]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._plan.concurrency, len(pending))):
                group.create_task(self._work(pending))

    async def _work(self, pending: deque[Lease]) -> None:
        while pending and self._clock.now() < self._deadline:
            lease = pending.popleft()
            if self._renewer.throttled_until(lease.tenant_id):
                self._put_off.append(lease)
                continue
            if await self._take(self._renewer.renew(lease, self._watermark, swept=True)) is Outcome.THROTTLED:
                self._put_off.append(lease)

    async def _take(self, work: Awaitable[Outcome]) -> Outcome | None:
        """One call's trouble never holds up the others; but what could not be written forbids a watermark."""
        try:
            outcome = await work
        except Exception as error:  # noqa: BLE001 (see above)
            self._unwritten += 1
            telemetry.CALL_UNWRITTEN(error=words(error))
            return None
        self.tally.count(outcome)
        return outcome

    async def _wait(self) -> bool:
        """Wait for the first throttled tenant, if there is time for it."""
        waits = [self._renewer.throttled_until(lease.tenant_id) for lease in self._put_off]
        until = min((wait for wait in waits if wait), default=self._clock.now())
        if until >= self._deadline:
            return False
        await self._clock.sleep((until - self._clock.now()).total_seconds())
        return True
