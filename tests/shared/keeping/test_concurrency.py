"""How tenants share the requests in flight."""

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
    """Asks for slots as sweeps do: for A where it has room, else for B."""

    def __init__(self, slots: ConcurrencyLimiter) -> None:
        self.slots = slots
        self.held: Counter[TenantApp] = Counter()
        self._leave = {lease.tenant_app: asyncio.Semaphore(0) for lease in (A, B)}

    async def work(self, *leases: Lease) -> None:
        while True:
            async with self.slots.acquire(lambda: next(filter(self._has_room, leases), None)) as lease:
                if lease:
                    self.held[lease.tenant_app] += 1
                    try:
                        await self._leave[lease.tenant_app].acquire()
                    finally:
                        self.held[lease.tenant_app] -= 1
                    continue
            await self.slots.wait_for_change()

    def _has_room(self, lease: Lease) -> bool:
        return self.slots.has_room(lease.tenant_app)

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


async def test_a_tenant_alone_has_all_slots() -> None:
    crowd = Crowd(ConcurrencyLimiter(8))
    with crowd.slots.sharing_with([A.tenant_app, A.tenant_app]):
        tasks = [asyncio.create_task(crowd.work(A)) for _ in range(20)]
        await settled()
        assert crowd.held == {A.tenant_app: 8}
        await end(tasks)


async def test_beside_another_a_tenant_has_its_share_however_many_sweeps_run() -> None:
    crowd = Crowd(ConcurrencyLimiter(8))
    with crowd.slots.sharing_with([A.tenant_app]), crowd.slots.sharing_with([A.tenant_app, B.tenant_app]):
        tasks = [asyncio.create_task(crowd.work(A)) for _ in range(20)]
        tasks += [asyncio.create_task(crowd.work(A, B)) for _ in range(20)]
        await settled()
        assert crowd.held == {A.tenant_app: 6, B.tenant_app: 2}
        await crowd.let_go(A, 5)
        assert crowd.held == {A.tenant_app: 6, B.tenant_app: 2}
        await end(tasks)


async def test_who_waits_for_room_is_told_as_soon_as_the_other_tenant_is_gone() -> None:
    crowd = Crowd(ConcurrencyLimiter(4))
    with crowd.slots.sharing_with([A.tenant_app]):
        with crowd.slots.sharing_with([B.tenant_app]):
            tasks = [asyncio.create_task(crowd.work(A)) for _ in range(9)]
            await settled()
            assert crowd.held == {A.tenant_app: 3}
        await settled()
        assert crowd.held == {A.tenant_app: 4}
        await end(tasks)


@pytest.mark.parametrize("seed", range(10))
async def test_whoever_gives_up_no_slot_is_lost(seed: int) -> None:
    random, slots = Random(seed), ConcurrencyLimiter(3)
    with slots.sharing_with([A.tenant_app]):
        crowd = Crowd(slots)
        tasks = [asyncio.create_task(crowd.work(A)) for _ in range(30)]
        for task in random.sample(tasks, 30):
            if random.random() < 0.5:
                await crowd.let_go(A)
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

        again = Crowd(slots)
        tasks = [asyncio.create_task(again.work(A)) for _ in range(5)]
        await settled()
        assert again.held == {A.tenant_app: 3}
        await end(tasks)


async def test_nothing_is_kept_of_tenants_whose_sweep_is_over() -> None:
    slots = ConcurrencyLimiter(4)
    for number in range(100):
        lease = Lease(f"call-{number}", f"tenant-{number}", NOW, NOW)
        with slots.sharing_with([lease.tenant_app]):
            async with slots.acquire(partial(next, iter([lease]))):
                pass

    assert not slots._in_use
    assert not slots._active
