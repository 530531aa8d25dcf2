"""How fast requests may follow one another, and which of those that wait goes first."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

RESERVED = 10  # one request in so many is reserved for others than sweeps
_SECOND = 1.001  # a timer may wake a moment early

_of_a_sweep: ContextVar[bool] = ContextVar("of_a_sweep", default=False)


@contextmanager
def of_a_sweep() -> Generator[None]:
    """Requests to Graph in this block, and in tasks that it starts, are a sweep's: they let all others go first."""
    token = _of_a_sweep.set(True)
    try:
        yield
    finally:
        _of_a_sweep.reset(token)


@dataclass(slots=True)
class _Lane:
    """Requests of one kind, in the order in which they came."""

    limit: int
    sent: int = 0  # that still count
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_ready(self) -> bool:
        return bool(self.waiting) and self.sent < self.limit


class Pace:
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
        reserved = max(per_second // RESERVED, 1) if per_second > 1 else 0
        self._free = per_second
        self._others = _Lane(per_second)
        self._sweeps = _Lane(per_second - reserved)
        self._half = per_second - per_second // 2
        self._freed_at: deque[tuple[float, _Lane]] = deque()  # when each that was answered counts no more

    @asynccontextmanager
    async def permit(self) -> AsyncGenerator[None]:
        """Wait until one more may be sent, then send it in the block; when the block ends it was answered."""
        lane = self._sweeps if _of_a_sweep.get() else self._others
        await self._wait(lane)
        try:
            yield
        finally:
            self._answered(lane)

    async def _wait(self, lane: _Lane) -> None:
        turn = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let through at the same moment, and sends nothing
                self._take_back(lane)
                self._admit()
            raise

    def _admit(self) -> None:
        while self._free and (lane := self._next()):
            turn = lane.waiting.popleft()
            if not turn.done():  # else nobody waits for it any more
                turn.set_result(None)
                lane.sent += 1
                self._free -= 1

    def _next(self) -> _Lane | None:
        lanes = (self._others, self._sweeps) if self._others.sent < self._half else (self._sweeps, self._others)
        return next((lane for lane in lanes if lane.is_ready), None)

    def _take_back(self, lane: _Lane) -> None:
        lane.sent -= 1
        self._free += 1

    def _answered(self, lane: _Lane) -> None:
        """Let it count for one more second. One timer serves all: thousands would be in each other's way."""
        loop = asyncio.get_running_loop()
        self._freed_at.append((loop.time() + _SECOND, lane))
        if len(self._freed_at) == 1:
            loop.call_at(self._freed_at[0][0], self._forget, loop)

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._freed_at and self._freed_at[0][0] <= now:
            self._take_back(self._freed_at.popleft()[1])
        self._admit()
        if self._freed_at:
            loop.call_at(self._freed_at[0][0], self._forget, loop)
