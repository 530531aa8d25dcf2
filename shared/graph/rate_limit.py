"""The limit for the rate of requests to Graph, and the order of those that wait."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

RESERVED_ONE_IN = 10  # one request in ten is reserved for requests that are not of sweeps
_SECOND = 1.001  # in seconds; a timer may wake a moment early

_is_sweep_request: ContextVar[bool] = ContextVar("is_sweep_request", default=False)


@contextmanager
def sweep_requests() -> Generator[None]:
    """Mark requests to Graph in this block, and in tasks that it starts, as those of a sweep: others go first."""
    token = _is_sweep_request.set(True)
    try:
        yield
    finally:
        _is_sweep_request.reset(token)


@dataclass(slots=True)
class _Lane:
    """The requests of one kind, in the order of their arrival."""

    limit: int
    outstanding: int = 0  # permits that are not returned yet
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting) and self.outstanding < self.limit


class RateLimiter:
    """Lets at most `per_second` requests reach Graph in any second.

    A permit is returned one second after the response, not after the send. It is not known when Graph counted the
    request: if the second began at the send, a delayed request could share Graph's second with later ones. With a
    latency of 200 ms this costs a sixth of the rate.

    Sweeps have thousands of waiting requests and would use up every second. So a tenth of the rate is reserved for
    other requests, and these go before the waiting requests of sweeps. But if the others hold half of the rate, sweeps
    go first: a lease must not lapse because a bot hangs up thousands of calls.

    The limiter uses the time of the event loop, so that a change of the machine's clock does not matter.
    """

    def __init__(self, per_second: int) -> None:
        reserved = max(per_second // RESERVED_ONE_IN, 1) if per_second > 1 else 0
        self._free_permits = per_second
        self._others = _Lane(per_second)
        self._sweeps = _Lane(per_second - reserved)
        self._max_others_first = per_second - per_second // 2
        self._returns_due: deque[tuple[float, _Lane]] = deque()  # when each permit of an answered request is returned

    @asynccontextmanager
    async def permit(self) -> AsyncGenerator[None]:
        """Wait for a permit. The block sends the request, and ends when the response has arrived."""
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
            if permit.done() and not permit.cancelled():  # cancelled just after the permit was granted: nothing is sent
                self._return_permit(lane)
                self._grant_permits()
            raise

    def _grant_permits(self) -> None:
        while self._free_permits and (lane := self._next_lane()):
            permit = lane.waiting.popleft()
            if not permit.done():  # else its request was cancelled
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
        """Return the permit in one second. One timer serves all permits: thousands of timers would be slow."""
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
