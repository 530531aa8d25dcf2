"""Checks what the checker relies on. A mistake here reports violations that are none, or misses some."""

from datetime import UTC, datetime

import pytest

from shared.domain.calls import Call, Event, Status
from shared.storage.store import CallStore, Change
from soak.backoff_checker import CLOCK_RESOLUTION, MAX_EARLY, BackoffChecker
from soak.virtual_storage import CallWrite, CheckedTable

NOW = datetime(2026, 3, 2, tzinfo=UTC)
CALL_ID = "3f600652-67c7-2623-5f3a-da524cf104f7"
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"


def count_early(retry_after: float, *, sent_after: float) -> int:
    """Send `MAX_EARLY` + 1 keepAlives so many seconds after a 429. Return how many of them are early."""
    at, early = 100.0, list[int]()
    checker = BackoffChecker(lambda: at, early.append)
    checker.record_throttle(TENANT, retry_after)
    at += sent_after
    for _ in range(MAX_EARLY + 1):
        checker.record_send(TENANT)
    return len(early)


@pytest.mark.parametrize(
    "sent_after",
    [
        pytest.param(2 - CLOCK_RESOLUTION / 2, id="within the resolution of the clock"),
        pytest.param(2.0, id="on time"),
        pytest.param(3.0, id="later"),
    ],
)
def test_a_keep_alive_after_the_wait_is_not_early(sent_after: float) -> None:
    assert count_early(2, sent_after=sent_after) == 0


def test_a_keep_alive_during_the_wait_is_early() -> None:
    assert count_early(2, sent_after=1.9) == MAX_EARLY + 1


def test_a_wait_of_no_seconds_makes_nothing_early() -> None:
    assert count_early(0, sent_after=0) == 0


async def test_a_change_that_writes_nothing_is_not_reported() -> None:
    reported: list[CallWrite] = []
    store = CallStore(CheckedTable(reported.append, lambda *_: None))
    call = Call(id=CALL_ID, tenant_id=TENANT, state="established", known_at=NOW, started_at=NOW)
    event = Event("callNotified", NOW, {"state": "established"}, from_notification=True)
    await store.commit(Change(None, call, (event,)))
    await store.commit(Change(await store.get(CALL_ID), call, (event,)))
    assert [(write.call, write.before, write.events[1:]) for write in reported] == [(call, None, (event,))]


async def test_a_change_that_adds_only_an_event_is_reported() -> None:
    reported: list[CallWrite] = []
    store = CallStore(CheckedTable(reported.append, lambda *_: None))
    call = Call(id=CALL_ID, tenant_id=TENANT, state="established", known_at=NOW, started_at=NOW)
    event = Event("callNotified", NOW, {}, from_notification=True)
    await store.commit(Change(None, call))
    await store.commit(Change(await store.get(CALL_ID), call, (event,)))
    assert [write.before for write in reported] == [None, Status.ACTIVE]
