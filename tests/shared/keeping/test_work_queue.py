"""Who is next in a sweep."""

import asyncio
from collections import Counter
from random import Random

import pytest

from shared.domain.leases import Lease, TenantApp
from shared.keeping.work_queue import LeaseBudget, LeaseReservation, TenantFairQueue
from tests.support.stores import NOW


def lease(number: int, tenant: str) -> Lease:
    return Lease(f"call-{number:03}", tenant, NOW, NOW)


def taken(line: TenantFairQueue) -> list[str]:
    return [lease.call_id for _ in range(len(line)) if (lease := line.pop())]


def test_with_room_for_all_the_order_is_kept() -> None:
    leases = [lease(number, "ab"[number % 2]) for number in range(10)]
    line = TenantFairQueue(leases, lambda _account: True)
    assert taken(line) == [each.call_id for each in leases]
    assert not line
    assert line.pop() is None


def test_a_tenant_without_room_is_passed_over_and_goes_first_when_there_is_room_again() -> None:
    full = {("a", None)}
    line = TenantFairQueue(
        [lease(number, "aab"[number % 3]) for number in range(6)], lambda account: account not in full
    )

    assert taken(line) == ["call-002", "call-005"]
    assert len(line) == 4
    full.clear()
    assert taken(line) == ["call-000", "call-001", "call-003", "call-004"]


@pytest.mark.parametrize("seed", range(20))
def test_each_is_taken_once_and_within_a_tenant_in_order(seed: int) -> None:
    random = Random(seed)
    leases = [lease(number, random.choice("abc")) for number in range(60)]
    line = TenantFairQueue(leases, lambda _account: random.random() < 0.5)
    order: dict[TenantApp, list[str]] = {}
    while line:
        if one := line.pop():
            order.setdefault(one.tenant_app, []).append(one.call_id)
            assert {each.call_id for each in line.remaining()}.isdisjoint(order[one.tenant_app])

    assert Counter(call_id for ids in order.values() for call_id in ids) == Counter(each.call_id for each in leases)
    assert all(ids == sorted(ids) for ids in order.values())


async def test_a_shard_is_read_when_few_of_those_at_hand_are_not_done() -> None:
    hand, read = LeaseBudget(3), []

    async def sweep(number: int) -> LeaseReservation:
        async with hand.wait_for_capacity():
            read.append(number)
            return hand.reserve(4)

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


def test_those_that_are_put_back_are_left() -> None:
    line = TenantFairQueue([lease(number, "a") for number in range(3)], lambda _account: True)
    first = line.pop()
    assert first
    line.requeue([first])
    assert {each.call_id for each in line.remaining()} == {"call-000", "call-001", "call-002"}
