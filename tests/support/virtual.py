"""Virtual time for tests: a clock, and a queue and a Graph that use it."""

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from shared.domain.leases import LEASE
from shared.errors import GraphCallNotFound, StoreUnavailable
from shared.graph.client import GraphCall
from shared.storage.wakeup_queue import WakeUp, parse_wake_up
from soak.loop import VirtualLoop

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class VirtualClock:
    """The clock of a virtual event loop: time passes only if all tasks wait for it.

    `asyncio.sleep` and `asyncio.timeout` follow the same time. Outside a loop, as in a plain fixture, no time passes.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._began: float | None = None

    def now(self) -> datetime:
        try:
            seconds = asyncio.get_running_loop().time()
        except RuntimeError:
            return self._start
        if self._began is None:
            self._began = seconds
        return self._start + timedelta(seconds=seconds - self._began)

    async def sleep(self, seconds: float) -> None:
        self.now()
        await asyncio.sleep(max(seconds, 0))

    def set(self, moment: datetime) -> None:
        """Jump to a later moment. Sleepers of other tasks do not wake earlier."""
        self._start += max(moment - self.now(), timedelta())

    async def advance(self, step: timedelta) -> None:
        """Let time pass, and let all tasks run that wake on the way."""
        await settle()
        await self.sleep(step.total_seconds())
        await settle()

    async def run[T](self, work: Awaitable[T]) -> T:
        """Let time pass until the work is done."""
        self.now()
        return await work


async def settle() -> None:
    """Let all tasks run that can run without time passing."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "the test must run in a virtual loop: see tests/shared/conftest.py"
    await loop.idle()


class VirtualQueue:
    """A queue in order of time. Messages are converted to JSON and back, as on the real queue."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._order = count()
        self.messages: list[tuple[datetime, int, str]] = []
        self.broken = False

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        if self.broken:
            raise StoreUnavailable("Queue Storage refused a message (test).")
        heapq.heappush(self.messages, (self._clock.now() + delay, next(self._order), message.model_dump_json()))

    def due(self, by: datetime | None = None) -> WakeUp | None:
        """Remove and return the next message that is visible now, or at `by`. None if there is none."""
        if self.messages and self.messages[0][0] <= (by or self._clock.now()):
            return parse_wake_up(heapq.heappop(self.messages)[2])
        return None

    def waiting(self) -> list[tuple[timedelta, WakeUp]]:
        """Return the messages with the time until each is visible."""
        return [(at - self._clock.now(), parse_wake_up(text)) for at, _, text in sorted(self.messages)]


type Fault = Callable[[str, str], Awaitable[None]]


@dataclass
class GraphCallState:
    expires_at: datetime
    keep_alives: list[datetime] = field(default_factory=list)
    ended: bool = False


class VirtualGraph:
    """Graph's leases. A fault is a coroutine that raises or sleeps before the request reaches the call."""

    def __init__(self, clock: VirtualClock, lease: timedelta = LEASE) -> None:
        self._clock = clock
        self._lease = lease
        self.calls: dict[str, GraphCallState] = {}
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, Fault] = {}  # by call id, app id, tenant id, operation, or "*" for all
        self.in_flight = 0
        self.most_in_flight = 0

    def start(self, call_id: str, *, age: timedelta = timedelta()) -> None:
        self.calls[call_id] = GraphCallState(self._clock.now() - age + self._lease)

    def lapsed(self) -> set[str]:
        """Return the calls whose lease ran out."""
        now = self._clock.now()
        return {call_id for call_id, call in self.calls.items() if not call.ended and call.expires_at < now}

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        call = await self._arrive("keepAlive", call_id, tenant_id, app_id)
        call.expires_at = self._clock.now() + self._lease
        call.keep_alives.append(self._clock.now())

    async def get(self, call_id: str, tenant_id: str, app_id: str | None = None) -> GraphCall:
        await self._arrive("get", call_id, tenant_id, app_id)
        return GraphCall("established")

    async def _arrive(self, operation: str, call_id: str, tenant_id: str, app_id: str | None) -> GraphCallState:
        self.requests[operation] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for key in (call_id, app_id or "", tenant_id, operation, "*"):
                if key in self.faults:
                    await self.faults[key](operation, call_id)
            await asyncio.sleep(0)
        finally:
            self.in_flight -= 1
        call = self.calls.get(call_id)
        if call is None or call.ended or call.expires_at < self._clock.now():
            raise GraphCallNotFound("Graph does not know the call.", status=404, subcode=8522)
        return call


def refuse(error: Exception, times: int | None = None) -> Fault:
    """Return a fault of the virtual Graph that raises this error so many times, or always if `times` is None."""
    left = times

    async def fault(_operation: str, _call_id: str) -> None:
        nonlocal left
        if left is None or left > 0:
            left = None if left is None else left - 1
            raise error

    return fault
