"""How fast requests may follow one another."""

import asyncio

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

    async def __aenter__(self) -> None:
        """Wait until one more may be sent."""
        await self._places.acquire()

    async def __aexit__(self, *_: object) -> None:
        """Free its place, a second from now."""
        asyncio.get_running_loop().call_later(_SECOND, self._places.release)
