"""Virtual time: a clock that is stepped, and a queue and a Graph that live by it."""

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

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


class VirtualClock:
    """Stands still until it is stepped; who sleeps by it wakes in order."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        wake_at = self._now + timedelta(seconds=max(seconds, 0))
        heapq.heappush(self._sleepers, (wake_at, next(self._order), future))
        await future

    def set(self, moment: datetime) -> None:
        """Jump, where nobody sleeps."""
        self._now = max(self._now, moment)

    async def advance(self, step: timedelta) -> None:
        """Let time pass, waking sleepers on the way."""
        target = self._now + step
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            wake_at, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, wake_at)
            if not future.done():
                future.set_result(None)
            await settle()
        self._now = target
        await settle()

    async def run[T](self, work: Awaitable[T]) -> T:
        """Step as far as the work needs to end."""
        task = asyncio.ensure_future(work)
        while True:
            await settle()
            if task.done():
                return task.result()
            assert self._sleepers, "the work waits for something that no clock brings"
            await self.advance(self._sleepers[0][0] - self._now)


async def settle() -> None:
    """Let all run that can run without time passing; nothing here waits for a socket."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined] # no public way to ask whether a loop is idle
    await asyncio.sleep(0)
    while ready:  # noqa: ASYNC110 there is no event: it waits for the others' turns
        await asyncio.sleep(0)


class VirtualQueue:
    """Messages in order of their time; they go through their JSON, as on the real queue."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._order = count()
        self.messages: list[tuple[datetime, int, str]] = []
        self.broken = False

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        if self.broken:
            raise StoreUnavailable("Queue Storage did not take a message (test).")
        heapq.heappush(self.messages, (self._clock.now() + delay, next(self._order), message.model_dump_json()))

    def due(self, by: datetime | None = None) -> WakeUp | None:
        """The next message that is visible by now, or was by then, taken off the queue."""
        if self.messages and self.messages[0][0] <= (by or self._clock.now()):
            return parse_wake_up(heapq.heappop(self.messages)[2])
        return None

    def waiting(self) -> list[tuple[timedelta, WakeUp]]:
        """What lies on the queue, with the time until it is visible."""
        return [(at - self._clock.now(), parse_wake_up(text)) for at, _, text in sorted(self.messages)]


type Fault = Callable[[str, str], Awaitable[None]]


@dataclass
class GraphCallState:
    expires_at: datetime
    keep_alives: list[datetime] = field(default_factory=list)
    ended: bool = False


class VirtualGraph:
    """Graph's leases. A fault is a coroutine that raises, or sleeps, before the request reaches the call."""

    def __init__(self, clock: VirtualClock, lease: timedelta = LEASE) -> None:
        self._clock = clock
        self._lease = lease
        self.calls: dict[str, GraphCallState] = {}
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, Fault] = {}  # by call id, app id, tenant id, operation or "*"
        self.in_flight = 0
        self.most_in_flight = 0

    def start(self, call_id: str, *, age: timedelta = timedelta()) -> None:
        self.calls[call_id] = GraphCallState(self._clock.now() - age + self._lease)

    def lapsed(self) -> set[str]:
        """Calls that ended because nobody kept them."""
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
