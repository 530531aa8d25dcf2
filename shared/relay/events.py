"""Our own events: which of them a change of a call causes, and their JSON. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.domain.calls import Call, Operation, Termination
from shared.domain.explanation import explain_keep_alive
from shared.domain.outcomes import LOST, explanation_of, status_of
from shared.graph.recording import caller_context
from shared.model import Model
from shared.relay.event_models import (
    EVENT_MODELS,
    VERSION,
    CallAtRiskData,
    CallEndedData,
    CallEstablishedData,
    EventData,
    RecordingCompletedData,
    RecordingLostData,
)

RECORDING = "recordOperation"  # the kind of an operation that records: recordOperation page
_OUTCOMES = frozenset({"completed", "failed", LOST})


@dataclass(frozen=True, slots=True)
class CallEvent:
    """An event of ours, before it has an id: its type, one of `EVENT_TYPES`, and its data."""

    type: str
    data: EventData


def with_end_revision(before: Call | None, after: Call) -> Call:
    """Return the call to write, with the revision of its end raised if the end becomes known or better explained.

    It depends on `before` alone, so a second application changes nothing.
    """
    if not _explains_end_better(before, after):
        return after
    known = before.end_revision if before else None
    return replace(after, end_revision=(known or 0) + 1)


def events_of_change(
    before: Call | None,
    after: Call,
    operations: Sequence[tuple[Operation | None, Operation]],
    unfinished_recordings: Sequence[Operation],
) -> tuple[CallEvent, ...]:
    """Return the events of one change of a call, in the order of their delivery.

    A receiver that handles them in order may forget the call at its `call.ended`. So that one comes last, after the
    recordings that the end cut off; and the start comes first.

    Parameters
    ----------
    before, after
        The call as it was read (None: it was not on record), and as it is written.
    operations
        The operations of the change, likewise.
    unfinished_recordings
        The recordings on record that are not finished, if the change ends the call. Those that are among `operations`
        do not count twice, and other operations not at all.
    """
    after = with_end_revision(before, after)
    changed = {operation.id for _, operation in operations}
    cut_off = [(operation, operation) for operation in unfinished_recordings if operation.id not in changed]
    return (
        *_established(before, after),
        *_recordings(before, after, [*operations, *cut_off]),
        *_at_risk(before, after),
        *_ended(before, after),
    )


def render(event: CallEvent, delivery_id: str, at: datetime) -> bytes:
    """Return the JSON of an event, the body of its delivery.

    Parameters
    ----------
    event
        The event.
    delivery_id
        The id of the delivery. It is also the `webhook-id`.
    at
        When the change was made.
    """
    members = {"id": delivery_id, "type": event.type, "timestamp": at, "version": VERSION, "data": event.data}
    return EVENT_MODELS[event.type].model_validate(members).model_dump_json(by_alias=True).encode()


def _explains_end_better(before: Call | None, after: Call) -> bool:
    """True if the end becomes known, or more is known about it than before.

    Only what a receiver sees counts, and each change of it is an improvement (`better_termination`). If the stored end
    cannot be read, no write changes it: then each notification would seem to improve it.
    """
    if after.ended_at is None or after.termination is None:
        return False
    if before is None or before.ended_at is None or before.termination is None:
        return True
    return "termination" not in before.unreadable and _visible(before.termination) != _visible(after.termination)


def _visible(termination: Termination) -> Termination:
    return replace(termination, message=None, message_truncated=False, early=False)


def _established(before: Call | None, after: Call) -> Iterator[CallEvent]:
    if after.ever_established and not (before and before.ever_established):
        yield CallEvent("call.established", _data(CallEstablishedData, after, call_id=after.id))


def _recordings(
    before: Call | None, after: Call, operations: Iterable[tuple[Operation | None, Operation]]
) -> Iterator[CallEvent]:
    """Yield an event for each recording whose outcome is new.

    A recording that is lost with its call may still be reported as completed, or as failed with a reason.
    """
    for known, operation in operations:
        outcome = _outcome(operation, after)
        if outcome is None or (known and before and _outcome(known, before) == outcome):
            continue
        explanation = explanation_of(operation, outcome)
        context = caller_context(operation.client_context)
        if explanation is None:
            completed = _data(
                RecordingCompletedData, operation, after, operation_id=operation.id, client_context=context
            )
            yield CallEvent("recording.completed", completed)
        else:
            lost = _data(
                RecordingLostData,
                *(explanation, operation, after),
                operation_id=operation.id,
                client_context=context,
                status=outcome,
            )
            yield CallEvent("recording.lost", lost)


def _outcome(operation: Operation, call: Call) -> str | None:
    """Return the outcome of a recording, or None if it has none yet, or if the operation is no recording."""
    status = status_of(operation, call)
    return status if operation.kind == RECORDING and status in _OUTCOMES else None


def _at_risk(before: Call | None, after: Call) -> Iterator[CallEvent]:
    failing = after.failing
    if failing is None or not failing.at_risk or (before and before.failing and before.failing.at_risk):
        return
    explanation = explain_keep_alive(failing.reason, failing.status, failing.subcode)
    data = _data(
        CallAtRiskData,
        *(explanation, failing, after),
        call_id=after.id,
        failing_since=failing.since,
        failure=failing.reason,
    )
    yield CallEvent("call.at_risk", data)


def _ended(before: Call | None, after: Call) -> Iterator[CallEvent]:
    if not _explains_end_better(before, after):
        return
    hangup = after.hangup
    data = _data(
        CallEndedData,
        *(after.termination, after),
        call_id=after.id,
        revision=after.end_revision,
        hung_up_by=hangup.requested_by if hangup and hangup.accepted else None,
    )
    yield CallEvent("call.ended", data)


def _data[Data: Model](model: type[Data], *records: object, **members: object) -> Data:
    """Return a model with these members, and its other ones from the first record that has them."""
    names = model.model_fields.keys() - members.keys()
    found = {name: getattr(next(each for each in records if hasattr(each, name)), name) for name in names}
    return model.model_validate(found | members)
