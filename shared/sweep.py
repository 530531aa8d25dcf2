"""One pass over the calls of a shard: in order of their deadlines, side by side, within a budget of time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.errors import safe_message
from shared.leases import Lease, Timing, Watermark
from shared.line import Line
from shared.pace import sweep_requests
from shared.renewal import Outcome, Renewer
from shared.wakeups import Renew

MAX_ROUNDS = 3  # how often a sweep comes to the calls of a tenant in trouble
LAST_WORDS = timedelta(seconds=15)  # beyond its budget, to write down what became of calls that were put off
BREAK_OFF = timedelta(seconds=25)  # beyond its budget: a token, Graph and storage may each be slow, one after the other
LONGEST_WAIT = timedelta(seconds=10)  # for a slowed tenant; with a longer one its calls get retries of their own


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
        for name in ("renewed", "ended", "failing", "purged", "skipped", "failed", "handed_over"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.margin is not None:
            self.see(other.margin)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a keeper works: the limits that an operator may set."""

    timing: Timing = field(default_factory=Timing)
    concurrency: int = 32
    budget: timedelta = timedelta(minutes=4)
    fan_out_above: int = 20_000
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
        self._open: dict[str, Lease] = {}  # taken, and not done
        self._done: Callable[[], None] = lambda: None
        self.tally = Tally()
        self.unwritten: set[str] = set()

    async def renew_all(self, line: Line, done: Callable[[], None]) -> None:
        """Renew in order, as long as there is time; come back to tenants in trouble. What was not done stays in line.

        Parameters
        ----------
        done
            Is told of each lease that need not be held any more.
        """
        self._done = done
        left = self._deadline + BREAK_OFF - self._clock.now()
        with suppress(TimeoutError):  # the host would end more than this sweep, if it took that long
            async with asyncio.timeout(left.total_seconds()):
                with sweep_requests():
                    await self._renew_line(line)
        line.put_back(self._open.values())

    async def _renew_line(self, line: Line) -> None:
        await self._round(line)
        for _ in range(MAX_ROUNDS - 1):
            if line or not self._put_off or not await self._wait():
                break
            again, self._put_off = Line(self._put_off, self._renewer.slots.has_room), []
            await self._round(again)
            self._put_off.extend(again.rest())
        # These were taken too: their rows say what holds them up, and each gets a retry of its own.
        put_off = deque(self._put_off)
        await self._side_by_side(put_off, lambda: self._give_up(put_off.popleft()), lambda: self._is_late(LAST_WORDS))

    def _is_late(self, by: timedelta = timedelta()) -> bool:
        return self._clock.now() >= self._deadline + by

    async def _round(self, line: Line) -> None:
        slots, is_late = self._renewer.slots, self._is_late

        async def renew_next() -> None:
            # The choice comes as late as can be: the wait for a slot may be long, and others have room then.
            async with slots.one(lambda: None if is_late() else line.take()) as lease:
                if lease is not None:
                    self._open[lease.call_id] = lease
                    await self._renew(lease)
                    return
            if line and not is_late():
                await slots.change()

        await self._side_by_side(line, renew_next, is_late)

    async def _side_by_side(
        self, left: Sized, one: Callable[[], Awaitable[None]], stop: Callable[[], bool] = bool
    ) -> None:
        async def work() -> None:
            while left and not stop():
                await one()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._plan.concurrency, len(left))):
                group.create_task(work())

    async def _renew(self, lease: Lease) -> None:
        """Renew a call; put it off if its tenant is slowed down: the others must not wait for it."""
        if not self._renewer.tenants.slowed(lease.tenant_app):
            outcome = await self._take(lease, self._renewer.renew(lease, self._watermark, swept=True))
            if outcome is not Outcome.THROTTLED:
                return
        self._put_off.append(lease)

    async def _give_up(self, lease: Lease) -> None:
        failure = self._renewer.not_asked(self._renewer.tenants.slowed(lease.tenant_app))
        await self._take(lease, self._renewer.fail(lease, self._watermark, failure))

    async def _take(self, lease: Lease, work: Awaitable[Outcome]) -> Outcome | None:
        """One call's trouble never holds up the others; but of what could not be written the watermark says nothing."""
        outcome = None
        try:
            outcome = await work
            self.tally.count(outcome)
        except Exception as error:  # noqa: BLE001 (see above)
            self.unwritten.add(lease.call_id)
            telemetry.CALL_UNWRITTEN(callId=lease.call_id, error=safe_message(error))
            await self._renewer.send(Renew(call_id=lease.call_id), self._plan.timing.minute)
        if outcome is not Outcome.THROTTLED:
            del self._open[lease.call_id]
            self._done()
        return outcome

    async def _wait(self) -> bool:
        """Wait for the first of the slowed tenants, if that is soon: other shards wait too."""
        slowed = [self._renewer.tenants.slowed(lease.tenant_app) for lease in self._put_off]
        now = self._clock.now()
        until = min((slow.until for slow in slowed if slow), default=now)
        if until >= self._deadline or until - now > LONGEST_WAIT:
            return False
        await self._clock.sleep((until - now).total_seconds())
        return True
