"""Changes of the record of a call, as pure functions: (record, event) -> record. None mutates, waits or reads a clock.

Notifications come late, twice and in any order (Graph: create-call page). So every merge is commutative, associative
and idempotent: the same notifications in any order give the same record. Two things depend on the order: of the
established states the last one received is shown, and times are those of the receipt.

A call never leaves `ended`, with one exception: only a token of another tenant reported the end.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from shared.domain.calls import Call, Event, Hangup, Operation, Termination, TerminationSource
from shared.domain.explanation import NO_REASON_GIVEN, Context, explain
from shared.domain.leases import RenewalFailure
from shared.domain.notifications import (
    CallNotification,
    Notification,
    OperationNotification,
    OtherNotification,
    RequestIds,
    ResultInfo,
)
from shared.domain.precedence import (
    ESTABLISHED,
    FINISHED_RANK,
    NO_STATE,
    STATUS_RANKS,
    better_termination,
    max_state,
    merge_operation,
    pick_stable,
)
from shared.domain.termination import UNKNOWN
from shared.errors import AppMismatch, Forbidden, TenantMismatch, TokenAppMismatch

_FAILURE_FROM = 400  # codes from here on are failures, as in HTTP


@dataclass(frozen=True, slots=True)
class Registration:
    """The registration of a call by its bot. `started_at`, `app_id` and `to` are None if the bot does not give them.

    `to` is the bot's instance: the relay fills it into the URL of a target.
    """

    call_id: str
    tenant_id: str
    started_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    app_id: str | None = None
    to: str | None = None


def registered(call: Call | None, registration: Registration, at: datetime) -> Call:
    """Add a call, or add missing metadata and the start to a known one. Values of the first registration stay.

    A start later than `at` counts as `at`. A tombstone stays ended, unless another tenant caused it: its word proves
    nothing about this call, so the record begins anew.

    Raises
    ------
    TenantMismatch
        The call is registered for another tenant. If it is known only by notifications, its tenant is corrected.
    AppMismatch
        The call belongs to another app, by an earlier registration or by the audience of Graph's token.
    """
    tenant_id = registration.tenant_id.lower()
    if call is None:
        call = Call(registration.call_id, tenant_id, NO_STATE, known_at=at, started_at=at)
    elif is_unconfirmed_tombstone(call, tenant_id):
        call = Call(
            *(registration.call_id, tenant_id, NO_STATE),
            known_at=at,
            started_at=at,
            relay_sequence=call.relay_sequence,  # its deliveries stay on record: the next one follows them
            end_revision=call.end_revision,
        )
    elif call.registered_at is not None and call.tenant_id.lower() != tenant_id:
        raise TenantMismatch(f"Call {call.id} is registered for another tenant.")
    elif _is_of_another_app(call, registration.app_id):
        raise AppMismatch(f"Call {call.id} is another app's.")
    app_id = call.app_id or registration.app_id
    metadata = {**registration.metadata, **call.metadata}
    call = replace(call, metadata=metadata, app_id=app_id, relay_to=call.relay_to or registration.to)
    if call.registered_at is not None:
        return call
    started_at = min(registration.started_at or at, call.started_at, call.ended_at or at)
    return replace(call, tenant_id=tenant_id, started_at=started_at, registered_at=at)


def is_unconfirmed_tombstone(call: Call, tenant_id: str) -> bool:
    """True if only a token of another tenant reported the end of the call."""
    return call.ended_at is not None and call.registered_at is None and call.tenant_id.lower() != tenant_id.lower()


def notified(
    call: Call | None, notification: Notification, tenant_id: str, at: datetime, app_id: str | None = None
) -> Call:
    """Merge a notification. It makes an unknown call known; if it reports the end, the record is a tombstone.

    `tenant_id` and `app_id` are those of Graph's token: its tenant, and the app of its audience.

    Raises
    ------
    Forbidden
        The call belongs to another tenant or to another app than the token.
    """
    if call is None:
        call = Call(notification.call_id, tenant_id.lower(), NO_STATE, known_at=at, started_at=at, app_id=app_id)
    elif call.tenant_id.lower() != tenant_id.lower():
        raise Forbidden(f"Call {call.id} belongs to another tenant than the token.")
    elif _is_of_another_app(call, app_id):
        raise TokenAppMismatch(f"Call {call.id} belongs to another app than the token.")
    if not isinstance(notification, CallNotification):
        return call
    call = replace(
        call,
        state=max_state(call.state, notification.state or NO_STATE),
        ever_established=call.ever_established or notification.state in ESTABLISHED,
        direction=pick_stable(call.direction, notification.direction),
        call_chain_id=pick_stable(call.call_chain_id, notification.call_chain_id),
    )
    termination = _termination(
        TerminationSource.NOTIFICATION, notification.result or ResultInfo(), notification.termination_reason
    )
    if notification.deleted or notification.state == "terminated":
        return _ended(call, termination, at)
    if notification.state == "terminating" and _gives_reason(termination):
        early = replace(termination, early=True)
        call = replace(call, termination=better_termination(call.termination, early) if call.termination else early)
    return _explained(call)  # direction and establishment may become known after the end


def _is_of_another_app(call: Call, app_id: str | None) -> bool:
    return app_id is not None and call.app_id not in {None, app_id}


def renewed(call: Call, at: datetime) -> Call:
    """Record that a keepAlive, sent at `at`, succeeded. An ended call does not change."""
    if call.ended_at is not None:
        return call
    return replace(call, failing=None, renewed_at=max(call.renewed_at or at, at))


def renewal_failed(call: Call, failure: RenewalFailure, last_renewal: datetime) -> Call:
    """Record that a keepAlive failed. An ended call does not change.

    The failure keeps its first `since`, and stays `at_risk`: clocks of two instances differ, and one danger must not
    be reported twice. `last_renewal` goes into the record, because the shard's watermark does not prove the renewal of
    a failing call.
    """
    if call.ended_at is not None:
        return call
    known = call.failing or failure
    failing = replace(failure, since=known.since, at_risk=failure.at_risk or known.at_risk)
    return replace(call, failing=failing, renewed_at=max(call.renewed_at or last_renewal, last_renewal))


def call_gone(call: Call, source: TerminationSource, at: datetime, result: ResultInfo | None = None) -> Call:
    """Record that Graph does not know the call any more: it has ended. A late notification may still report why.

    `result` comes from a look-up. If a hang-up had met the same 404, the hang-up is the source. If Graph accepted our
    hang-up, the call ended at that time, not when the 404 was seen.
    """
    if call.hangup and call.hangup.accepted:
        at = min(at, max(call.hangup.requested_at, call.started_at))
    if source is TerminationSource.KEEP_ALIVE_NOT_FOUND and call.hangup and call.hangup.not_found:
        source = TerminationSource.HANGUP_NOT_FOUND
    return _ended(call, _termination(source, result or ResultInfo()), at)


def hung_up(call: Call, by: str, at: datetime, not_found: bool) -> Call:
    """Record Graph's answer to a hang-up that was requested while the call was active on record.

    `not_found`: Graph answered that the call was already over. An ended call does not change then. If Graph accepted
    the hang-up, the end is its effect, even if the notification of the end was recorded before. The end itself comes by
    notification, or by the 404 of the next keepAlive. The first requester stays, unless Graph accepts a later one.
    """
    if call.ended_at is not None and not_found:
        return call
    new_hangup = Hangup(at, by, accepted=not not_found)
    first = call.hangup if call.hangup and (call.hangup.accepted or not_found) else new_hangup
    was_gone = not_found or (call.hangup is not None and call.hangup.not_found)
    after = replace(call, state=max_state(call.state, "terminating"), hangup=replace(first, not_found=was_gone))
    return _explained(after)


def operation_requested(operation: Operation | None, answer: OperationNotification, by: str, at: datetime) -> Operation:
    """Merge Graph's answer to the request for a recording. The first requester stays.

    A notification of the recording may have come before the answer, and the answer may already be final.
    """
    merged = operation_notified(operation, answer, at)
    if merged.requested_at is not None:
        return merged
    return replace(merged, requested_at=at, requested_by=by)


def operation_notified(operation: Operation | None, notification: OperationNotification, at: datetime) -> Operation:
    """Merge a notification of an operation. A finished operation does not run again."""
    reported = _operation(notification, at)
    if operation is None:
        return reported
    kinds = {operation.kind, reported.kind} - {"commsOperation"}  # the base type: the notification named no type
    best = merge_operation(operation, reported)
    return replace(
        best,
        kind=min(kinds, default="commsOperation"),
        known_at=operation.known_at,
        client_context=pick_stable(operation.client_context, reported.client_context),
        requested_at=operation.requested_at,
        requested_by=operation.requested_by,
        finished_at=operation.finished_at or reported.finished_at,
    )


def notification_event(notification: Notification, at: datetime, ids: RequestIds | None = None) -> Event:
    """Return the line of the event log for a notification. It holds no message, location, token or name of a person.

    `ids`: Graph's ids of the request that brought the notification; Microsoft's support asks for them.
    """
    if isinstance(notification, OtherNotification):
        return _notification_event(
            "otherNotified", at, resource=notification.resource, changeType=notification.change_type
        )
    result = notification.result or ResultInfo()
    codes = {"rawCode": result.raw_code, "rawSubcode": result.raw_subcode} | {
        "code": result.code,
        "subcode": result.subcode,
        "changeType": "deleted" if notification.deleted else None,
        "scenarioId": ids.scenario_id if ids else None,
        "chainId": ids.chain_id if ids else None,
    }
    if isinstance(notification, CallNotification):
        reason = notification.termination_reason
        return _notification_event("callNotified", at, state=notification.state, terminationReason=reason, **codes)
    return _notification_event(
        "operationNotified",
        at,
        operationId=notification.operation_id,
        kind=notification.kind,
        status=notification.status,
        completionReason=notification.completion_reason,
        **codes,
    )


def _notification_event(name: str, at: datetime, /, **detail: str | int | None) -> Event:
    return Event(name, at, {word: value for word, value in detail.items() if value is not None}, from_notification=True)


def _ended(call: Call, termination: Termination, at: datetime) -> Call:
    """End a call, or add to its end. The time of the first evidence stays."""
    if call.termination is not None:
        termination = better_termination(call.termination, termination)
    ended = replace(call, state="terminated", failing=None, ended_at=call.ended_at or at, termination=termination)
    return _explained(ended)


def _termination(source: TerminationSource, result: ResultInfo, termination_reason: str | None = None) -> Termination:
    """Return the reported facts of an end, without an explanation."""
    return Termination(
        source,
        NO_REASON_GIVEN,
        UNKNOWN,
        result.code,
        result.subcode,
        result.raw_code,
        result.raw_subcode,
        result.message,
        result.message_truncated,
        termination_reason,
    )


def _gives_reason(termination: Termination) -> bool:
    """True if Graph gave any reason."""
    values = (
        termination.code,
        termination.subcode,
        termination.raw_code,
        termination.raw_subcode,
        termination.termination_reason,
    )
    return any(word is not None for word in values)


def _explained(call: Call) -> Call:
    """Return the call with its explanation, computed from all that is known about it now."""
    termination, hangup = call.termination, call.hangup
    if termination is None:
        return call
    code = termination.raw_code if termination.code is None else termination.code
    subcode = termination.raw_subcode if termination.subcode is None else termination.subcode
    context = Context(
        incoming=call.direction == "incoming",
        ever_established=call.ever_established,
        hung_up_by=hangup.requested_by if hangup and hangup.accepted else None,
        not_found_for=hangup.requested_by if hangup and not hangup.accepted else None,
        by_notification=termination.source is TerminationSource.NOTIFICATION,
    )
    explanation = explain(code, subcode, termination.termination_reason, termination.message, context)
    return replace(call, termination=replace(termination, **asdict(explanation)))


def _operation(notification: OperationNotification, at: datetime) -> Operation:
    result = notification.result or ResultInfo()
    status = notification.status or "notStarted"
    if notification.deleted and STATUS_RANKS.get(status, 0) < FINISHED_RANK:
        status = "completed" if result.code is None or result.code < _FAILURE_FROM else "failed"
    return Operation(
        id=notification.operation_id,
        call_id=notification.call_id,
        kind=notification.kind,
        status=status,
        known_at=at,
        client_context=notification.client_context,
        finished_at=at if STATUS_RANKS.get(status) == FINISHED_RANK else None,
        code=result.code,
        subcode=result.subcode,
        raw_code=result.raw_code,
        raw_subcode=result.raw_subcode,
        message=result.message,
        completion_reason=notification.completion_reason,
        recording_location=notification.recording_location,
        recording_access_token=notification.recording_access_token,
    )
