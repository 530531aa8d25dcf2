"""A process as the world sees it: what it asks of others takes time, may be cut by its death, and ends with it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from soak.fault_schedule import Weather

START = datetime(2026, 3, 2, tzinfo=UTC)


class Died(Exception):
    """The process died over its work."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What all parts of a life share: its time, its faults, its chance, its trace."""

    loop: asyncio.AbstractEventLoop
    weather: Weather
    random: Random
    tell: Callable[..., None]


class OffClock:
    """The clock of one machine: off by some seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, off: float) -> None:
        self._loop = loop
        self._began = START + timedelta(seconds=off)

    def now(self) -> datetime:
        """What this machine takes for the time."""
        return self._began + timedelta(seconds=self._loop.time())

    async def sleep(self, seconds: float) -> None:
        """Wait, by the true time."""
        await asyncio.sleep(seconds)


class Process:
    """One process: its tasks, its requests, its death. After it nothing that it still does has any effect."""

    def __init__(self, name: str, scene: Scene) -> None:
        self.name = name
        self.alive = True
        self.down = 20.0  # seconds until the next one is there
        self._loop = scene.loop
        self._random = scene.random
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._dies_in: int | None = None
        self._after_effect = False
        self.on_death: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Seconds of the life."""
        return self._loop.time()

    def arm(self, requests: int, *, after_effect: bool) -> None:
        """Die at the so-many-th request from now."""
        self._dies_in, self._after_effect = requests, after_effect

    def kill(self) -> None:
        """Die now."""
        if not self.alive:
            return
        self.alive = False
        self.on_death()
        for task in self._tasks:
            task.cancel()

    async def work[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in this process.

        Raises
        ------
        Died
            The process died over it.
        """
        if not self.alive:
            work.close()
            raise Died
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        try:
            return await task
        except asyncio.CancelledError:
            if self.alive:
                raise
            raise Died from None

    async def ask[T](self, seconds: float, effect: Callable[[], T]) -> T:
        """Ask something outside: it is there, and done, after so many seconds.

        What is under way when the process dies arrives or not, as chance has it.
        """
        if not self.alive:
            raise asyncio.CancelledError
        answer: asyncio.Future[T] = self._loop.create_future()
        survives = self._random.random() < 0.5
        self._loop.call_later(seconds, self._arrive, answer, effect, survives)
        return await answer

    def _arrive[T](self, answer: "asyncio.Future[T]", effect: Callable[[], T], survives: bool) -> None:
        if self._dies_in is not None and self.alive:
            self._dies_in -= 1
            if self._dies_in < 0:
                if self._after_effect:
                    self._do(answer, effect)
                self.kill()
                return
        if self.alive or survives:
            self._do(answer, effect)

    def _do[T](self, answer: "asyncio.Future[T]", effect: Callable[[], T]) -> None:
        try:
            result = effect()
        except Exception as error:  # noqa: BLE001 (it is the answer)
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # nobody may be there any more to hear it
            return
        if not answer.done():
            answer.set_result(result)
