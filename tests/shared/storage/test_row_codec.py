"""Every record survives Table Storage: as columns in a pure property, and through Azurite with hard cases."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.calls import Call, Event, Hangup, Operation, Termination, TerminationSource
from shared.domain.leases import Lease, Progress, RenewalFailure, Watermark
from shared.storage import row_codec
from shared.storage.row_codec import (
    MAX_REASON_LENGTH,
    SWEEP_COLUMNS,
    readable_lease,
    to_call,
    to_event,
    to_lease,
    to_operation,
    to_progress,
    to_row,
    to_watermark,
)
from shared.storage.rows import call_key, recent_key
from shared.storage.table import MAX_TEXT_LENGTH

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ENTITY = 1 << 20  # Table Storage: bytes of a row; two for each UTF-16 unit of a text

NOW = datetime(2026, 3, 2, 8, 0, 0, 123456, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
keys = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="|/\\#?%"), min_size=1, max_size=20
)
numbers = st.integers(-(10**30), 10**30)
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=8))])
times = st.datetimes(datetime(1602, 1, 1), datetime(9000, 1, 1), timezones=zones)  # noqa: DTZ001 (bounds must be naive)
failings = st.builds(
    RenewalFailure,
    times,
    st.integers(0, 10**6),
    times,
    texts,
    st.none() | numbers,
    st.none() | numbers,
    st.booleans(),
)
calls = st.builds(
    Call,
    id=keys,
    tenant_id=texts.filter(bool),
    state=texts,
    known_at=times,
    started_at=times,
    registered_at=st.none() | times,
    ever_established=st.booleans(),
    direction=st.none() | texts,
    call_chain_id=st.none() | texts,
    metadata=st.dictionaries(texts, texts, max_size=4),
    renewed_at=st.none() | times,
    failing=st.none() | failings,
    hangup=st.none() | st.builds(Hangup, times, texts, st.booleans()),
    ended_at=st.none() | times,
    termination=st.none()
    | st.builds(
        Termination,
        source=st.sampled_from(TerminationSource),
        reason=texts,
        category=texts,
        code=st.none() | numbers,
        subcode=st.none() | numbers,
        raw_code=st.none() | texts,
        raw_subcode=st.none() | texts,
        message=st.none() | texts,
        message_truncated=st.booleans(),
    ),
    app_id=st.none() | texts,
    relay_to=st.none() | texts,
    relay_sequence=st.none() | numbers,
    end_revision=st.none() | st.integers(1, 2**31 - 1),
)
operations = st.builds(
    Operation,
    id=keys,
    call_id=keys,
    kind=texts,
    status=texts,
    known_at=times,
    client_context=st.none() | texts,
    requested_at=st.none() | times,
    requested_by=st.none() | texts,
    finished_at=st.none() | times,
    code=st.none() | numbers,
    subcode=st.none() | numbers,
    message=st.none() | texts,
    completion_reason=st.none() | texts,
    recording_location=st.none() | texts,
    recording_access_token=st.none() | texts,
    raw_code=st.none() | texts,
    raw_subcode=st.none() | texts,
)
events = st.builds(
    Event,
    kind=texts,
    at=times,
    detail=st.dictionaries(texts, texts | numbers | st.booleans() | st.none(), max_size=4),
    from_notification=st.booleans(),
)
counts = st.integers(0, 2**31 - 1)
some_ids = st.frozensets(keys, max_size=50)
watermarks = st.builds(Watermark, times, times, counts, counts, counts, some_ids)
places = st.none() | st.tuples(times, times, keys)
progresses = st.builds(Progress, times, st.none() | times, places, counts, counts, counts, some_ids)

LARGEST = Call(
    "a",
    "tenant",
    "established",
    NOW,
    NOW,
    metadata={"\x00": "\x01" * 16_000},  # the API takes 16 kB
    failing=RenewalFailure(NOW, 1, NOW, "\x01" * MAX_REASON_LENGTH),
    ended_at=NOW,
    termination=Termination(TerminationSource.NOTIFICATION, "reason", "category", message="\U0001f600" * 32_768),
    app_id="app",
)


STORED_ELSEWHERE = {  # fields that have no column of their own
    Call: {"id", "unreadable"},  # the key; what reading found
    Operation: {"id", "call_id", "unreadable"},
    Progress: {"cursor"},  # three columns
}


@pytest.mark.parametrize("record", [Call, *row_codec._COLUMNS], ids=lambda record: record.__name__)
def test_each_field_of_a_record_has_one_column(record: "type[DataclassInstance]") -> None:
    columns = row_codec._CALL if record is Call else row_codec._COLUMNS[record]
    names = [column.name for column in columns]
    stored = [column.field for column in columns]
    assert sorted(set(names)) == sorted(names)
    assert sorted(stored) == sorted({each.name for each in fields(record)} - STORED_ELSEWHERE.get(record, set()))


def fits(row: dict[str, object]) -> bool:
    units = [len(value.encode("utf-16-le")) // 2 for value in row.values() if isinstance(value, str)]
    return all(size <= MAX_TEXT_LENGTH for size in units) and 2 * sum(units) < ENTITY


@given(calls)
@example(LARGEST)
@example(replace(LARGEST, metadata={"quote": "'\"\\", "": ""}, termination=None))
def test_a_call_comes_back_as_it_was_written(call: Call) -> None:
    row = to_row(call)
    assert fits(row)
    assert to_call({**row, "RowKey": call_key(call)}) == call
    if call.ended_at:
        assert to_call({**row, "RowKey": recent_key(call.ended_at, call.id)}) == call


def test_a_call_that_is_not_relayed_has_no_column_of_the_relay() -> None:
    row = to_row(replace(LARGEST, ended_at=None))
    assert {"relayTo", "relaySequence", "endRevision"}.isdisjoint(row)
    assert "at_risk" not in f"{row['lease']}{row['failing']}"


@given(calls)
@example(LARGEST)
def test_a_lease_needs_only_its_columns_and_takes_none_for_a_missing_one(call: Call) -> None:
    call = replace(call, ended_at=None)
    row: dict[str, object] = {**to_row(call), "RowKey": f"active|{call.id}"}
    assert to_lease({name: row.get(name) for name in SWEEP_COLUMNS}) == call.lease


def test_a_reason_that_is_too_long_is_cut_rather_than_lost() -> None:
    call = Call("a", "tenant", "established", NOW, NOW, failing=RenewalFailure(NOW, 1, NOW, "x" * 99_999))
    lease: Lease = to_lease({**to_row(call), "RowKey": "active|a"})
    assert lease.failing is not None
    assert lease.failing.reason == "x" * MAX_REASON_LENGTH


@given(operations)
@example(Operation("o", "a", "record", "completed", NOW, message="'" * 32_768, recording_access_token="t" * 40_000))
def test_an_operation_comes_back_as_it_was_written(operation: Operation) -> None:
    row = to_row(operation)
    assert fits(row)
    assert to_operation({**row, "RowKey": f"operation|{operation.call_id}|{operation.id}"}) == operation


@given(events)
def test_an_event_comes_back_as_it_was_written(event: Event) -> None:
    assert to_event(to_row(event)) == event


@given(watermarks)
def test_a_watermark_comes_back_as_it_was_written(watermark: Watermark) -> None:
    assert to_watermark(to_row(watermark)) == watermark


@given(progresses)
def test_progress_comes_back_as_it_was_written(progress: Progress) -> None:
    assert to_progress(to_row(progress)) == progress


def test_a_damaged_row_is_still_a_call_to_renew_and_goes_first(caplog: pytest.LogCaptureFixture) -> None:
    whole = {**to_row(LARGEST), "RowKey": "active|call"}
    assert LARGEST.app_id is not None
    whole_lease = str(to_row(replace(LARGEST, ended_at=None))["lease"])
    without_offset, of_no_time = (
        whole_lease.replace("08:00:00.123456Z", "08:00:00"),
        whole_lease.replace("2026", "9999"),
    )
    for damage in (None, "{", "[]", '{"call_id": "call"}', without_offset, of_no_time):
        lease = readable_lease({**whole, "lease": damage})
        assert lease is not None
        assert (lease.call_id, lease.tenant_id, lease.app_id) == ("call", LARGEST.tenant_id, LARGEST.app_id)
        assert lease.started_at < NOW - timedelta(days=365)
    assert len(caplog.records) == 6
    assert readable_lease({"RowKey": "active|call"}) is None
