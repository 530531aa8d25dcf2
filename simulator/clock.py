"""The simulated clock: it runs at any speed, can be stepped, and runs actions when they are due."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAX_SPEED = 100_000  # simulated seconds per real second
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Times are integers in microseconds, the resolution of datetime, so that no rounding error delays an action.
_PER_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)


@dataclass(order=True, slots=True)
class _Scheduled:
    """One action, ordered by its time and then by the order in which the actions were scheduled."""

    when: int
    number: int
    action: Callable[[], None] = field(compare=False)


class Clock:
    """Simulated time: microseconds since 1970 inside, aware datetimes outside.

    `speed` is simulated seconds per real second. At speed 0 the time stands still, and only steps move it.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._initial_speed = speed
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._stepping = asyncio.Lock()
        self._sleepers: set[asyncio.Event] = set()
        self.reset()

    def reset(self) -> None:
        """Return to the real time and the initial speed, drop all scheduled actions and wake all sleepers."""
        self._speed = self._initial_speed
        self._simulated = int(time.time() * _PER_SECOND)
        self._real = time.monotonic()
        self._held: int | None = None  # the time during a step, or during an action
        self._schedule: list[_Scheduled] = []
        self.stop()

    @property
    def speed(self) -> float:
        """Return the simulated seconds per real second."""
        return self._speed

    def now(self) -> datetime:
        """Return the simulated time. Inside an action it is exactly the time for which the action was scheduled."""
        return _EPOCH + timedelta(microseconds=self._time())

    def set_speed(self, speed: float) -> None:
        """Change the speed from now on. The simulated time does not jump."""
        self._set_time(self._time())
        self._speed = speed
        self._arm_timer()

    def at(self, moment: datetime, action: Callable[[], None]) -> None:
        """Run `action` when the simulated time reaches `moment`. A moment in the past is due at once."""
        heapq.heappush(self._schedule, _Scheduled((moment - _EPOCH) // _MICROSECOND, next(self._numbers), action))
        self._arm_timer()

    def after(self, delay: timedelta, action: Callable[[], None]) -> None:
        """Run `action` after a delay in simulated time."""
        self.at(self.now() + delay, action)

    async def sleep(self, delay: timedelta) -> None:
        """Wait for a delay in simulated time. A stop or a reset of the clock ends the wait early."""
        over = asyncio.Event()
        self._sleepers.add(over)
        self.after(delay, over.set)
        try:
            await over.wait()
        finally:
            self._sleepers.discard(over)

    async def advance(self, step: timedelta, settle: Callable[[], Awaitable[None]]) -> None:
        """Step forward. Actions that fall due run in order, each at its own time.

        `settle` is awaited before the first action and after each one, while the time stands still. So the effects
        of one action are complete before the next action runs.
        """
        async with self._stepping:
            self._held = self._time()
            target = self._held + step // _MICROSECOND
            try:
                await settle()
                while self._schedule and self._schedule[0].when <= target:
                    self._run_next()
                    await settle()
            finally:
                self._held = None
                self._set_time(target)
                self._arm_timer()

    def stop(self) -> None:
        """Stop running actions until another one is scheduled, and wake all sleepers now."""
        for sleeper in self._sleepers:
            sleeper.set()
        self._cancel_timer()

    def _time(self) -> int:
        if self._held is not None:
            return self._held
        return self._simulated + round((time.monotonic() - self._real) * self._speed * _PER_SECOND)

    def _set_time(self, microseconds: int) -> None:
        self._simulated, self._real = microseconds, time.monotonic()

    def _run_next(self) -> None:
        scheduled = heapq.heappop(self._schedule)
        stepping = self._held is not None
        self._held = max(scheduled.when, self._held or 0)
        try:
            scheduled.action()
        finally:
            if not stepping:
                self._held = None

    def _run_due(self) -> None:
        self._timer = None
        if self._stepping.locked():
            return  # the step runs the due actions, and arms the timer again
        while self._schedule and self._schedule[0].when <= self._time():
            self._run_next()
        self._arm_timer()

    def _arm_timer(self) -> None:
        """Set one timer for the next action. Outside an event loop do nothing: the next request arms the timer."""
        self._cancel_timer()
        if not self._schedule or self._speed == 0 or self._stepping.locked():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        wait = max(0.0, (self._schedule[0].when - self._time()) / _PER_SECOND / self._speed)
        self._timer = loop.call_later(wait, self._run_due)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
