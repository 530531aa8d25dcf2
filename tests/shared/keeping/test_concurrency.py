"""The shares of tenants in the slots."""

import asyncio
from collections import Counter
from functools import partial
from random import Random

import pytest

from shared.domain.leases import Lease, TenantApp
from shared.keeping.concurrency import ConcurrencyLimiter
from tests.support.stores import NOW

A, B = Lease("call-a", "tenant-a", NOW, NOW), Lease("call-b", "tenant-b", NOW, NOW)


class Crowd:
    """Workers that acquire slots as sweeps do: for A if it has room, else for B."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self.limiter = limiter
        self.held: Counter[TenantApp] = Counter()
        self._leave = {lease.tenant_app: asyncio.Semaphore(0) for lease in (A, B)}

    async def work(self, *leases: Lease) -> None:
        while True:
            async with self.limiter.acquire(lambda: next(filter(self._has_room, leases), None)) as lease:
                if lease:
                    self.held[lease.tenant_app] += 1
                    try:
                        await self._leave[lease.tenant_app].acquire()
                    finally:
                        self.held[lease.tenant_app] -= 1
                    continue
            await self.limiter.wait_for_change()

    def _has_room(self, lease: Lease) -> bool:
        return self.limiter.has_room(lease.tenant_app)

    async def let_go(self, lease: Lease, times: int = 1) -> None:
        for _ in range(times):
            self._leave[lease.tenant_app].release()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


class TestShare:
    async def test_tenant_alone_has_all_slots(self) -> None:
        crowd = Crowd(ConcurrencyLimiter(8))
        with crowd.limiter.sharing_with([A.tenant_app, A.tenant_app]):
            tasks = [asyncio.create_task(crowd.work(A)) for _ in range(20)]
            await settled()
            assert crowd.held == {A.tenant_app: 8}
            await end(tasks)

    async def test_tenant_has_three_quarters_beside_another_however_many_sweeps_run(self) -> None:
        crowd = Crowd(ConcurrencyLimiter(8))
        with crowd.limiter.sharing_with([A.tenant_app]), crowd.limiter.sharing_with([A.tenant_app, B.tenant_app]):
            tasks = [asyncio.create_task(crowd.work(A)) for _ in range(20)]
            tasks += [asyncio.create_task(crowd.work(A, B)) for _ in range(20)]
            await settled()
            assert crowd.held == {A.tenant_app: 6, B.tenant_app: 2}  # three quarters of 8, and the rest
            await crowd.let_go(A, 5)
            assert crowd.held == {A.tenant_app: 6, B.tenant_app: 2}
            await end(tasks)

    async def test_worker_gets_room_as_soon_as_the_other_tenant_is_gone(self) -> None:
        crowd = Crowd(ConcurrencyLimiter(4))
        with crowd.limiter.sharing_with([A.tenant_app]):
            with crowd.limiter.sharing_with([B.tenant_app]):
                tasks = [asyncio.create_task(crowd.work(A)) for _ in range(9)]
                await settled()
                assert crowd.held == {A.tenant_app: 3}  # three quarters of 4
            await settled()
            assert crowd.held == {A.tenant_app: 4}
            await end(tasks)


class TestRelease:
    @pytest.mark.parametrize("seed", range(10), ids="seed {}".format)
    async def test_cancelled_workers_lose_no_slot(self, seed: int) -> None:
        random, limiter = Random(seed), ConcurrencyLimiter(3)
        with limiter.sharing_with([A.tenant_app]):
            crowd = Crowd(limiter)
            tasks = [asyncio.create_task(crowd.work(A)) for _ in range(30)]
            for task in random.sample(tasks, 30):
                if random.random() < 0.5:
                    await crowd.let_go(A)
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.wait(tasks)

            again = Crowd(limiter)
            tasks = [asyncio.create_task(again.work(A)) for _ in range(5)]
            await settled()
            assert again.held == {A.tenant_app: 3}
            await end(tasks)

    async def test_nothing_is_kept_of_tenants_whose_sweep_is_over(self) -> None:
        limiter = ConcurrencyLimiter(4)
        for number in range(100):
            lease = Lease(f"call-{number}", f"tenant-{number}", NOW, NOW)
            with limiter.sharing_with([lease.tenant_app]):
                async with limiter.acquire(partial(next, iter([lease]))):
                    pass

        assert not limiter._in_use
        assert not limiter._active
