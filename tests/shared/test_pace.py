"""How many requests pass in any second."""

import asyncio

from shared.pace import Pace


async def test_no_more_pass_in_any_second_than_are_set_and_none_is_forgotten() -> None:
    now, pace = asyncio.get_running_loop().time, Pace(30)
    passed: list[tuple[float, int]] = []

    async def one(number: int) -> None:
        await pace.turn()
        passed.append((now(), number))

    await asyncio.gather(*map(one, range(50)))

    assert [number for _, number in passed] == list(range(50))
    assert all(later - earlier >= 1 for (earlier, _), (later, _) in zip(passed, passed[30:], strict=False))


async def test_who_gives_up_waiting_does_not_hold_up_the_others() -> None:
    pace = Pace(1)
    await pace.turn()
    impatient = asyncio.create_task(pace.turn())
    patient = asyncio.create_task(pace.turn())
    await asyncio.sleep(0.01)
    impatient.cancel()

    await patient

    assert impatient.cancelled()
