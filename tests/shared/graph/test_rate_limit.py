"""The rate limit of requests to Graph, and their order. In virtual time."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from shared.graph.rate_limit import RESERVED_ONE_IN, RateLimiter, sweep_requests
from soak.loop import run


@dataclass
class Arrivals:
    """The requests that arrived, in order: time, kind and number."""

    pace: RateLimiter
    seen: list[tuple[float, str, int]] = field(default_factory=list)

    async def one(self, number: int = 0, kind: str = "other", seconds: float = 0.0) -> None:
        async with self.pace.permit():
            await asyncio.sleep(seconds)
            self.seen.append((asyncio.get_running_loop().time(), kind, number))
            await asyncio.sleep(seconds)

    def many(self, count: int, kind: str = "other", seconds: float = 0.0) -> list[asyncio.Task[None]]:
        if kind == "other":
            return [asyncio.create_task(self.one(number, kind, seconds)) for number in range(count)]
        with sweep_requests():
            return [asyncio.create_task(self.one(number, kind, seconds)) for number in range(count)]

    def kinds(self, since: float = 0.0, until: float = float("inf")) -> list[str]:
        return [kind for at, kind, _ in self.seen if since <= at < until]

    def most_in_a_second(self) -> int:
        times = sorted(at for at, _, _ in self.seen)
        return max(sum(at <= other < at + 1 for other in times) for at in times)


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    run(work)


@pytest.mark.parametrize("seed", range(5))
def test_no_more_arrive_in_any_second_than_are_set_and_none_is_forgotten(seed: int) -> None:
    async def work() -> None:
        random, arrivals = Random(seed), Arrivals(RateLimiter(30))
        tasks: list[asyncio.Task[None]] = []
        for _ in range(20):
            kind, count = random.choice(["other", "sweep"]), random.randrange(40)
            tasks += arrivals.many(count, kind, random.uniform(0, 0.2))
            for task in random.sample(tasks, 3) if len(tasks) > 3 else ():
                task.cancel()
            await asyncio.sleep(random.uniform(0, 1))
        await asyncio.gather(*tasks, return_exceptions=True)

        assert arrivals.most_in_a_second() <= 30
        assert len(arrivals.seen) >= len([task for task in tasks if not task.cancelled()])
        await asyncio.sleep(2)
        assert (arrivals.pace._free_permits, arrivals.pace._sweeps.outstanding, arrivals.pace._others.outstanding) == (
            30,
            0,
            0,
        )

    in_virtual_time(work())


@pytest.mark.parametrize("kind", ["other", "sweep"])
def test_requests_of_a_kind_go_in_the_order_in_which_they_came(kind: str) -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(30))
        await asyncio.gather(*arrivals.many(100, kind))

        assert [number for _, _, number in arrivals.seen] == list(range(100))

    in_virtual_time(work())


def test_other_requests_go_before_all_of_a_sweeps_that_wait() -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(20))
        tasks = arrivals.many(200, "sweep")
        await asyncio.sleep(0.5)
        assert arrivals.kinds() == ["sweep"] * (20 - 20 // RESERVED_ONE_IN)

        tasks += arrivals.many(5)
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert arrivals.kinds(0.5) == ["other"] * 2  # the reserved share: at once
        await asyncio.sleep(0.45)  # now the first sweep's count no more, all at once
        assert arrivals.kinds(0.7)[:3] == ["other"] * 3
        await asyncio.gather(*tasks)

    in_virtual_time(work())


def test_a_sweep_alone_has_nine_tenths_of_the_rate() -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(500))
        await asyncio.gather(*arrivals.many(4500, "sweep"))

        assert arrivals.most_in_a_second() == 500 - 500 // RESERVED_ONE_IN
        assert arrivals.seen[-1][0] == pytest.approx(9 * 1.001, abs=0.01)  # the last of ten seconds' batches of 450

    in_virtual_time(work())


def test_a_sweep_keeps_half_of_the_rate_however_many_others_there_are() -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(100))
        tasks = arrivals.many(2000) + arrivals.many(500, "sweep")
        await asyncio.gather(*tasks)

        swept = [at for at, kind, _ in arrivals.seen if kind == "sweep"]
        assert swept[-1] == pytest.approx(500 / (100 / 2), abs=0.2)
        assert arrivals.most_in_a_second() == 100

    in_virtual_time(work())


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_at_the_lowest_rates_both_kinds_get_through(rate: int) -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(rate))
        await asyncio.gather(*arrivals.many(5, "sweep"), *arrivals.many(5))

        assert arrivals.most_in_a_second() == rate
        assert arrivals.kinds().count("sweep") == 5

    in_virtual_time(work())


def test_a_request_that_gives_up_or_fails_does_not_hold_up_the_others() -> None:
    async def work() -> None:
        pace = RateLimiter(1)

        async def one() -> None:
            async with pace.permit():
                raise TimeoutError

        failed, impatient, patient = (asyncio.create_task(one()) for _ in range(3))
        await asyncio.sleep(0.01)
        impatient.cancel()

        outcomes = await asyncio.gather(failed, impatient, patient, return_exceptions=True)

        assert list(map(type, outcomes)) == [TimeoutError, asyncio.CancelledError, TimeoutError]

    in_virtual_time(work())


def test_a_request_that_gives_up_as_it_is_let_through_leaves_its_place_to_the_next_at_once() -> None:
    async def work() -> None:
        arrivals = Arrivals(RateLimiter(1))
        await arrivals.one()
        giving_up, waiting = arrivals.many(2)
        await asyncio.sleep(0)
        arrivals.pace._return_permit(arrivals.pace._others)  # as when the second is over
        arrivals.pace._returns_due.clear()
        arrivals.pace._grant_permits()
        giving_up.cancel()
        with suppress(asyncio.CancelledError):
            await giving_up
        await waiting

        assert [at for at, _, _ in arrivals.seen] == [0.0, 0.0]

    in_virtual_time(work())


def test_what_a_sweep_starts_is_the_sweeps_and_nothing_else() -> None:
    async def work() -> None:
        pace = RateLimiter(10)

        async def one() -> tuple[int, int]:
            async with pace.permit():
                return pace._sweeps.outstanding, pace._others.outstanding

        with sweep_requests():
            assert await asyncio.create_task(one()) == (1, 0)
        assert await one() == (1, 1)

    in_virtual_time(work())
