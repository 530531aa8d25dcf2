"""A simulated process: its requests to others take time, and its death can cut them off."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from soak.fault_schedule import FaultSchedule

START = datetime(2026, 3, 2, tzinfo=UTC)  # of each run


class ProcessDied(Exception):
    """The process died during its work."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The objects that all parts of a run share: event loop, fault schedule, random numbers, trace."""

    loop: asyncio.AbstractEventLoop
    schedule: FaultSchedule
    random: Random
    trace: Callable[..., None]


class SkewedClock:
    """The clock of one machine, which is wrong by `offset` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, offset: float) -> None:
        self._loop = loop
        self._start = START + timedelta(seconds=offset)

    def now(self) -> datetime:
        """Return the time that this machine shows."""
        return self._start + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of virtual time."""
        await asyncio.sleep(seconds)


class Process:
    """One process with its tasks. After its death nothing that its tasks still do has an effect."""

    def __init__(self, name: str, environment: Environment) -> None:
        self.name = name
        self.alive = True
        self.down = 20.0  # seconds from its death to the start of its successor
        self._loop = environment.loop
        self._random = environment.random
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._requests_left: int | None = None  # before it dies
        self._after_effect = False
        self.on_death: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Return the seconds since the start of the run."""
        return self._loop.time()

    def kill_at_request(self, requests: int, *, after_effect: bool) -> None:
        """Die after so many more requests, before or after the effect of the next one."""
        self._requests_left, self._after_effect = requests, after_effect

    def kill(self) -> None:
        """Die now: cancel all tasks."""
        if not self.alive:
            return
        self.alive = False
        self.on_death()
        for task in self._tasks:
            task.cancel()

    async def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run some work in this process.

        Raises
        ------
        ProcessDied
            The process died during the work, or before it.
        """
        if not self.alive:
            work.close()
            raise ProcessDied
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        try:
            return await task
        except asyncio.CancelledError:
            if self.alive:
                raise
            raise ProcessDied from None

    async def request[T](self, seconds: float, effect: Callable[[], T]) -> T:
        """Send a request that takes so many seconds, and return the result of its effect.

        If the process dies meanwhile, the request still has its effect in half of the cases.
        """
        if not self.alive:
            raise asyncio.CancelledError
        answer: asyncio.Future[T] = self._loop.create_future()
        survives = self._random.random() < 0.5
        self._loop.call_later(seconds, self._arrive, answer, effect, survives)
        return await answer

    def _arrive[T](self, answer: "asyncio.Future[T]", effect: Callable[[], T], survives: bool) -> None:
        if self._requests_left is not None and self.alive:
            self._requests_left -= 1
            if self._requests_left < 0:
                if self._after_effect:
                    self._apply(answer, effect)
                self.kill()
                return
        if self.alive or survives:
            self._apply(answer, effect)

    def _apply[T](self, answer: "asyncio.Future[T]", effect: Callable[[], T]) -> None:
        try:
            result = effect()
        except Exception as error:  # noqa: BLE001 - the error is the answer
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # marks it as retrieved: a dead process does not retrieve it
            return
        if not answer.done():
            answer.set_result(result)
