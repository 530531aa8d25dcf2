"""Rows that are damaged, or that a newer version wrote: what is read of them, and that no write loses any of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.api.views import EventView, call_view, operation_view
from shared.domain.calls import Call, Event, Hangup, Operation, Termination, TerminationSource
from shared.domain.leases import RenewalFailure, Timing, Watermark
from shared.errors import RowUnreadable
from shared.storage import row_codec
from shared.storage.row_codec import SWEEP_COLUMNS, readable_lease, to_call, to_event, to_operation, to_row, update_row
from shared.storage.rows import call_key, recent_key
from shared.storage.table import Row

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
ACTIVE = Call(
    "a-call",
    "a-tenant",
    "established",
    NOW,
    NOW,
    registered_at=NOW,
    metadata={"queue": "support"},
    renewed_at=NOW,
    failing=RenewalFailure(NOW, 2, NOW, "unavailable", 503),
    hangup=Hangup(NOW, "somebody"),
    app_id="an-app",
)
ENDED = replace(
    ACTIVE,
    state="terminated",
    failing=None,
    ended_at=NOW,
    termination=Termination(TerminationSource.NOTIFICATION, "The bot ended it.", "byBot", 200, 7000),
)
OPERATION = Operation(
    "an-operation", "a-call", "recordOperation", "running", NOW, requested_at=NOW, requested_by="somebody", code=200
)
NAIVE, TOO_LATE = "2026-03-02T08:00:00", "9999-12-31T23:59:59Z"
JUNK: tuple[object, ...] = (
    *("", "{", "[]", "{}", '"text"', "null", "5", "abc", "[" * 5_000, '{"a": 1}', r'{"a": "\ud800"}', "\ud800"),
    *(f'{{"since": "{time}", "attempts": 1, "retry_at": "{time}", "reason": "x"}}' for time in (NAIVE, TOO_LATE)),
    *(None, True, 7, -1, 2**40, 1.5, b"\0", datetime(9999, 12, 31, tzinfo=UTC), datetime(1601, 1, 1, tzinfo=UTC)),
)
unhurried = settings(deadline=None)  # a machine that is busy fails no test
junk = st.sampled_from(JUNK) | st.text(max_size=5)


def row_of(record: Call | Operation) -> dict[str, object]:
    key = call_key(record) if isinstance(record, Call) else f"operation|{record.call_id}|{record.id}"
    return {**to_row(record), "PartitionKey": "00", "RowKey": key}


def shown(call: Call) -> Any:  # noqa: ANN401 (JSON)
    view = call_view(call, Watermark(NOW, NOW), Timing(), NOW + timedelta(minutes=5))
    return json.loads(view.model_dump_json(by_alias=True))


class TestDamage:
    @unhurried
    @given(st.sampled_from([ACTIVE, ENDED]), st.data())
    def test_a_call_can_be_shown_or_is_refused_by_name(self, call: Call, data: st.DataObject) -> None:
        row = row_of(call)
        names = data.draw(st.sets(st.sampled_from([*to_row(ENDED), *to_row(ACTIVE), "message"]), min_size=1))
        row |= {name: data.draw(junk) for name in sorted(names)}
        try:
            found = to_call(row)
        except RowUnreadable:
            assert names & {"tenantId", "endedAt"}
            assert call.ended_at or names >= {"tenantId", "lease"}
            return
        assert set(found.unreadable) <= names
        assert shown(found)["unreadable"] == list(found.unreadable)

    @unhurried
    @given(st.data())
    def test_the_lease_of_a_call_can_be_compared_with_others_or_is_none(self, data: st.DataObject) -> None:
        row = {name: row_of(ACTIVE).get(name) for name in SWEEP_COLUMNS}
        whole = str(row["lease"])
        lease = junk | st.sampled_from([whole.replace(NAIVE + "Z", other) for other in (NAIVE, TOO_LATE)])
        row |= {"lease": data.draw(lease), "tenantId": data.draw(junk | st.just("a-tenant"))}
        if found := readable_lease(row):
            found.sweep_position(Watermark(NOW, NOW), Timing())
            found.expires_at(Watermark(NOW, NOW), Timing())
        else:
            assert not isinstance(row["tenantId"], str) or not row["tenantId"]

    @unhurried
    @given(st.data())
    def test_an_operation_can_be_shown(self, data: st.DataObject) -> None:
        names = data.draw(st.sets(st.sampled_from([*to_row(OPERATION), "subcode", "finishedAt"]), min_size=1))
        found = to_operation(row_of(OPERATION) | {name: data.draw(junk) for name in sorted(names)})
        assert set(found.unreadable) <= names
        operation_view(found, ACTIVE).model_dump_json()

    @unhurried
    @given(st.data())
    def test_an_event_can_be_shown(self, data: st.DataObject) -> None:
        row: dict[str, object] = {**to_row(Event("firstSeen", NOW, {"by": "x"})), "RowKey": "event|a-call|first"}
        names = data.draw(st.sets(st.sampled_from(["kind", "at", "detail", "told"]), min_size=1))
        found = to_event(row | {name: data.draw(junk) for name in sorted(names)})
        assert EventView.model_validate(found).model_dump_json()
        assert found.digest

    @unhurried
    @given(st.data())
    @pytest.mark.parametrize(
        "read", [row_codec.to_watermark, row_codec.to_progress, row_codec.to_watchdog_state, row_codec.to_signing_key]
    )
    def test_the_rows_of_a_shard_are_read_or_count_as_none(
        self, read: Callable[[Row], object], data: st.DataObject
    ) -> None:
        times = ("sweepStartedAt", "finishedAt", "startedAt", "under", "afterDeadline", "afterBegan", "due")
        columns = (*times, "sweepBeganAt", "afterId", "renewed", "ended", "failing", "unwritten", "key")
        row = dict.fromkeys(times, NOW) | {
            name: data.draw(junk) for name in data.draw(st.sets(st.sampled_from(columns)))
        }
        row_codec.read_or_none(read, row)

    @pytest.mark.parametrize("name", ["fingerprint", "beganAt", "answered"])
    def test_an_idempotency_record_is_read_whole_or_not_at_all(self, name: str) -> None:
        row: dict[str, object] = {"RowKey": "idempotency|a-call|key", "fingerprint": "f", "beganAt": NOW}
        assert row_codec.to_idempotency_record(row).fingerprint == "f"
        with pytest.raises(RowUnreadable, match="idempotency"):
            row_codec.to_idempotency_record(row | {name: "{" if name == "answered" else None})

    def test_the_key_of_the_row_in_the_list_gives_the_end_of_a_call(self) -> None:
        row = row_of(ENDED) | {"endedAt": "soon"}
        with pytest.raises(RowUnreadable):
            to_call(row)
        found = to_call(row | {"RowKey": recent_key(NOW, "a-call")})
        assert (found.ended_at, found.unreadable) == (NOW, ("endedAt",))

    def test_an_operation_whose_key_names_none_is_left_out(self) -> None:
        assert row_codec.readable_operation(row_of(OPERATION) | {"RowKey": "operation|a-call|a|b"}) is None

    def test_it_is_logged_by_kind_and_column_and_not_without_bound(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(200):
            to_call(row_of(ENDED) | {"RowKey": recent_key(NOW, "a-call"), "metadata": "{"})
        lines = [vars(record) for record in caplog.records]
        assert 0 < len(lines) <= 30
        assert {(line["event"], line["rowKind"], line["columns"]) for line in lines} == {
            ("store.row.unreadable", "recent", "metadata")
        }


class TestNewerVersion:
    """A deployment went back to this version, and forward again later."""

    NEWER_END = '{"source": "bySignal", "reason": "New words.", "category": "byBot", "code": 200, "faultOwner": "bot"}'

    def test_a_source_that_is_not_known_yet_is_shown_as_unknown_with_the_rest_of_the_account(self) -> None:
        end = shown(to_call(row_of(ENDED) | {"termination": self.NEWER_END}))["termination"]
        assert (end["source"], end["reason"], end["code"]) == ("unknown", "New words.", 200)

    def test_what_is_not_known_is_written_back_as_it_was(self) -> None:
        row = row_of(ACTIVE) | {"region": "weu", "rank": 7, "seenAt": NOW, "rowVersion": 2}
        row["failing"] = str(row["failing"])[:-1] + ', "action": "wait"}'
        written = update_row(row, to_call(row), replace(to_call(row), state="hold"))
        assert written == {
            **{name: row[name] for name in row if name not in {"PartitionKey", "RowKey"}},
            "state": "hold",
        }

    def test_unknown_members_of_lease_and_hangup_outlive_a_change_of_these(self) -> None:
        row = row_of(ACTIVE)
        for name in ("lease", "hangup"):
            row[name] = str(row[name])[:-1] + ', "rank": 7}'
        call = to_call(row)
        assert call.hangup is not None
        changed = replace(
            call, failing=None, renewed_at=NOW + timedelta(hours=1), hangup=replace(call.hangup, not_found=True)
        )
        written = update_row(row, call, changed)
        lease, hangup = (json.loads(str(written[name])) for name in ("lease", "hangup"))
        assert (lease["rank"], lease["renewed_at"], "failing" in lease) == (7, "2026-03-02T09:00:00Z", False)
        assert (hangup["rank"], hangup["not_found"], hangup["requested_by"]) == (7, True, "somebody")
        assert "failing" not in written

    @pytest.mark.parametrize("metadata", ["{", '{"a": 1}', "x" * 40], ids=["half an object", "a number", "no JSON"])
    def test_what_cannot_be_read_stays_as_it_is_when_the_call_ends(self, metadata: str) -> None:
        row = row_of(ACTIVE) | {"metadata": metadata, "metadata2": "more", "hangup": '{"by": "two"}', "plan": "b"}
        call = to_call(row)
        assert call.unreadable == ("metadata", "hangup")
        end = replace(ENDED, metadata={"new": "x" * 40_000}, hangup=Hangup(NOW, "other"), unreadable=call.unreadable)
        written = update_row(row, call, end)
        assert (written["metadata"], written["metadata2"], "metadata3" in written) == (metadata, "more", False)
        assert (written["hangup"], written["plan"]) == ('{"by": "two"}', "b")
        assert (written["endedAt"], written["state"], "lease" in written) == (NOW, "terminated", False)

    def test_an_account_of_the_end_that_cannot_be_read_is_not_replaced_by_a_later_one(self) -> None:
        row = row_of(ENDED) | {"termination": self.NEWER_END}
        found = to_call(row)
        later = replace(found, termination=Termination(TerminationSource.NOTIFICATION, "Other.", "network", 500, 1))
        assert update_row(row, found, later)["termination"] == self.NEWER_END

    @pytest.mark.parametrize(
        "failing", ["{", '{"since": "2026-03-02T08:00:00"}'], ids=["half an object", "a time without offset"]
    )
    def test_the_state_of_renewals_is_made_anew(self, failing: str) -> None:
        row = row_of(ACTIVE) | {"failing": failing, "lease": "{", "renewedAt": "soon"}
        found = to_call(row)
        again = replace(found, failing=RenewalFailure(NOW, 1, NOW, "throttled"), renewed_at=NOW)
        written = {**update_row(row, found, again), "RowKey": row["RowKey"]}
        assert to_call(written) == replace(again, unreadable=())
        assert readable_lease(written) == again.lease

    @unhurried
    @given(st.sampled_from([ACTIVE, ENDED]), st.sampled_from([ACTIVE, ENDED]), st.booleans())
    def test_a_row_of_this_version_is_written_as_if_there_were_none(
        self, before: Call, after: Call, drop: bool
    ) -> None:
        after = replace(after, metadata={} if drop else {"long": "x" * 40_000})
        before = replace(before, metadata={} if not drop else {"long": "x" * 40_000})
        assert update_row(row_of(before), before, after) == to_row(after)

    def test_an_operation_keeps_what_is_not_known_too(self) -> None:
        row = row_of(OPERATION) | {"quality": "hd", "code": "abc"}
        operation = to_operation(row)
        assert operation.unreadable == ("code",)
        written = update_row(row, operation, replace(operation, status="completed", code=500, finished_at=NOW))
        assert (written["quality"], written["code"], written["status"]) == ("hd", "abc", "completed")
