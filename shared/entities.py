"""Records as entities of Table Storage, and back. What goes in comes out the same.

A scalar is a column, named as in the API; a nested part is JSON in a column of its own. None is no column.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from shared import cells, telemetry
from shared.calls import Answered, Call, Event, Hangup, KeyedRequest, Operation, Termination
from shared.cells import Cell, Row
from shared.leases import Failing, Lease, Progress, Switch, Watermark
from shared.rows import Record, last_part

_LEASE_COLUMNS = ("RowKey", "lease", "tenantId", "appId")  # the last two for a lease that cannot be read
_WATERMARK_COLUMNS = ("sweepStartedAt", "finishedAt", "renewed", "ended", "failing", "unwritten")
_PROGRESS_COLUMNS = (
    "startedAt",
    "under",
    "afterDeadline",
    "afterBegan",
    "afterId",
    "renewed",
    "ended",
    "failing",
    "unwritten",
)
SWEEP_COLUMNS = tuple(dict.fromkeys(_LEASE_COLUMNS + _WATERMARK_COLUMNS + _PROGRESS_COLUMNS))
MOST_OF_A_REASON = 2_000  # characters; so that `failing` fits into one column, which sweeps read

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

_LEASE = TypeAdapter(Lease)
_FAILING = TypeAdapter(Failing)
_HANGUP = TypeAdapter(Hangup)
_TERMINATION = TypeAdapter(Termination)
_ANSWERED = TypeAdapter(Answered)


def to_row(record: Record) -> dict[str, Cell]:
    """The columns of a record, without its keys."""
    return cells.pieces(_cells(record))


def to_call(row: Row) -> Call:
    """The call of an `active|`, `ended|` or `recent|` row."""
    return Call(
        id=last_part(cells.text(row, "RowKey")),
        tenant_id=cells.text(row, "tenantId"),
        state=cells.text(row, "state"),
        known_at=cells.moment(row, "knownAt"),
        started_at=cells.moment(row, "startedAt"),
        registered_at=cells.maybe_moment(row, "registeredAt"),
        ever_established=bool(row.get("everEstablished")),
        direction=cells.maybe_text(row, "direction"),
        call_chain_id=cells.maybe_text(row, "callChainId"),
        metadata=json.loads(cells.maybe_text(row, "metadata") or "{}"),
        renewed_at=cells.maybe_moment(row, "renewedAt"),
        failing=cells.maybe_part(_FAILING, row, "failing"),
        hangup=cells.maybe_part(_HANGUP, row, "hangup"),
        ended_at=cells.maybe_moment(row, "endedAt"),
        termination=cells.maybe_part(_TERMINATION, row, "termination"),
        app_id=cells.maybe_text(row, "appId"),
    )


def to_lease(row: Row) -> Lease:
    """The lease of an `active|` row of which only SWEEP_COLUMNS were read.

    It is in one column, beside those that it is made of: the SDK takes four times as long to read the times in theirs.
    """
    return _LEASE.validate_json(cells.text(row, "lease"))


def readable_lease(row: Row) -> Lease | None:
    """The lease, as well as it can be read: a damaged row must not end the scan, nor, if it can be helped, its call.

    What cannot be read is taken for long ago, so that the call goes first. None where not even the tenant is there.
    """
    try:
        return to_lease(row)
    except ValueError as error:
        key, tenant_id = str(row.get("RowKey")), row.get("tenantId")
        telemetry.ROW_UNREADABLE(rowKey=key, error=type(error).__name__)
    if not isinstance(tenant_id, str):
        return None
    return Lease(last_part(key), tenant_id, _LONG_AGO, _LONG_AGO, app_id=cells.maybe_text(row, "appId"))


def if_readable[T](read: Callable[[Row], T], row: Row | None) -> T | None:
    """What a row of a shard says; a damaged one counts as none: the next sweep writes it anew."""
    if row is None:
        return None
    try:
        return read(row)
    except ValueError as error:
        telemetry.ROW_UNREADABLE(rowKey=str(row.get("RowKey")), error=type(error).__name__)
        return None


def to_operation(row: Row) -> Operation:
    """The operation of an `operation|` row."""
    _, call_id, operation_id = cells.text(row, "RowKey").split("|")
    return Operation(
        id=operation_id,
        call_id=call_id,
        kind=cells.text(row, "kind"),
        status=cells.text(row, "status"),
        known_at=cells.moment(row, "knownAt"),
        client_context=cells.maybe_text(row, "clientContext"),
        requested_at=cells.maybe_moment(row, "requestedAt"),
        requested_by=cells.maybe_text(row, "requestedBy"),
        finished_at=cells.maybe_moment(row, "finishedAt"),
        code=cells.maybe_number(row, "code"),
        subcode=cells.maybe_number(row, "subcode"),
        message=cells.maybe_text(row, "message"),
        completion_reason=cells.maybe_text(row, "completionReason"),
        recording_location=cells.maybe_text(row, "recordingLocation"),
        recording_access_token=cells.maybe_text(row, "recordingAccessToken"),
    )


def to_event(row: Row) -> Event:
    """The event of an `event|` row."""
    return Event(
        cells.text(row, "kind"), cells.moment(row, "at"), json.loads(cells.text(row, "detail")), bool(row.get("told"))
    )


def to_watermark(row: Row) -> Watermark:
    """The watermark of a shard."""
    return Watermark(
        cells.moment(row, "sweepStartedAt"),
        cells.moment(row, "finishedAt"),
        cells.maybe_number(row, "renewed") or 0,
        cells.maybe_number(row, "ended") or 0,
        cells.maybe_number(row, "failing") or 0,
        _ids(row),
    )


def to_progress(row: Row) -> Progress:
    """How far a sweep came."""
    last_id = cells.maybe_text(row, "afterId")
    return Progress(
        cells.moment(row, "startedAt"),
        cells.maybe_moment(row, "under"),
        None if last_id is None else (cells.moment(row, "afterDeadline"), cells.moment(row, "afterBegan"), last_id),
        cells.maybe_number(row, "renewed") or 0,
        cells.maybe_number(row, "ended") or 0,
        cells.maybe_number(row, "failing") or 0,
        _ids(row),
    )


def to_switch(row: Row) -> Switch:
    """The last dead man's switch."""
    return Switch(cells.moment(row, "due"), cells.maybe_moment(row, "sweepBeganAt"))


def to_keyed(row: Row) -> KeyedRequest:
    """The request of an `idempotency|` row."""
    answered, lost = cells.maybe_part(_ANSWERED, row, "answered"), bool(row.get("outcomeLost"))
    claim = cells.maybe_text(row, "claim") or ""
    return KeyedRequest(cells.text(row, "fingerprint"), cells.moment(row, "beganAt"), answered, lost, claim)


def to_secret(row: Row) -> bytes:
    """The key of this deployment."""
    return bytes.fromhex(cells.text(row, "key"))


def _cells(record: Record) -> dict[str, Cell]:
    match record:
        case Call():
            return _call_cells(record)
        case Operation():
            return _operation_cells(record)
        case Event(kind=kind, at=at, told=told):
            return {"kind": kind, "at": at, "detail": cells.of_json(dict(record.detail)), "told": told}
        case Watermark():
            return _watermark_cells(record)
        case Progress():
            return _progress_cells(record)
        case _:
            return _small_cells(record)


def _small_cells(record: Switch | bytes | KeyedRequest) -> dict[str, Cell]:
    match record:
        case Switch(due=due, sweep_began_at=began):
            return {"due": due, "sweepBeganAt": began}
        case bytes():
            return {"key": record.hex()}
        case KeyedRequest():
            return {
                "fingerprint": record.fingerprint,
                "beganAt": record.began_at,
                "answered": cells.of_part(_ANSWERED, record.answered),
                "outcomeLost": record.outcome_lost,
                "claim": record.claim,
            }


def _call_cells(call: Call) -> dict[str, Cell]:
    failing = call.failing and replace(call.failing, reason=call.failing.reason[:MOST_OF_A_REASON])
    lease = replace(call.lease, failing=failing)
    return {
        "lease": None if call.ended_at else _LEASE.dump_json(lease, exclude_defaults=True).decode(),
        "tenantId": call.tenant_id,
        "appId": call.app_id,
        "state": call.state,
        "knownAt": call.known_at,
        "startedAt": call.started_at,
        "registeredAt": call.registered_at,
        "everEstablished": call.ever_established,
        "direction": call.direction,
        "callChainId": call.call_chain_id,
        "metadata": cells.of_json(dict(call.metadata)) if call.metadata else None,
        "renewedAt": call.renewed_at,
        "failing": cells.of_part(_FAILING, failing),
        "hangup": cells.of_part(_HANGUP, call.hangup),
        "endedAt": call.ended_at,
        "termination": cells.of_part(_TERMINATION, call.termination),
    }


def _operation_cells(operation: Operation) -> dict[str, Cell]:
    return {
        "kind": operation.kind,
        "status": operation.status,
        "knownAt": operation.known_at,
        "clientContext": operation.client_context,
        "requestedAt": operation.requested_at,
        "requestedBy": operation.requested_by,
        "finishedAt": operation.finished_at,
        "code": None if operation.code is None else str(operation.code),  # nobody bounds these numbers
        "subcode": None if operation.subcode is None else str(operation.subcode),
        "message": operation.message,
        "completionReason": operation.completion_reason,
        "recordingLocation": operation.recording_location,
        "recordingAccessToken": operation.recording_access_token,
    }


def _watermark_cells(watermark: Watermark) -> dict[str, Cell]:
    return {
        "sweepStartedAt": watermark.sweep_started_at,
        "finishedAt": watermark.finished_at,
        "renewed": watermark.renewed,
        "ended": watermark.ended,
        "failing": watermark.failing,
        "unwritten": cells.of_json(sorted(watermark.unwritten)) if watermark.unwritten else None,
    }


def _progress_cells(progress: Progress) -> dict[str, Cell]:
    deadline, began, last_id = progress.after or (None, None, None)
    return {
        "startedAt": progress.started_at,
        "under": progress.under,
        "afterDeadline": deadline,
        "afterBegan": began,
        "afterId": last_id,
        "renewed": progress.renewed,
        "ended": progress.ended,
        "failing": progress.failing,
        "unwritten": cells.of_json(sorted(progress.unwritten)) if progress.unwritten else None,
    }


def _ids(row: Row) -> frozenset[str]:
    return frozenset(json.loads(cells.maybe_text(row, "unwritten") or "[]"))
