"""The simulated clock: runs at any speed, can be stepped, and wakes what is due."""

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000  # microseconds, what a datetime can hold: nothing is due a rounding error too late


@dataclass(order=True, slots=True)
class _Due:
    """One thing to do, ordered by its time and then by when it was asked for."""

    when: int
    turn: int
    action: Callable[[], None] = field(compare=False)


class Clock:
    """Simulated time, in microseconds since 1970 inside and as aware datetimes outside.

    `speed` is simulated seconds per real second; 0 stands still, and only steps move it.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self._initial_speed = speed
        self._turns = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._stepping = asyncio.Lock()
        self._sleepers: set[asyncio.Event] = set()
        self.reset()

    def reset(self) -> None:
        """Back to the real time and the first speed; what was due is forgotten, and who sleeps is woken."""
        self._speed = self._initial_speed
        self._simulated = int(time.time() * _SECOND)
        self._real = time.monotonic()
        self._held: int | None = None
        self._due: list[_Due] = []
        self.stop()

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._speed

    def now(self) -> datetime:
        """The simulated time. Inside an action it is exactly the time that the action was due."""
        return _EPOCH + timedelta(microseconds=self._time())

    def set_speed(self, speed: float) -> None:
        """Run faster or slower from now on; the time itself does not jump."""
        self._set_time(self._time())
        self._speed = speed
        self._arm()

    def at(self, moment: datetime, action: Callable[[], None]) -> None:
        """Do `action` once simulated time has reached `moment`; a moment in the past is due at once."""
        heapq.heappush(self._due, _Due((moment - _EPOCH) // timedelta(microseconds=1), next(self._turns), action))
        self._arm()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do `action` in so many simulated seconds."""
        self.at(self.now() + timedelta(seconds=seconds), action)

    async def sleep(self, seconds: float) -> None:
        """Wait so many simulated seconds."""
        over = asyncio.Event()
        self._sleepers.add(over)
        self.after(seconds, over.set)
        try:
            await over.wait()
        finally:
            self._sleepers.discard(over)

    async def advance(self, seconds: float, settle: Callable[[], Awaitable[None]]) -> None:
        """Step forward. What falls due on the way happens in order, each at its own time.

        `settle` is awaited after each step, while time stands still, so that what one step sets off is done
        before the next one.
        """
        async with self._stepping:
            self._held = self._time()
            target = self._held + round(seconds * _SECOND)
            try:
                await settle()
                while self._due and self._due[0].when <= target:
                    self._do_next()
                    await settle()
            finally:
                self._held = None
                self._set_time(target)
                self._arm()

    def stop(self) -> None:
        """Nothing that is due happens any more, until something new is asked for; who sleeps is woken now."""
        for sleeper in self._sleepers:
            sleeper.set()
        self._disarm()

    def _time(self) -> int:
        if self._held is not None:
            return self._held
        return self._simulated + round((time.monotonic() - self._real) * self._speed * _SECOND)

    def _set_time(self, microseconds: int) -> None:
        self._simulated, self._real = microseconds, time.monotonic()

    def _do_next(self) -> None:
        due = heapq.heappop(self._due)
        stepping = self._held is not None
        self._held = max(due.when, self._held or 0)
        try:
            due.action()
        finally:
            if not stepping:
                self._held = None

    def _tick(self) -> None:
        self._timer = None
        if self._stepping.locked():
            return  # the step does what is due, and arms the timer again
        while self._due and self._due[0].when <= self._time():
            self._do_next()
        self._arm()

    def _arm(self) -> None:
        """Set one timer for what is due next. Outside an event loop the next request does it."""
        self._disarm()
        if not self._due or self._speed == 0 or self._stepping.locked():
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        wait = max(0.0, (self._due[0].when - self._time()) / _SECOND / self._speed)
        self._timer = loop.call_later(wait, self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
