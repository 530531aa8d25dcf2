"""How fast requests may follow one another."""

import asyncio
from collections import deque

_SECOND = 1.001  # a timer may wake a moment early


class Pace:
    """Lets at most `per_second` pass in any second, in the order in which they came.

    It counts by the time of the running loop, so that a clock that is set does not matter.
    """

    def __init__(self, per_second: int) -> None:
        self._passed: deque[float] = deque(maxlen=per_second)
        self._lock = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until one more may pass."""
        now = asyncio.get_running_loop().time
        async with self._lock:
            if len(self._passed) == self._passed.maxlen:
                await asyncio.sleep(max(self._passed[0] + _SECOND - now(), 0))
            self._passed.append(now())
