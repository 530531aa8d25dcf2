"""The rules by which the record of a call changes, one a test."""

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest

from shared.domain.calls import Call, Hangup, Operation, Status, Termination, TerminationSource
from shared.domain.leases import RenewalFailure
from shared.domain.lifecycle import (
    Registration,
    call_gone,
    hung_up,
    notification_event,
    notified,
    operation_notified,
    operation_requested,
    registered,
    renewal_failed,
    renewed,
)
from shared.domain.notifications import (
    CallNotification,
    Notification,
    OperationNotification,
    OtherNotification,
    ResultInfo,
)
from shared.domain.precedence import better_termination
from shared.errors import Conflict, Forbidden
from tests.support.events import EventFile, readable

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CALL = "3f6c1d20-8a44-4b0e-9d52-0b7e5a91c001"
TENANT = "9c1d6b70-2f83-4f1d-8a45-bb8e6f72a501"
OTHER_TENANT = "9c1d6b70-2f83-4f1d-8a45-bb8e6f72a502"
FAILURE = RenewalFailure(NOON, attempts=1, retry_at=NOON + MINUTE, reason="unavailable", status=503)


def state(word: str) -> CallNotification:
    return CallNotification(CALL, deleted=False, state=word)


def end(
    code: int | None = None, subcode: int | None = None, *, raw_code: str | None = None, message: str | None = None
) -> CallNotification:
    result = ResultInfo(code, subcode, raw_code, message=message)
    return CallNotification(CALL, deleted=True, state="terminated", result=result)


def after(*notifications: Notification, call: Call | None = None) -> Call:
    for minute, notification in enumerate(notifications):
        call = notified(call, notification, TENANT, NOON + minute * MINUTE)
    assert call is not None
    return call


def why(call: Call) -> Termination:
    assert call.termination is not None
    return call.termination


@pytest.mark.parametrize("file", readable(), ids=lambda file: file.name)
def test_an_event_leaves_the_records_that_its_file_says(file: EventFile) -> None:
    calls: dict[str, Call] = {}
    for notification in file.parsed().notifications:
        known = calls.get(notification.call_id)
        calls[notification.call_id] = notified(known, notification, TENANT, NOON)

    assert {call_id: record(call) for call_id, call in calls.items()} == file.calls


def record(call: Call) -> dict[str, object]:
    summary = {"status": call.status, "state": call.state, "everEstablished": call.ever_established}
    if call.termination is None:
        return summary
    return summary | {"code": why(call).code, "subcode": why(call).subcode, "category": why(call).category}


# Notifications


def test_an_unknown_call_becomes_known_by_its_first_notification() -> None:
    call = notified(None, state("ringing"), TENANT.upper(), NOON)

    assert call == Call(CALL, TENANT, "ringing", known_at=NOON, started_at=NOON)


def test_an_unknown_call_becomes_known_by_its_roster_too() -> None:
    call = notified(None, OtherNotification(CALL, "participants", "updated"), TENANT, NOON)

    assert (call.status, call.state) == (Status.ACTIVE, "unknown")


def test_an_end_of_an_unknown_call_leaves_a_tombstone() -> None:
    call = notified(None, end(200, 5010), TENANT, NOON)

    assert (call.status, call.state, call.ended_at, call.registered_at) == (Status.ENDED, "terminated", NOON, None)
    assert why(call).category == "empty"


@pytest.mark.parametrize("known", [after(state("established")), after(end(200, 5010))], ids=["active", "tombstone"])
def test_a_notification_of_another_tenant_is_refused(known: Call) -> None:
    with pytest.raises(Forbidden) as refusal:
        notified(known, end(200, 5001), OTHER_TENANT, NOON)
    assert TENANT not in str(refusal.value)


def test_tenants_are_compared_without_case() -> None:
    shouting = replace(after(state("established")), tenant_id=TENANT.upper())

    assert notified(shouting, end(200, 5001), TENANT, NOON).status is Status.ENDED


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("someNewWord", "incoming"),
        ("incoming", "establishing"),
        ("establishing", "ringing"),
        ("ringing", "redirecting"),
        ("redirecting", "established"),
        ("redirecting", "hold"),
        ("redirecting", "transferring"),
        ("redirecting", "transferAccepted"),
        ("transferAccepted", "terminating"),
        ("terminating", "terminated"),
    ],
)
def test_a_state_is_shown_until_one_of_higher_rank_comes(earlier: str, later: str) -> None:
    assert after(state(earlier), state(later)).state == later
    assert after(state(later), state(earlier)).state == later


def test_among_established_and_its_kin_the_last_one_is_shown() -> None:
    words = ["established", "hold", "transferring", "established", "transferAccepted", "hold"]

    assert [after(*map(state, words[:count])).state for count in range(1, 7)] == words


def test_of_two_unknown_states_the_same_one_is_shown_in_any_order() -> None:
    assert after(state("newA"), state("newB")).state == after(state("newB"), state("newA")).state


def test_a_call_was_established_if_it_ever_was() -> None:
    assert after(state("hold"), state("terminating")).ever_established
    assert after(end(200, 5002), state("established")).ever_established
    assert not after(state("ringing"), end(200, 5002)).ever_established


def test_a_failed_transfer_is_no_end() -> None:
    failed = CallNotification(CALL, deleted=False, state="established", result=ResultInfo(500, 7000))
    call = after(state("transferring"), failed)

    assert (call.status, call.state, call.termination) == (Status.ACTIVE, "established", None)


def test_the_first_evidence_of_the_end_gives_its_time() -> None:
    call = after(state("established"), end(), end(200, 5010), end(200, 5010))

    assert call.ended_at == NOON + MINUTE


@pytest.mark.parametrize("word", ["incoming", "established", "hold", "terminating", "somethingNew", "unknown"])
def test_nothing_brings_an_ended_call_back(word: str) -> None:
    ended = after(end(200, 5010))
    late = notified(ended, state(word), TENANT, NOON + MINUTE)

    assert (late.status, late.state, late.ended_at, late.termination) == (
        Status.ENDED,
        "terminated",
        NOON,
        ended.termination,
    )


def test_a_late_notification_fills_gaps_of_an_ended_call() -> None:
    late = CallNotification(CALL, deleted=False, state="established", direction="incoming", call_chain_id="chain")
    call = after(end(200, 5010), late)

    assert (call.ever_established, call.direction, call.call_chain_id) == (True, "incoming", "chain")


IN_CATALOGUE = end(480, 10037)
ALSO_IN_CATALOGUE = end(200, 5010)
UNKNOWN_CODES = end(1, 2)
CODE_ONLY = end(200)
TEXT_CODES = end(raw_code="Gone")
NAMED = CallNotification(CALL, deleted=True, termination_reason="AppTransferred")
MESSAGE = end(message="Over.")
NOTHING = CallNotification(CALL, deleted=True)


@pytest.mark.parametrize(
    ("richer_one", "poorer_one"),
    [
        (IN_CATALOGUE, UNKNOWN_CODES),
        (IN_CATALOGUE, CODE_ONLY),
        (ALSO_IN_CATALOGUE, IN_CATALOGUE),
        (end(200, 5002), end(200, 5010)),
        (end(200, 5010), end(None, 5010)),
        (UNKNOWN_CODES, TEXT_CODES),
        (NAMED, NOTHING),
        (TEXT_CODES, MESSAGE),
        (MESSAGE, NOTHING),
        (end(200, 5010, message="Over."), end(200, 5010)),
        (end(200, 5010, message="A"), end(200, 5010, message="B")),
    ],
    ids=[
        *("catalogue > unknown codes", "catalogue > code alone", "two rows of the catalogue", "lower subcode first"),
        *("both codes > subcode alone", "numbers > text", "terminationReason > nothing", "text codes > message"),
        *("message > nothing", "with a message > without", "first message in the alphabet"),
    ],
)
def test_a_richer_reason_replaces_a_poorer_one_and_never_the_reverse(
    richer_one: CallNotification, poorer_one: CallNotification
) -> None:
    best = why(after(richer_one))

    assert why(after(poorer_one, richer_one)) == best
    assert why(after(richer_one, poorer_one)) == best
    assert why(after(poorer_one)) != best


def test_a_termination_reason_without_codes_stays_without_codes() -> None:
    ending = why(after(NAMED))

    assert (ending.category, ending.code, ending.subcode) == ("transfer", None, None)


def test_an_end_has_the_codes_of_one_notification_and_the_older_word_of_another() -> None:
    for one, other in ((CODE_ONLY, NAMED), (NAMED, CODE_ONLY)):
        ending = why(after(one, other))
        assert (ending.code, ending.termination_reason, ending.category) == (200, "AppTransferred", "transfer")


def test_a_success_with_the_same_subcode_does_not_explain_a_failure() -> None:
    assert why(after(end(500, 7000))).category == "transfer"
    assert why(after(end(500, 5001))).category == "service"


# Whose hang-up it was


def test_an_end_after_our_own_hang_up_is_ours_and_keeps_graphs_code() -> None:
    ending = why(after(end(200, 4097), call=hung_up(after(state("established")), "bot A", NOON, not_found=False)))

    assert (ending.category, ending.reason) == ("byBot", "Hung up through Call Keeper by bot A.")
    assert (ending.code, ending.subcode, ending.action) == (200, 4097, "Nothing to do.")


def test_an_end_notified_before_graphs_answer_to_our_hang_up_is_ours_too() -> None:
    told_first = hung_up(after(state("established"), end(200, 4097)), "bot A", NOON, not_found=False)
    told_last = after(end(200, 4097), call=hung_up(after(state("established")), "bot A", NOON, not_found=False))

    assert why(told_first) == why(told_last)
    assert told_first.ended_at is not None


def test_a_hang_up_that_came_too_late_explains_no_end() -> None:
    assert hung_up(after(end(200, 4097)), "bot A", NOON, not_found=True) == after(end(200, 4097))
    late = after(end(200, 4097), call=hung_up(after(state("established")), "bot A", NOON, not_found=True))
    assert why(late).category == "byPeople"


def test_a_call_found_gone_after_our_own_hang_up_ended_with_it() -> None:
    call = call_gone(
        hung_up(after(state("established")), "bot A", NOON + MINUTE, not_found=False),
        TerminationSource.KEEP_ALIVE_NOT_FOUND,
        NOON + 2 * MINUTE,
    )

    assert (why(call).category, why(call).reason) == ("byBot", "Hung up through Call Keeper by bot A.")
    assert call.ended_at == NOON + MINUTE


def test_a_call_that_was_gone_already_says_who_hung_up() -> None:
    call = call_gone(
        hung_up(after(state("established")), "bot A", NOON, not_found=True),
        TerminationSource.KEEP_ALIVE_NOT_FOUND,
        NOON + MINUTE,
    )

    assert "already over when bot A hung up" in why(call).reason
    assert (why(call).source, call.ended_at) == (TerminationSource.HANGUP_NOT_FOUND, NOON + MINUTE)


def test_of_two_hang_ups_the_one_that_graph_accepted_counts() -> None:
    call = hung_up(after(state("established")), "too early", NOON, not_found=True)
    call = hung_up(call, "bot A", NOON + MINUTE, not_found=False)

    assert call.hangup == Hangup(NOON + MINUTE, "bot A", not_found=True, accepted=True)


def test_the_direction_counts_even_if_it_is_notified_after_the_end() -> None:
    late = CallNotification(CALL, deleted=False, state="incoming", direction="incoming")

    assert why(after(end(408, 8544), late)) == why(after(late, end(408, 8544)))
    assert "the bot is the callee" in str(why(after(end(408, 8544), late)).action)


# Registration


def test_a_registered_call_is_active_from_the_start_that_the_bot_sends() -> None:
    call = registered(None, Registration(CALL, TENANT.upper(), NOON - 5 * MINUTE, {"room": "1"}), NOON)

    assert call == Call(CALL, TENANT, "unknown", NOON, NOON - 5 * MINUTE, registered_at=NOON, metadata={"room": "1"})


def test_a_start_in_the_future_is_taken_for_now() -> None:
    assert registered(None, Registration(CALL, TENANT, NOON + MINUTE), NOON).started_at == NOON


def test_a_second_registration_adds_metadata_and_changes_nothing_else() -> None:
    first = registered(None, Registration(CALL, TENANT, NOON - MINUTE, {"room": "1"}), NOON)
    second = registered(first, Registration(CALL, TENANT, NOON - 9 * MINUTE, {"room": "2", "case": "7"}), NOON + MINUTE)

    assert second == replace(first, metadata={"room": "1", "case": "7"})
    assert registered(first, Registration(CALL, TENANT), NOON + MINUTE) == first


def test_a_registration_for_another_tenant_is_a_conflict() -> None:
    first = registered(None, Registration(CALL, TENANT), NOON)

    with pytest.raises(Conflict) as refusal:
        registered(first, Registration(CALL, OTHER_TENANT), NOON)
    assert TENANT not in str(refusal.value)


def test_a_registration_corrects_the_tenant_of_a_live_call_that_only_notifications_made_known() -> None:
    known = after(state("established"))
    call = registered(known, Registration(CALL, OTHER_TENANT), NOON + MINUTE)

    assert (call.tenant_id, call.registered_at) == (OTHER_TENANT, NOON + MINUTE)
    assert (call.status, call.termination) == (known.status, known.termination)
    with pytest.raises(Forbidden):
        notified(call, state("hold"), TENANT, NOON)


def test_the_registrations_start_counts_for_a_call_that_notifications_made_known() -> None:
    known = after(state("established"))

    assert registered(known, Registration(CALL, TENANT, NOON - MINUTE), NOON).started_at == NOON - MINUTE
    assert registered(known, Registration(CALL, TENANT), NOON + MINUTE).started_at == NOON


def test_a_tombstone_stays_ended_and_gets_what_was_missing() -> None:
    tombstone = after(end(200, 5010))
    call = registered(tombstone, Registration(CALL, TENANT, NOON + MINUTE, {"room": "1"}), NOON + 2 * MINUTE)

    assert (call.status, call.termination, call.ended_at) == (Status.ENDED, tombstone.termination, NOON)
    assert (call.metadata, call.started_at) == ({"room": "1"}, NOON)  # no call starts after its end


def test_a_tombstone_of_another_tenant_says_nothing_of_the_call() -> None:
    known = replace(after(state("established")), renewed_at=NOON, metadata={"room": "1"})
    for tombstone in (after(end(200, 5010)), call_gone(known, TerminationSource.KEEP_ALIVE_NOT_FOUND, NOON)):
        later = NOON + 2 * MINUTE
        call = registered(tombstone, Registration(CALL, OTHER_TENANT, NOON, {"room": "2"}), later)

        anew = registered(None, Registration(CALL, OTHER_TENANT, NOON, {"room": "2"}), later)
        assert call == anew  # known since now: no watermark of before proves anything
        with pytest.raises(Forbidden):
            notified(call, end(200, 5010), TENANT, later)


# The lease


def test_a_renewal_moves_the_lease_forward_and_never_back() -> None:
    call = renewed(renewed(after(state("established")), NOON + 5 * MINUTE), NOON + 3 * MINUTE)

    assert call.renewed_at == NOON + 5 * MINUTE


def test_a_failure_keeps_its_first_time_and_writes_the_last_renewal_down() -> None:
    first = renewal_failed(after(state("established")), FAILURE, NOON - 9 * MINUTE)
    again = replace(FAILURE, since=NOON + MINUTE, attempts=2, status=504)
    second = renewal_failed(first, again, NOON - 20 * MINUTE)

    assert (first.failing, first.renewed_at) == (FAILURE, NOON - 9 * MINUTE)
    assert (second.failing, second.renewed_at) == (replace(again, since=NOON), NOON - 9 * MINUTE)


def test_a_failure_stays_at_risk_until_a_renewal() -> None:
    at_risk = renewal_failed(after(state("established")), replace(FAILURE, at_risk=True), NOON)
    by_a_slower_clock = renewal_failed(at_risk, replace(FAILURE, attempts=2), NOON)
    anew = renewal_failed(renewed(by_a_slower_clock, NOON), FAILURE, NOON)

    assert [call.failing.at_risk for call in (at_risk, by_a_slower_clock, anew) if call.failing] == [True, True, False]


def test_a_renewal_ends_a_failure() -> None:
    call = renewed(renewal_failed(after(state("established")), FAILURE, NOON), NOON + MINUTE)

    assert (call.failing, call.renewed_at) == (None, NOON + MINUTE)


def test_an_end_ends_a_failure() -> None:
    assert after(end(200, 5010), call=renewal_failed(after(state("hold")), FAILURE, NOON)).failing is None


def test_an_ended_call_is_neither_renewed_nor_failing_nor_hung_up() -> None:
    ended = after(end(200, 5010))

    assert renewed(ended, NOON) is ended
    assert renewal_failed(ended, FAILURE, NOON) is ended
    assert hung_up(ended, "bot", NOON, not_found=True) is ended


# Gone, and hung up


@pytest.mark.parametrize(
    "source",
    [TerminationSource.KEEP_ALIVE_NOT_FOUND, TerminationSource.LOOKUP_NOT_FOUND, TerminationSource.HANGUP_NOT_FOUND],
)
def test_a_call_that_is_gone_has_ended_without_a_reason(source: TerminationSource) -> None:
    call = call_gone(after(state("established")), source, NOON + MINUTE)

    assert (call.status, call.state, call.ended_at) == (Status.ENDED, "terminated", NOON + MINUTE)
    assert (why(call).source, why(call).category, why(call).code) == (source, "unknown", None)


def test_a_late_notification_gives_the_reason_of_a_lost_call() -> None:
    call = notified(
        call_gone(after(state("hold")), TerminationSource.KEEP_ALIVE_NOT_FOUND, NOON),
        end(200, 5010),
        TENANT,
        NOON + MINUTE,
    )

    assert (why(call).source, why(call).category, call.ended_at) == (TerminationSource.NOTIFICATION, "empty", NOON)


def test_a_late_404_takes_no_reason_away() -> None:
    ended = after(end(200, 5010))

    assert call_gone(ended, TerminationSource.LOOKUP_NOT_FOUND, NOON + MINUTE) == ended


def test_a_hang_up_is_under_way_until_the_end_is_notified() -> None:
    call = hung_up(after(state("established")), "bot", NOON, not_found=False)

    assert (call.status, call.state, call.hangup) == (Status.ACTIVE, "terminating", Hangup(NOON, "bot", accepted=True))
    assert after(state("established"), call=call).state == "terminating"


def test_the_first_who_hung_up_stays_and_a_404_of_the_second_is_kept() -> None:
    call = hung_up(after(state("established")), "bot", NOON, not_found=False)
    call = hung_up(call, "operator", NOON + MINUTE, not_found=True)
    call = hung_up(call, "operator", NOON + MINUTE, not_found=False)

    assert call.hangup == Hangup(NOON, "bot", not_found=True, accepted=True)


@pytest.mark.parametrize(
    ("not_found", "found_by", "source"),
    [
        (True, TerminationSource.KEEP_ALIVE_NOT_FOUND, TerminationSource.HANGUP_NOT_FOUND),
        (False, TerminationSource.KEEP_ALIVE_NOT_FOUND, TerminationSource.KEEP_ALIVE_NOT_FOUND),
        (True, TerminationSource.LOOKUP_NOT_FOUND, TerminationSource.LOOKUP_NOT_FOUND),
    ],
)
def test_a_404_of_the_hang_up_is_the_source_of_the_end(
    not_found: bool, found_by: TerminationSource, source: TerminationSource
) -> None:
    call = call_gone(hung_up(after(state("established")), "bot", NOON, not_found=not_found), found_by, NOON + MINUTE)

    assert why(call).source is source


def test_of_two_sources_a_notification_is_the_better() -> None:
    poor = Termination(TerminationSource.NOTIFICATION, "-", "unknown")
    sources = list(TerminationSource)

    assert sources[0] is TerminationSource.NOTIFICATION
    for index, source in enumerate(sources):
        for other in sources[index:]:
            one, two = replace(poor, source=source), replace(poor, source=other)
            assert better_termination(one, two).source is better_termination(two, one).source is source


# Operations


def done(
    status: str | None, *, code: int | None = None, location: str | None = None, deleted: bool = True
) -> Operation:
    return operation_notified(None, operation_notification(status, code=code, location=location, deleted=deleted), NOON)


def operation_notification(
    status: str | None, *, code: int | None = None, location: str | None = None, deleted: bool = True
) -> OperationNotification:
    result = ResultInfo(code) if code else None
    return OperationNotification(
        CALL, "1", "recordOperation", deleted, status, result, recording_location=location, client_context="context"
    )


def started(status: str = "running", result: ResultInfo | None = None) -> OperationNotification:
    """Return Graph's answer to the request for a recording."""
    return OperationNotification(
        CALL, "1", "recordOperation", deleted=False, status=status, result=result, client_context="context"
    )


def test_a_recording_that_was_asked_for_runs() -> None:
    operation = operation_requested(None, started(), "bot", NOON)

    assert operation == Operation(
        "1", CALL, "recordOperation", "running", NOON, "context", requested_at=NOON, requested_by="bot"
    )


def test_a_notification_that_comes_before_the_request_is_written_down_loses_nothing() -> None:
    notification = operation_notification("completed", code=200, location="https://file.example.com/1")
    early = operation_requested(operation_notified(None, notification, NOON), started(), "bot", NOON)
    late = operation_notified(operation_requested(None, started(), "bot", NOON), notification, NOON)

    assert early == late
    assert (early.status, early.requested_by, early.recording_location) == (
        "completed",
        "bot",
        "https://file.example.com/1",
    )


def test_an_answer_may_be_the_end_of_a_recording_already() -> None:
    operation = operation_requested(None, started("failed", ResultInfo(400, 8508)), "bot", NOON)

    assert (operation.is_finished, operation.finished_at, operation.code, operation.subcode) == (True, NOON, 400, 8508)


def test_the_first_request_of_an_operation_stays() -> None:
    first = operation_requested(None, started(), "bot", NOON)

    assert operation_requested(first, started(), "another", NOON + MINUTE) == first


@pytest.mark.parametrize("first", ["completed", "failed"])
@pytest.mark.parametrize("late", ["notStarted", "running", "somethingNew", None])
def test_a_finished_operation_does_not_run_again(first: str, late: str | None) -> None:
    operation = operation_notified(done(first), operation_notification(late, deleted=False), NOON + MINUTE)

    assert (operation.status, operation.finished_at) == (first, NOON)


def test_an_operation_notified_as_running_is_not_started_anew() -> None:
    assert (
        operation_notified(
            done("running", deleted=False), operation_notification("notStarted", deleted=False), NOON
        ).status
        == "running"
    )


@pytest.mark.parametrize(
    ("status", "code", "becomes"),
    [
        (None, None, "completed"),
        (None, 200, "completed"),
        (None, 399, "completed"),
        (None, 400, "failed"),
        (None, 500, "failed"),
        ("running", 500, "failed"),
        ("completed", 500, "completed"),
        ("failed", 200, "failed"),
    ],
)
def test_a_deleted_operation_has_finished(status: str | None, code: int | None, becomes: str) -> None:
    operation = done(status, code=code)

    assert (operation.status, operation.finished_at) == (becomes, NOON)


def test_an_operation_without_a_status_has_not_started() -> None:
    assert done(None, deleted=False).status == "notStarted"


def test_of_two_ends_of_an_operation_success_counts_and_the_recording_of_either() -> None:
    with_place, without = (
        operation_notification("failed", location="https://file.example.com/1"),
        operation_notification("completed", code=200),
    )

    for one, two in ((with_place, without), (without, with_place)):
        operation = operation_notified(operation_notified(None, one, NOON), two, NOON + MINUTE)
        assert (operation.status, operation.recording_location) == ("completed", "https://file.example.com/1")
        assert operation.finished_at == NOON


def test_the_recording_of_a_running_operation_stays_if_its_end_has_none() -> None:
    """Graph: the record page of 2018, streamWhileRecording."""
    running = replace(
        operation_notification("running", location="https://file.example.com/1", deleted=False),
        recording_access_token="token-1",
    )
    for accounts in permutations(
        (running, operation_notification("running", deleted=False), operation_notification("completed", code=200))
    ):
        operation = None
        for account in accounts:
            operation = operation_notified(operation, account, NOON)
        assert operation is not None
        assert (operation.status, operation.code) == ("completed", 200)
        assert (operation.recording_location, operation.recording_access_token) == (
            "https://file.example.com/1",
            "token-1",
        )


def test_a_place_and_a_token_of_two_accounts_are_never_mixed() -> None:
    bare = operation_notification("running", location="https://file.example.com/1", deleted=False)
    whole = replace(
        operation_notification("completed", location="https://file.example.com/2"), recording_access_token="token-2"
    )
    for one, two in ((bare, whole), (whole, bare)):
        operation = operation_notified(operation_notified(None, one, NOON), two, NOON)
        assert (operation.recording_location, operation.recording_access_token) == (
            "https://file.example.com/2",
            "token-2",
        )


def test_an_operation_is_known_since_its_first_notification_and_finished_since_its_first_end() -> None:
    operation = operation_notified(done("running", deleted=False), operation_notification("completed"), NOON + MINUTE)
    operation = operation_notified(operation, operation_notification("completed"), NOON + 2 * MINUTE)

    assert (operation.known_at, operation.finished_at) == (NOON, NOON + MINUTE)


def test_the_kind_of_an_operation_is_learned_late() -> None:
    unnamed = OperationNotification(CALL, "1", "commsOperation", deleted=False)
    first = operation_notified(
        operation_notified(None, unnamed, NOON), operation_notification("running", deleted=False), NOON
    )
    second = operation_notified(
        operation_notified(None, operation_notification("running", deleted=False), NOON), unnamed, NOON
    )

    assert first.kind == second.kind == "recordOperation"
    assert operation_notified(None, unnamed, NOON).kind == "commsOperation"


def test_the_end_of_an_operation_is_not_the_end_of_the_call() -> None:
    assert after(state("established"), operation_notification("completed")).status is Status.ACTIVE


# The event log


def test_an_event_has_state_and_codes_without_the_message() -> None:
    event = notification_event(end(200, 5010, message="secret", raw_code="x"), NOON)

    assert (event.kind, event.at, event.from_notification) == ("callNotified", NOON, True)
    assert event.detail == {
        "state": "terminated",
        "changeType": "deleted",
        "code": 200,
        "subcode": 5010,
        "rawCode": "x",
    }


def test_an_event_names_an_operation_without_location_and_token() -> None:
    notification = replace(
        operation_notification("completed", code=200, location="secret"), recording_access_token="secret"
    )
    notification = replace(notification, completion_reason="stopToneDetected")

    assert notification_event(notification, NOON).detail == {
        "operationId": "1",
        "kind": "recordOperation",
        "status": "completed",
        "changeType": "deleted",
        "code": 200,
        "completionReason": "stopToneDetected",
    }


def test_an_event_names_other_resources() -> None:
    event = notification_event(OtherNotification(CALL, "participants", "updated"), NOON)

    assert (event.kind, event.detail) == ("otherNotified", {"resource": "participants", "changeType": "updated"})


def test_a_repeated_notification_is_one_event() -> None:
    assert notification_event(IN_CATALOGUE, NOON).digest == notification_event(IN_CATALOGUE, NOON + MINUTE).digest
    assert notification_event(IN_CATALOGUE, NOON).digest != notification_event(NOTHING, NOON).digest


def test_records_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        after(state("established")).state = "hold"  # type: ignore[misc]  # that is the point


class TestToldWhileTerminating:
    """Graph may tell the codes on the way to the end, and nothing at the end itself."""

    EARLY = CallNotification(CALL, deleted=False, state="terminating", result=ResultInfo(200, 7000))

    def test_it_is_the_reason_if_the_end_has_none_in_either_order(self) -> None:
        for items in ((self.EARLY, end()), (end(), self.EARLY)):
            termination = why(after(*items))
            assert (termination.code, termination.subcode, termination.category) == (200, 7000, "byBot")

    @pytest.mark.parametrize("codes", [(408, 8537), (500, 99_999), (None, 8537)])
    def test_the_codes_of_the_end_go_before_it_in_any_order(self, codes: tuple[int | None, int]) -> None:
        for items in permutations((self.EARLY, end(*codes), self.EARLY)):
            termination = why(after(*items))
            assert (termination.code, termination.subcode) == codes

    def test_it_ends_no_call(self) -> None:
        call = after(self.EARLY)
        assert (call.status, call.state) == (Status.ACTIVE, "terminating")

    def test_it_is_the_reason_of_a_call_that_is_found_gone(self) -> None:
        termination = why(call_gone(after(self.EARLY), TerminationSource.KEEP_ALIVE_NOT_FOUND, NOON))
        assert (termination.code, termination.subcode) == (200, 7000)
