"""How many requests arrive in any second."""

import asyncio
from random import Random

from shared.pace import Pace


async def test_no_more_arrive_in_any_second_than_are_set_and_none_is_forgotten() -> None:
    now, pace, random = asyncio.get_running_loop().time, Pace(30), Random(7)
    passed: list[int] = []
    arrived: list[float] = []

    async def one(number: int, on_the_way: float) -> None:
        async with pace:
            passed.append(number)
            await asyncio.sleep(on_the_way)
            arrived.append(now())
            await asyncio.sleep(on_the_way)

    await asyncio.gather(*(one(number, random.uniform(0, 0.2)) for number in range(50)))

    assert passed == list(range(50))
    assert all(later - earlier >= 1 for earlier, later in zip(arrived, arrived[30:], strict=False))


async def test_who_gives_up_waiting_or_fails_does_not_hold_up_the_others() -> None:
    pace = Pace(1)

    async def one() -> None:
        async with pace:
            raise TimeoutError

    failed, impatient, patient = (asyncio.create_task(one()) for _ in range(3))
    await asyncio.sleep(0.01)
    impatient.cancel()

    outcomes = await asyncio.gather(failed, impatient, patient, return_exceptions=True)

    assert list(map(type, outcomes)) == [TimeoutError, asyncio.CancelledError, TimeoutError]
