"""An event loop in virtual time: if no task can run, its clock jumps to the next timer.

The product's own `asyncio.sleep` and `asyncio.timeout` follow this clock. So a day takes seconds, and each repetition
is the same.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any


class Deadlock(Exception):
    """No task can run and no timer is set, so all tasks would wait for ever."""


class _Timeless(selectors.SelectSelector):
    """A selector without files. Instead of waiting it moves the time forward."""

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
    """An event loop whose `time()` is virtual: seconds since its start."""

    def __init__(self) -> None:
        self._timeless = _Timeless()
        super().__init__(self._timeless)
        self._number = count()

    def time(self) -> float:
        """Return the virtual seconds since the start of the loop."""
        return self._timeless.now

    def after_steps(self, steps: int, do: Callable[[], None]) -> None:
        """Call `do` after so many steps of the loop. In each step every ready task runs to its next await."""
        waiting = self._timeless.due
        heappush(waiting, (self._timeless.steps + steps, next(self._number), do))

    def idle(self) -> asyncio.Future[None]:
        """Return a future that is done as soon as no task can run unless time passes."""
        future = self.create_future()
        self._timeless.idle.append(future)
        return future


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in virtual time, and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
