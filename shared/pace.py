"""How fast requests may follow one another."""

import asyncio
from collections import deque

_SECOND = 1.001  # a timer may wake a moment early


class Pace:
    """Lets at most `per_second` requests reach the other side in any second, in the order in which they came.

    `async with pace:` around a request. It gets there some time between its sending and its answer, so its place is
    another's only a second after the answer: counted from the sending, some that were held up on the way would come
    together with others. The price: with an answer after 200 ms, a sixth of the rate.

    It goes by the time of the running loop, so that a clock that is set does not matter.
    """

    def __init__(self, per_second: int) -> None:
        self._places = asyncio.Semaphore(per_second)
        self._freed_at: deque[float] = deque()  # places that are taken no more, by when another may have them

    async def __aenter__(self) -> None:
        """Wait until one more may be sent."""
        await self._places.acquire()

    async def __aexit__(self, *_: object) -> None:
        """Free its place, a second from now. One timer serves all: thousands would be in each other's way."""
        loop = asyncio.get_running_loop()
        self._freed_at.append(loop.time() + _SECOND)
        if len(self._freed_at) == 1:
            loop.call_at(self._freed_at[0], self._free, loop)

    def _free(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._freed_at and self._freed_at[0] <= now:
            self._freed_at.popleft()
            self._places.release()
        if self._freed_at:
            loop.call_at(self._freed_at[0], self._free, loop)
