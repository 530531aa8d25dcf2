"""What the judge goes by is read rightly: where it is not, it accuses the innocent, or overlooks a fault."""

from datetime import UTC, datetime

import pytest

from shared.domain.calls import Call, Event, Status
from shared.storage.store import CallStore, Change
from soak.manners import INSTANT, MOST_EARLY, Manners
from soak.storage import CallWrite, JudgedTable

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CALL_ID = "3f600652-67c7-2623-5f3a-da524cf104f7"
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"


class Watch:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at


def early(seconds: float, *, asks_after: float) -> int:
    watch, told = Watch(), list[int]()
    manners = Manners(watch.now, told.append)
    manners.throttled(TENANT, seconds)
    watch.at += asks_after
    for _ in range(MOST_EARLY + 1):
        manners.sends(TENANT)
    return len(told)


@pytest.mark.parametrize("asks_after", [2 - INSTANT / 2, 2.0, 3.0])
def test_who_wakes_on_time_is_not_early(asks_after: float) -> None:
    assert early(2, asks_after=asks_after) == 0


def test_who_wakes_before_is_early() -> None:
    assert early(2, asks_after=1.9) == MOST_EARLY + 1


def test_a_wait_of_no_seconds_is_none() -> None:
    assert early(0, asks_after=0) == 0


async def test_of_a_change_that_writes_nothing_nothing_is_told() -> None:
    told: list[CallWrite] = []
    store = CallStore(JudgedTable(told.append, lambda *_: None))
    call = Call(id=CALL_ID, tenant_id=TENANT, state="established", known_at=NOW, started_at=NOW)
    event = Event("callNotified", NOW, {"state": "established"}, from_notification=True)
    await store.commit(Change(None, call, (event,)))
    await store.commit(Change(await store.get(CALL_ID), call, (event,)))
    assert [(write.call, write.before, write.events[1:]) for write in told] == [(call, None, (event,))]


async def test_of_a_change_that_adds_an_event_alone_is_told() -> None:
    told: list[CallWrite] = []
    store = CallStore(JudgedTable(told.append, lambda *_: None))
    call = Call(id=CALL_ID, tenant_id=TENANT, state="established", known_at=NOW, started_at=NOW)
    await store.commit(Change(None, call))
    await store.commit(
        Change(await store.get(CALL_ID), call, (Event("callNotified", NOW, {}, from_notification=True),))
    )
    assert [write.before for write in told] == [None, Status.ACTIVE]
