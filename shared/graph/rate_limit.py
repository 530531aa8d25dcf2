"""How fast requests may follow one another, and which of those that wait goes first."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

RESERVED_ONE_IN = 10  # one request in so many is reserved for others than sweeps
_SECOND = 1.001  # a timer may wake a moment early

_is_sweep_request: ContextVar[bool] = ContextVar("is_sweep_request", default=False)


@contextmanager
def sweep_requests() -> Generator[None]:
    """Requests to Graph in this block, and in tasks that it starts, are a sweep's: they let all others go first."""
    token = _is_sweep_request.set(True)
    try:
        yield
    finally:
        _is_sweep_request.reset(token)


@dataclass(slots=True)
class _Lane:
    """Requests of one kind, in the order in which they came."""

    limit: int
    outstanding: int = 0  # that still count
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting) and self.outstanding < self.limit


class RateLimiter:
    """Lets at most `per_second` requests reach the other side in any second.

    A request counts until a second after its answer. It reaches the other side some time between its sending and its
    answer: if it counted from its sending, some that were held up on the way could arrive together with later ones.
    With an answer after 200 ms this costs a sixth of the rate.

    Sweeps have thousands of requests waiting, and would fill every second. So a tenth of the rate is never theirs, and
    a request that is not a sweep's goes before all of a sweep's that wait. Once the others have had half of the rate,
    sweeps go first: a lease must not lapse because somebody hangs up thousands of calls.

    It goes by the time of the running loop, so that a clock that is set does not matter.
    """

    def __init__(self, per_second: int) -> None:
        reserved = max(per_second // RESERVED_ONE_IN, 1) if per_second > 1 else 0
        self._free_permits = per_second
        self._others = _Lane(per_second)
        self._sweeps = _Lane(per_second - reserved)
        self._max_others_first = per_second - per_second // 2
        self._returns_due: deque[tuple[float, _Lane]] = deque()  # when each that was answered counts no more

    @asynccontextmanager
    async def permit(self) -> AsyncGenerator[None]:
        """Wait until one more may be sent, then send it in the block; when the block ends it was answered."""
        lane = self._sweeps if _is_sweep_request.get() else self._others
        await self._wait_for_permit(lane)
        try:
            yield
        finally:
            self._schedule_return(lane)

    async def _wait_for_permit(self, lane: _Lane) -> None:
        permit = asyncio.get_running_loop().create_future()
        lane.waiting.append(permit)
        self._grant_permits()
        try:
            await permit
        except asyncio.CancelledError:
            if permit.done() and not permit.cancelled():  # it was let through at the same moment, and sends nothing
                self._return_permit(lane)
                self._grant_permits()
            raise

    def _grant_permits(self) -> None:
        while self._free_permits and (lane := self._next_lane()):
            permit = lane.waiting.popleft()
            if not permit.done():  # else nobody waits for it any more
                permit.set_result(None)
                lane.outstanding += 1
                self._free_permits -= 1

    def _next_lane(self) -> _Lane | None:
        lanes = (
            (self._others, self._sweeps)
            if self._others.outstanding < self._max_others_first
            else (self._sweeps, self._others)
        )
        return next((lane for lane in lanes if lane.is_ready), None)

    def _return_permit(self, lane: _Lane) -> None:
        lane.outstanding -= 1
        self._free_permits += 1

    def _schedule_return(self, lane: _Lane) -> None:
        """Let it count for one more second. One timer serves all: thousands would be in each other's way."""
        loop = asyncio.get_running_loop()
        self._returns_due.append((loop.time() + _SECOND, lane))
        if len(self._returns_due) == 1:
            loop.call_at(self._returns_due[0][0], self._return_due_permits, loop)

    def _return_due_permits(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._returns_due and self._returns_due[0][0] <= now:
            self._return_permit(self._returns_due.popleft()[1])
        self._grant_permits()
        if self._returns_due:
            loop.call_at(self._returns_due[0][0], self._return_due_permits, loop)
