"""The order in which leases are taken, and how many are in memory."""

import asyncio
from collections import Counter
from random import Random

import pytest

from shared.domain.leases import Lease, TenantApp
from shared.keeping.work_queue import LeaseBudget, LeaseReservation, TenantFairQueue
from tests.support.stores import NOW


def lease(number: int, tenant: str) -> Lease:
    return Lease(f"call-{number:03}", tenant, NOW, NOW)


def taken(queue: TenantFairQueue) -> list[str]:
    return [lease.call_id for _ in range(len(queue)) if (lease := queue.pop())]


class TestTenantFairQueue:
    def test_keeps_the_order_while_all_have_room(self) -> None:
        leases = [lease(number, "ab"[number % 2]) for number in range(10)]
        queue = TenantFairQueue(leases, lambda _tenant_app: True)
        assert taken(queue) == [each.call_id for each in leases]
        assert not queue
        assert queue.pop() is None

    def test_passes_over_a_tenant_without_room_which_goes_first_later(self) -> None:
        full = {("a", None)}
        queue = TenantFairQueue(
            [lease(number, "aab"[number % 3]) for number in range(6)], lambda tenant_app: tenant_app not in full
        )

        assert taken(queue) == ["call-002", "call-005"]
        assert len(queue) == 4
        full.clear()
        assert taken(queue) == ["call-000", "call-001", "call-003", "call-004"]

    @pytest.mark.parametrize("seed", range(20), ids="seed {}".format)
    def test_takes_each_once_and_within_a_tenant_in_order(self, seed: int) -> None:
        random = Random(seed)
        leases = [lease(number, random.choice("abc")) for number in range(60)]
        queue = TenantFairQueue(leases, lambda _tenant_app: random.random() < 0.5)
        order: dict[TenantApp, list[str]] = {}
        while queue:
            if one := queue.pop():
                order.setdefault(one.tenant_app, []).append(one.call_id)
                assert {each.call_id for each in queue.remaining()}.isdisjoint(order[one.tenant_app])

        assert Counter(call_id for ids in order.values() for call_id in ids) == Counter(each.call_id for each in leases)
        assert all(ids == sorted(ids) for ids in order.values())

    def test_what_is_put_back_remains(self) -> None:
        queue = TenantFairQueue([lease(number, "a") for number in range(3)], lambda _tenant_app: True)
        first = queue.pop()
        assert first
        queue.requeue([first])
        assert {each.call_id for each in queue.remaining()} == {"call-000", "call-001", "call-002"}


class TestLeaseBudget:
    async def test_lets_a_shard_be_read_while_few_leases_are_outstanding(self) -> None:
        budget, read = LeaseBudget(3), []

        async def sweep(number: int) -> LeaseReservation:
            async with budget.wait_for_capacity():
                read.append(number)
                return budget.reserve(4)

        sweeps = [asyncio.create_task(sweep(number)) for number in range(3)]
        first = await sweeps[0]
        await asyncio.sleep(0)
        assert read == [0]

        for left in (3, 2):
            first.release_one()
            await asyncio.sleep(0.01)
            assert read == ([0] if left == 3 else [0, 1])
        first.release()
        second = await sweeps[1]
        await asyncio.sleep(0.01)
        assert read == [0, 1]
        second.release()
        await sweeps[2]
        assert read == [0, 1, 2]
