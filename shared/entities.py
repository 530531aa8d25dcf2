"""Records as entities of Table Storage, and back. What goes in comes out the same.

A scalar is a column, named as in the API; a nested part is JSON in a column of its own. None is no column.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from shared import telemetry
from shared.calls import Answered, Call, Event, Hangup, KeyedRequest, Operation, Termination
from shared.leases import Failing, Lease, Progress, Switch, Watermark
from shared.rows import Record, last_part

type Cell = str | bool | int | datetime | None
type Row = Mapping[str, object]  # as it is read; columns that were asked for and are not there may be None

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
_PIECE = 16_384  # characters of one column: Table Storage takes 32,768 UTF-16 units, and a character may be two

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

_LEASE = TypeAdapter(Lease)
_FAILING = TypeAdapter(Failing)
_HANGUP = TypeAdapter(Hangup)
_TERMINATION = TypeAdapter(Termination)
_ANSWERED = TypeAdapter(Answered)


def to_row(record: Record) -> dict[str, Cell]:
    """The columns of a record, without its keys."""
    return dict(_pieces(_cells(record)))


def to_call(row: Row) -> Call:
    """The call of an `active|`, `ended|` or `recent|` row."""
    return Call(
        id=last_part(_text(row, "RowKey")),
        tenant_id=_text(row, "tenantId"),
        state=_text(row, "state"),
        known_at=_time(row, "knownAt"),
        started_at=_time(row, "startedAt"),
        registered_at=_maybe_time(row, "registeredAt"),
        ever_established=bool(row.get("everEstablished")),
        direction=_maybe_text(row, "direction"),
        call_chain_id=_maybe_text(row, "callChainId"),
        metadata=json.loads(_maybe_text(row, "metadata") or "{}"),
        renewed_at=_maybe_time(row, "renewedAt"),
        failing=_part(_FAILING, row, "failing"),
        hangup=_part(_HANGUP, row, "hangup"),
        ended_at=_maybe_time(row, "endedAt"),
        termination=_part(_TERMINATION, row, "termination"),
        app_id=_maybe_text(row, "appId"),
    )


def to_lease(row: Row) -> Lease:
    """The lease of an `active|` row of which only SWEEP_COLUMNS were read.

    It is in one column, beside those that it is made of: the SDK takes four times as long to read the times in theirs.
    """
    return _LEASE.validate_json(_text(row, "lease"))


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
    return Lease(last_part(key), tenant_id, _LONG_AGO, _LONG_AGO, app_id=_maybe_text(row, "appId"))


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
    _, call_id, operation_id = _text(row, "RowKey").split("|")
    return Operation(
        id=operation_id,
        call_id=call_id,
        kind=_text(row, "kind"),
        status=_text(row, "status"),
        known_at=_time(row, "knownAt"),
        client_context=_maybe_text(row, "clientContext"),
        requested_at=_maybe_time(row, "requestedAt"),
        requested_by=_maybe_text(row, "requestedBy"),
        finished_at=_maybe_time(row, "finishedAt"),
        code=_maybe_number(row, "code"),
        subcode=_maybe_number(row, "subcode"),
        message=_maybe_text(row, "message"),
        completion_reason=_maybe_text(row, "completionReason"),
        recording_location=_maybe_text(row, "recordingLocation"),
        recording_access_token=_maybe_text(row, "recordingAccessToken"),
    )


def to_event(row: Row) -> Event:
    """The event of an `event|` row."""
    return Event(_text(row, "kind"), _time(row, "at"), json.loads(_text(row, "detail")), bool(row.get("told")))


def to_watermark(row: Row) -> Watermark:
    """The watermark of a shard."""
    return Watermark(
        _time(row, "sweepStartedAt"),
        _time(row, "finishedAt"),
        _maybe_number(row, "renewed") or 0,
        _maybe_number(row, "ended") or 0,
        _maybe_number(row, "failing") or 0,
        _ids(row),
    )


def to_progress(row: Row) -> Progress:
    """How far a sweep came."""
    last_id = _maybe_text(row, "afterId")
    return Progress(
        _time(row, "startedAt"),
        _maybe_time(row, "under"),
        None if last_id is None else (_time(row, "afterDeadline"), _time(row, "afterBegan"), last_id),
        _maybe_number(row, "renewed") or 0,
        _maybe_number(row, "ended") or 0,
        _maybe_number(row, "failing") or 0,
        _ids(row),
    )


def to_switch(row: Row) -> Switch:
    """The last dead man's switch."""
    return Switch(_time(row, "due"), _maybe_time(row, "sweepBeganAt"))


def to_keyed(row: Row) -> KeyedRequest:
    """The request of an `idempotency|` row."""
    answered, lost = _part(_ANSWERED, row, "answered"), bool(row.get("outcomeLost"))
    return KeyedRequest(_text(row, "fingerprint"), _time(row, "beganAt"), answered, lost)


def to_secret(row: Row) -> bytes:
    """The key of this deployment."""
    return bytes.fromhex(_text(row, "key"))


def _cells(record: Record) -> dict[str, Cell]:
    match record:
        case Call():
            return _call_cells(record)
        case Operation():
            return _operation_cells(record)
        case Event(kind=kind, at=at, told=told):
            return {"kind": kind, "at": at, "detail": _json(dict(record.detail)), "told": told}
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
                "answered": _part_json(_ANSWERED, record.answered),
                "outcomeLost": record.outcome_lost,
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
        "metadata": _json(dict(call.metadata)) if call.metadata else None,
        "renewedAt": call.renewed_at,
        "failing": _part_json(_FAILING, failing),
        "hangup": _part_json(_HANGUP, call.hangup),
        "endedAt": call.ended_at,
        "termination": _part_json(_TERMINATION, call.termination),
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
        "unwritten": _json(sorted(watermark.unwritten)) if watermark.unwritten else None,
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
        "unwritten": _json(sorted(progress.unwritten)) if progress.unwritten else None,
    }


def _pieces(cells: Mapping[str, Cell]) -> list[tuple[str, Cell]]:
    """The cells that are not None; a text that is too long for one goes on in `name2`, `name3` and so on."""
    pieces: list[tuple[str, Cell]] = []
    for name, value in cells.items():
        if isinstance(value, str) and len(value) > _PIECE:
            parts = [value[start : start + _PIECE] for start in range(0, len(value), _PIECE)]
            pieces += [(_piece_name(name, number), part) for number, part in enumerate(parts, 1)]
        elif value is not None:
            pieces.append((name, value))
    return pieces


def _piece_name(name: str, number: int) -> str:
    return name if number == 1 else f"{name}{number}"


def _maybe_text(row: Row, name: str) -> str | None:
    if row.get(name) is None:
        return None
    text, number = str(row[name]), 2
    while (piece := row.get(_piece_name(name, number))) is not None:
        text += str(piece)
        number += 1
    return text


def _text(row: Row, name: str) -> str:
    text = _maybe_text(row, name)
    if text is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return text


def _ids(row: Row) -> frozenset[str]:
    return frozenset(json.loads(_maybe_text(row, "unwritten") or "[]"))


def _maybe_number(row: Row, name: str) -> int | None:
    text = _maybe_text(row, name)
    return None if text is None else int(text)


def _maybe_time(row: Row, name: str) -> datetime | None:
    value = row.get(name)
    if not isinstance(value, datetime):
        return None
    utc = value.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)  # a plain one: the SDK's own kind holds its text too


def _time(row: Row, name: str) -> datetime:
    value = _maybe_time(row, name)
    if value is None:
        raise ValueError(f"A row of Table Storage has no {name}.")
    return value


def _part[T](adapter: TypeAdapter[T], row: Row, name: str) -> T | None:
    text = _maybe_text(row, name)
    return None if text is None else adapter.validate_python(json.loads(text))


def _part_json[T](adapter: TypeAdapter[T], part: T | None) -> str | None:
    return None if part is None else _json(adapter.dump_python(part, mode="json", exclude_defaults=True))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
