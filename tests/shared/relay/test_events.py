"""Our own events: which changes of a call cause which, with which data, and nothing secret in them."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import lifecycle
from shared.domain.calls import Call, Operation, TerminationSource
from shared.domain.deliveries import EVENT_TYPES
from shared.domain.leases import RenewalFailure
from shared.domain.notifications import CallNotification, OperationNotification, ResultInfo
from shared.relay.event_models import EVENT_MODELS, event_schema
from shared.relay.events import CallEvent, events_of_change, render, with_end_revision
from tests.shared.storage.test_row_codec import calls, operations

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ID, TENANT, APP = "57dab8b1-894c-409a-b240-bd8beae78896", "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11", "an-app"
SECRETS = ("https://location.example", "token-of-the-recording", "a message of Graph", "metadata of the bot")
ESTABLISHED = CallNotification(ID, deleted=False, state="established", direction="incoming")
FAILURE = RenewalFailure(NOON, 3, NOON + MINUTE, "throttled", 429)


def terminated(code: int | None = None, subcode: int | None = None, message: str | None = None) -> CallNotification:
    return CallNotification(ID, deleted=True, state="terminated", result=ResultInfo(code, subcode, message=message))


def recording(status: str | None, code: int | None = None, kind: str = "recordOperation") -> OperationNotification:
    return OperationNotification(
        *(ID, "op-1", kind),
        deleted=False,
        status=status,
        result=ResultInfo(code, message="a message of Graph"),
        client_context="greeting",
        recording_location="https://location.example",
        recording_access_token="token-of-the-recording",
    )


class Line:
    """One call, its operation, and the events of each of its changes."""

    def __init__(self, *notifications: CallNotification | OperationNotification) -> None:
        self.call: Call | None = None
        self.operation: Operation | None = None
        self.events: list[CallEvent] = []
        for each in notifications:
            self.notify(each)

    @property
    def known(self) -> Call:
        assert self.call is not None
        return self.call

    def notify(self, notification: CallNotification | OperationNotification) -> list[CallEvent]:
        call = lifecycle.notified(self.call, notification, TENANT, NOON, APP)
        if isinstance(notification, CallNotification):
            return self.change(call)
        known, self.operation = self.operation, lifecycle.operation_notified(self.operation, notification, NOON)
        return self.change(call, (known, self.operation))

    def change(self, call: Call, *operations: tuple[Operation | None, Operation]) -> list[CallEvent]:
        """Write a call as the planner of the outbox does, with the recordings on record if the change ends it."""
        before, self.call = self.call, with_end_revision(self.call, call)
        is_end = self.call.ended_at is not None and (before is None or before.ended_at is None)
        unfinished = [self.operation] if is_end and self.operation and not self.operation.is_finished else []
        made = list(events_of_change(before, self.call, operations, unfinished))
        self.events += made
        return made


def types(events: list[CallEvent]) -> list[str]:
    return [event.type for event in events]


def data_of(event: CallEvent) -> dict[str, object]:
    found: dict[str, object] = json.loads(render(event, "00-1-2", NOON))["data"]
    return found


class TestEstablished:
    @pytest.mark.parametrize("state", ["established", "hold", "transferring"])
    def test_is_published_once(self, state: str) -> None:
        line = Line(CallNotification(ID, deleted=False, state="establishing"))
        answered = CallNotification(ID, deleted=False, state=state)
        assert types(line.notify(answered)) == ["call.established"]
        assert line.notify(answered) == line.notify(ESTABLISHED) == []

    def test_is_published_after_the_end_too(self) -> None:
        line = Line(terminated(200, 5010))
        assert types(line.notify(ESTABLISHED)) == ["call.established"]

    def test_of_a_call_that_was_never_answered_is_not_published(self) -> None:
        assert types(Line(terminated(487, 0)).events) == ["call.ended"]


class TestEnded:
    def test_has_the_whole_explanation_and_the_revision_1(self) -> None:
        [_, ended] = Line(ESTABLISHED, terminated(200, 5010, "a message of Graph")).events
        assert ended.type == "call.ended"
        assert (
            data_of(ended).items()
            >= {
                "callId": ID,
                "tenantId": TENANT,
                "appId": APP,
                "direction": "incoming",
                "revision": 1,
                "endedAt": "2026-03-02T12:00:00Z",
                "everEstablished": True,
                "source": "notification",
                "code": 200,
                "subcode": 5010,
                "hungUpBy": None,
            }.items()
        )
        termination = Line(ESTABLISHED, terminated(200, 5010)).known.termination
        assert termination is not None
        shown = {"reason", "category", "action", "fault_owner", "retryable"}
        assert all(getattr(ended.data, name) == getattr(termination, name) for name in shown)

    def test_is_published_again_with_each_better_reason_and_not_with_others(self) -> None:
        line = Line(ESTABLISHED)
        gone = lifecycle.call_gone(line.known, TerminationSource.KEEP_ALIVE_NOT_FOUND, NOON)
        better_or_not = (terminated(), terminated(), terminated(200, 5010), terminated(), terminated(200, 5010))
        published = [line.change(gone), *map(line.notify, better_or_not)]
        assert [types(events) for events in published] == [["call.ended"], ["call.ended"], [], ["call.ended"], [], []]
        assert [data_of(event)["revision"] for events in published for event in events] == [1, 2, 3]
        assert [data_of(event)["source"] for events in published for event in events] == [
            *("keepAliveNotFound", "notification", "notification")
        ]
        assert line.known.end_revision == 3

    def test_of_a_call_that_ended_before_there_were_targets_begins_with_1(self) -> None:
        line = Line()
        line.call = lifecycle.notified(None, terminated(), TENANT, NOON)
        assert [data_of(event)["revision"] for event in line.notify(terminated(200, 5010))] == [1]

    def test_that_differs_only_in_the_message_is_not_published_again(self) -> None:
        line = Line(terminated(200, 5010))
        ended = line.known
        assert ended.termination is not None
        assert line.change(replace(ended, termination=replace(ended.termination, message="another"))) == []

    def test_of_a_hang_up_names_its_requester(self) -> None:
        line = Line(ESTABLISHED)
        line.change(lifecycle.hung_up(line.known, "function key", NOON, not_found=False))
        [ended] = line.notify(terminated(200, 5001))
        assert data_of(ended).items() >= {"hungUpBy": "function key", "category": "byBot", "faultOwner": "bot"}.items()

    def test_of_a_hang_up_that_graph_did_not_accept_names_nobody(self) -> None:
        line = Line(ESTABLISHED)
        line.change(lifecycle.hung_up(line.known, "function key", NOON, not_found=True))
        [ended] = line.notify(terminated(200, 5010))
        assert data_of(ended)["hungUpBy"] is None

    def test_with_a_reason_that_was_given_before_is_published_at_the_end_only(self) -> None:
        terminating = replace(terminated(200, 5010), deleted=False, state="terminating")
        line = Line(terminating)
        assert line.events == []
        assert [data_of(event)["subcode"] for event in line.notify(terminated())] == [5010]

    def test_that_cannot_be_read_is_not_published_with_each_notification(self) -> None:
        unreadable = replace(Line(terminated(487, 0)).known, unreadable=("termination",))
        better = lifecycle.notified(unreadable, terminated(200, 5010), TENANT, NOON)
        assert better.termination != unreadable.termination
        assert events_of_change(unreadable, better, [], []) == ()
        assert with_end_revision(unreadable, better) is better

    def test_raises_the_revision_only_once_for_one_change(self) -> None:
        before = Line(ESTABLISHED).known
        once = with_end_revision(before, lifecycle.notified(before, terminated(), TENANT, NOON))
        assert once.end_revision == 1
        assert with_end_revision(before, once) == once

    def test_of_an_active_call_there_is_none(self) -> None:
        before = Line(ESTABLISHED).known
        renewed = lifecycle.renewed(before, NOON)
        assert with_end_revision(before, renewed) is renewed
        assert events_of_change(before, renewed, [], []) == ()


class TestAtRisk:
    def test_is_published_once_until_a_keep_alive_succeeds(self) -> None:
        line = Line(ESTABLISHED)
        failing = [line.change(lifecycle.renewal_failed(line.known, FAILURE, NOON))]
        for _ in range(2):
            at_risk = replace(FAILURE, attempts=4, at_risk=True)
            failing.append(line.change(lifecycle.renewal_failed(line.known, at_risk, NOON)))
        assert [types(events) for events in failing] == [[], ["call.at_risk"], []]
        line.change(lifecycle.renewed(line.known, NOON))
        again = line.change(lifecycle.renewal_failed(line.known, replace(FAILURE, at_risk=True), NOON))
        assert types(again) == ["call.at_risk"]

    def test_has_the_failure_and_its_explanation(self) -> None:
        line = Line(ESTABLISHED)
        forbidden = RenewalFailure(NOON, 5, NOON + MINUTE, "forbidden", 403, 7504, at_risk=True)
        [event] = line.change(lifecycle.renewal_failed(line.known, forbidden, NOON - 30 * MINUTE))
        data = data_of(event)
        assert (
            data.items()
            >= {
                "renewedAt": "2026-03-02T11:30:00Z",
                "failingSince": "2026-03-02T12:00:00Z",
                "attempts": 5,
                "retryAt": "2026-03-02T12:01:00Z",
                "failure": "forbidden",
                "status": 403,
                "subcode": 7504,
            }.items()
        )
        assert data["reason"] != "forbidden"


class TestRecordings:
    def test_that_complete_are_published_once(self) -> None:
        line = Line(ESTABLISHED, recording("running"))
        [completed] = line.notify(recording("completed", 200))
        assert completed.type == "recording.completed"
        assert data_of(completed).items() >= {"operationId": "op-1", "clientContext": "greeting", "code": 200}.items()
        assert line.notify(recording("completed", 200)) == line.notify(recording("running")) == []

    def test_that_fail_are_lost_with_the_reason(self) -> None:
        [lost] = Line(ESTABLISHED, recording("failed", 400)).events[1:]
        assert (lost.type, data_of(lost)["status"], data_of(lost)["code"]) == ("recording.lost", "failed", 400)
        assert data_of(lost)["reason"]

    def test_that_run_at_the_end_of_the_call_are_lost_before_the_end_is_published(self) -> None:
        line = Line(ESTABLISHED, recording("running"))
        lost, ended = line.notify(terminated(200, 5010))
        assert types([lost, ended]) == ["recording.lost", "call.ended"]
        assert data_of(lost).items() >= {"status": "lost", "category": "operation", "finishedAt": None}.items()

    def test_that_finish_with_the_end_of_the_call_are_published_by_their_result(self) -> None:
        line = Line(ESTABLISHED, recording("running"))
        running, before = line.operation, line.known
        assert running is not None
        completed = lifecycle.operation_notified(running, recording("completed", 200), NOON)
        after = lifecycle.notified(before, terminated(), TENANT, NOON)
        events = events_of_change(before, after, [(running, completed)], [running])
        assert types(list(events)) == ["recording.completed", "call.ended"]

    def test_that_were_lost_may_complete_or_fail_later(self) -> None:
        line = Line(ESTABLISHED, recording("running"), terminated(200, 5010))
        assert types(line.notify(recording("failed", 500))) == ["recording.lost"]
        assert types(line.notify(recording("completed", 200))) == ["recording.completed"]
        assert line.notify(recording("failed", 500)) == []

    def test_that_become_known_after_the_end_of_the_call_are_lost(self) -> None:
        line = Line(ESTABLISHED, terminated(200, 5010))
        assert types(line.notify(recording("running"))) == ["recording.lost"]
        assert line.notify(recording("running")) == []

    def test_are_no_other_operations(self) -> None:
        line = Line(ESTABLISHED, recording("running", kind="playPromptOperation"))
        assert line.notify(recording("completed", kind="playPromptOperation")) == []
        prompt = replace(recording("running", kind="playPromptOperation"), operation_id="op-2")
        running = lifecycle.operation_notified(None, prompt, NOON)
        after = lifecycle.notified(line.known, terminated(), TENANT, NOON)
        assert types(list(events_of_change(line.known, after, [], [running]))) == ["call.ended"]

    def test_whose_kind_is_learned_late_are_published_then(self) -> None:
        line = Line(ESTABLISHED, recording("completed", kind="commsOperation"))
        assert types(line.events) == ["call.established"]
        assert types(line.notify(recording(None))) == ["recording.completed"]

    def test_do_not_show_a_context_that_call_keeper_made_up(self) -> None:
        made_up = replace(recording("completed"), client_context=f"call-keeper:{'0' * 32}")
        [completed] = Line(ESTABLISHED, made_up).events[1:]
        assert data_of(completed)["clientContext"] is None


VALIDATORS = {
    name: jsonschema_rs.Draft202012Validator(event_schema(name), validate_formats=True) for name in EVENT_TYPES
}
recordings = st.builds(
    replace,
    operations,
    kind=st.sampled_from(["recordOperation", "commsOperation"]),
    status=st.sampled_from(["running", "completed", "failed", "odd"]),
)
anything = st.sampled_from(
    [
        ESTABLISHED,
        CallNotification(ID, deleted=False, state="terminating", result=ResultInfo(408, 8537)),
        *(terminated(), terminated(200, 5010), terminated(500, 9999, "DiagCode: 480#10037"), terminated(200, 5001)),
        *(recording("running"), recording("failed", 500), recording("completed", 200)),
    ]
)


@given(st.lists(anything, max_size=8))
def test_the_last_event_of_each_kind_says_what_is_on_record(notifications: list[CallNotification]) -> None:
    line = Line(*notifications)
    by_type = {event.type: event for event in line.events}
    established = types(line.events).count("call.established")
    revisions = [data_of(event)["revision"] for event in line.events if event.type == "call.ended"]
    assert established == (line.call is not None and line.call.ever_established)
    assert revisions == [*range(1, len(revisions) + 1)]
    if line.call is None or line.call.ended_at is None:
        assert revisions == []
        return
    termination, told = line.call.termination, by_type["call.ended"].data
    assert revisions[-1] == line.call.end_revision
    shown = ("source", "code", "subcode", "reason", "category", "action", "fault_owner", "retryable")
    assert [getattr(told, name) for name in shown] == [getattr(termination, name) for name in shown]
    recordings = [event.type for event in line.events if event.type.startswith("recording.")]
    if line.operation is not None:
        is_completed = line.operation.status == "completed"
        assert recordings[-1] == ("recording.completed" if is_completed else "recording.lost")


@given(st.none() | calls, calls, st.lists(st.tuples(st.none() | recordings, recordings)), st.lists(recordings))
def test_no_record_makes_an_event_fail(
    before: Call | None,
    after: Call,
    changed: list[tuple[Operation | None, Operation]],
    unfinished: list[Operation],
) -> None:
    """An event that could not be written would keep the change itself from being written."""
    for event in events_of_change(before, after, changed, unfinished):
        body = json.loads(render(event, "id", NOON))
        assert VALIDATORS[event.type].is_valid(body)


def test_the_events_of_one_change_have_an_order() -> None:
    """As if one body brought all of it: the start first, the end last."""
    running = lifecycle.operation_notified(None, recording("running"), NOON)
    call = lifecycle.notified(None, ESTABLISHED, TENANT, NOON)
    ended = lifecycle.notified(call, terminated(200, 5010), TENANT, NOON)
    failing = replace(ended, failing=replace(FAILURE, at_risk=True))  # an end clears it, so no change has both
    assert types(list(events_of_change(None, failing, [(None, running)], []))) == [
        *("call.established", "recording.lost", "call.at_risk", "call.ended")
    ]


def test_each_type_of_event_has_a_model_that_names_it() -> None:
    assert tuple(EVENT_MODELS) == EVENT_TYPES
    assert [event_schema(name)["properties"]["type"]["const"] for name in EVENT_TYPES] == [*EVENT_TYPES]


def test_an_event_has_the_id_of_its_delivery_and_the_time_in_utc() -> None:
    [event] = Line(terminated(200, 5010)).events
    at = datetime.fromisoformat("2026-03-02T13:00:00.5+01:00")
    body = render(event, "03-0001772452800500000-0a1b2c3d", at)
    assert list(json.loads(body)) == ["id", "type", "timestamp", "version", "data"]
    assert (
        json.loads(body).items()
        >= {
            "id": "03-0001772452800500000-0a1b2c3d",
            "type": "call.ended",
            "timestamp": "2026-03-02T12:00:00.500000Z",
            "version": "1",
        }.items()
    )
    assert render(event, "03-0001772452800500000-0a1b2c3d", at) == body


def test_no_event_has_a_secret_or_what_the_bot_said_of_the_call() -> None:
    registration = lifecycle.Registration(ID, TENANT, metadata={"name": "metadata of the bot"}, app_id=APP)
    line = Line()
    line.change(lifecycle.registered(None, registration, NOON))
    for each in (ESTABLISHED, recording("running"), recording("completed"), terminated(200, 5010, SECRETS[2])):
        line.notify(each)
    bodies = [render(event, "id", NOON).decode() for event in line.events]
    assert len(bodies) == 3
    assert [secret for secret in SECRETS for body in bodies if secret in body] == []
