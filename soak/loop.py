"""An event loop in which no time is waited for: where nothing can run, the clock moves to the next timer.

The product's own `asyncio.sleep` and `asyncio.timeout` live by it, so a day takes seconds, and runs alike each time.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any


class Deadlock(Exception):
    """Nothing can run, and no timer will change that: something waits for what nobody brings."""


class _Timeless(selectors.SelectSelector):
    """Watches no file. Asked to wait, it moves the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.due: list[tuple[int, int, Callable[[], None]]] = []
        self.idle: list[asyncio.Future[None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout != 0 and self.idle:
            self.idle.pop().set_result(None)
            return []
        if timeout is None:
            raise Deadlock("All tasks wait, and no timer is set.")
        self.now += max(timeout, 0.0)
        self.steps += 1
        while self.due and self.due[0][0] <= self.steps:
            heappop(self.due)[2]()
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose `time()`, in seconds from 0, is virtual."""

    def __init__(self) -> None:
        self._timeless = _Timeless()
        super().__init__(self._timeless)
        self._number = count()

    def time(self) -> float:
        """Virtual seconds since the loop began."""
        return self._timeless.now

    def after_steps(self, steps: int, do: Callable[[], None]) -> None:
        """Do something after so many rounds of the loop: in each, what can run runs to its next await."""
        waiting = self._timeless.due
        heappush(waiting, (self._timeless.steps + steps, next(self._number), do))

    def idle(self) -> asyncio.Future[None]:
        """Return a future that is done as soon as no task can run unless time passes."""
        future = self.create_future()
        self._timeless.idle.append(future)
        return future


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
