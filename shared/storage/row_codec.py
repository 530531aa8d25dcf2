"""The row codec: which column stores which field of a record. A new field is one line in the tuple of its record.

A row may be damaged, or a newer version may have written it. A column that cannot be read counts as absent, and no
write changes it. Columns and members of JSON that this version does not know are kept. So a deployment may return to an
older version, and go forward again, without loss: see docs/decisions/0031-rows-of-other-versions.md.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import JsonValue, TypeAdapter

from shared import telemetry
from shared.domain.calls import (
    Call,
    Event,
    Hangup,
    IdempotencyRecord,
    Operation,
    StoredResponse,
    Termination,
    TerminationSource,
)
from shared.domain.leases import Lease, Progress, RenewalFailure, WatchdogState, Watermark
from shared.domain.precedence import NO_STATE
from shared.domain.termination import UNKNOWN
from shared.errors import RowUnreadable
from shared.storage.columns import (
    COUNT,
    FLAG,
    INTEGER,
    MOMENT,
    TEXT,
    Cell,
    Column,
    check_moment,
    dump_record,
    join_text,
    json_type,
    load_fields,
    split_long_columns,
    to_json,
)
from shared.storage.rows import id_of_key, parse_recent_key
from shared.storage.table import Row
from shared.storage.unknown_columns import merge_unknown_columns

MAX_REASON_LENGTH = 2_000  # characters; so that `failing` fits into one column, which sweeps read
_MIN_KEY_BYTES = 32  # of the key that signs continuations
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)  # stands for a time that cannot be read: such a call is renewed first

type Record = Call | Operation | Event | Watermark | Progress | WatchdogState | IdempotencyRecord | bytes


class _Cursor(NamedTuple):
    """The cursor of `Progress`, which three columns store."""

    expires_at: datetime
    began_at: datetime
    call_id: str


_LEASE_ADAPTER = TypeAdapter(Lease)
_TERMINATION_ADAPTER = TypeAdapter(Termination)
_LEASE = json_type(_LEASE_ADAPTER)
_IDS = json_type(TypeAdapter(frozenset[str]), sorted)

_CALL = (
    Column("tenantId", "tenant_id", TEXT),
    Column("appId", "app_id", TEXT),
    Column("state", "state", TEXT, NO_STATE, is_required=True),
    Column("knownAt", "known_at", MOMENT, _LONG_AGO, is_required=True),
    Column("startedAt", "started_at", MOMENT, _LONG_AGO, is_required=True),
    Column("registeredAt", "registered_at", MOMENT),
    Column("everEstablished", "ever_established", FLAG, False),
    Column("direction", "direction", TEXT),
    Column("callChainId", "call_chain_id", TEXT),
    Column("metadata", "metadata", json_type(TypeAdapter(dict[str, str])), {}),
    Column("renewedAt", "renewed_at", MOMENT),
    Column("failing", "failing", json_type(TypeAdapter(RenewalFailure))),
    Column("hangup", "hangup", json_type(TypeAdapter(Hangup))),
    Column("endedAt", "ended_at", MOMENT),
    Column("termination", "termination", json_type(_TERMINATION_ADAPTER)),
    Column("relayTo", "relay_to", TEXT),
    Column("relaySequence", "relay_sequence", INTEGER),  # microseconds since 1970: more than an Int32
    Column("endRevision", "end_revision", COUNT),
)
_ACTIVE_CALL = tuple(column for column in _CALL if column.field != "ended_at")
_OPERATION = (
    Column("kind", "kind", TEXT, "commsOperation", is_required=True),
    Column("status", "status", TEXT, NO_STATE, is_required=True),
    Column("knownAt", "known_at", MOMENT, _LONG_AGO, is_required=True),
    Column("clientContext", "client_context", TEXT),
    Column("requestedAt", "requested_at", MOMENT),
    Column("requestedBy", "requested_by", TEXT),
    Column("finishedAt", "finished_at", MOMENT),
    Column("code", "code", INTEGER),
    Column("subcode", "subcode", INTEGER),
    Column("rawCode", "raw_code", TEXT),
    Column("rawSubcode", "raw_subcode", TEXT),
    Column("message", "message", TEXT),
    Column("completionReason", "completion_reason", TEXT),
    Column("recordingLocation", "recording_location", TEXT),
    Column("recordingAccessToken", "recording_access_token", TEXT),
)
_EVENT = (
    Column("at", "at", MOMENT, _LONG_AGO, is_required=True),
    Column("kind", "kind", TEXT, "unreadable", is_required=True),
    Column("detail", "detail", json_type(TypeAdapter(dict[str, JsonValue])), {}),
    Column("told", "from_notification", FLAG, False),
)
_COUNTS = (
    Column("renewed", "renewed", COUNT, 0),
    Column("ended", "ended", COUNT, 0),
    Column("failing", "failing", COUNT, 0),
    Column("unwritten", "unwritten", _IDS, frozenset()),
)
_WATERMARK = (
    Column("sweepStartedAt", "sweep_started_at", MOMENT, is_required=True),
    Column("finishedAt", "finished_at", MOMENT, is_required=True),
    *_COUNTS,
)
_PROGRESS = (
    Column("startedAt", "started_at", MOMENT, is_required=True),
    Column("under", "base_watermark_at", MOMENT),
    *_COUNTS,
)
_CURSOR = (
    Column("afterDeadline", "expires_at", MOMENT, is_required=True),
    Column("afterBegan", "began_at", MOMENT, is_required=True),
    Column("afterId", "call_id", TEXT, is_required=True),
)
_WATCHDOG_STATE = (
    Column("due", "due", MOMENT, is_required=True),
    Column("sweepBeganAt", "sweep_began_at", MOMENT),
)
_IDEMPOTENCY_RECORD = (
    Column("fingerprint", "fingerprint", TEXT, is_required=True),
    Column("beganAt", "began_at", MOMENT, is_required=True),
    Column("answered", "response", json_type(TypeAdapter(StoredResponse))),
    Column("outcomeLost", "outcome_unknown", FLAG, False),
    Column("claim", "claim_id", TEXT, ""),
)
_COLUMNS: dict[type, tuple[Column, ...]] = {
    Operation: _OPERATION,
    Event: _EVENT,
    Watermark: _WATERMARK,
    Progress: _PROGRESS,
    WatchdogState: _WATCHDOG_STATE,
    IdempotencyRecord: _IDEMPOTENCY_RECORD,
}
SWEEP_COLUMNS = tuple(
    dict.fromkeys(
        # If a lease cannot be read, the sweep takes tenant and app from their own columns.
        ("RowKey", "lease", "tenantId", "appId", *(column.name for column in (*_WATERMARK, *_PROGRESS, *_CURSOR)))
    )
)
_REWRITTEN_COLUMNS = {"lease", "failing", "renewedAt"}  # the state of renewals: each renewal writes it again


def to_row(record: Record) -> dict[str, object]:
    """Return the columns of a record, without its keys."""
    return dict(_columns_of(record))


def update_row[T: Call | Operation](row: Row, before: T, after: T) -> dict[str, object]:
    """Return the columns of a record that replaces another, without its keys.

    Parameters
    ----------
    row
        The row that `before` was read from. Its columns that this version does not know, or cannot read, are kept.
    before
        The record as it was read.
    after
        The record to write.
    """
    fixed = [name for name in before.unreadable if name not in _REWRITTEN_COLUMNS]
    return merge_unknown_columns(row, _columns_of(before), _columns_of(after), fixed)


def to_call(row: Row) -> Call:
    """Return the call of an `active|`, `ended|` or `recent|` row.

    Raises
    ------
    RowUnreadable
        The tenant cannot be read, or the end of an ended call.
    """
    return _load_and_log(_load_call, row)


def readable_call(row: Row) -> Call | None:
    """Return the call of a row, or None if it cannot be read."""
    try:
        return to_call(row)
    except RowUnreadable:
        return None


def to_lease(row: Row) -> Lease:
    """Return the lease of an `active|` row that has at least SWEEP_COLUMNS. Raises `ValueError`.

    One column repeats the fields of the lease, because the SDK needs four times as long to read their own columns.
    """
    lease = _LEASE_ADAPTER.validate_json(join_text(row, "lease"))
    moments = [lease.known_at, lease.started_at, lease.renewed_at]
    if lease.failing:
        moments += [lease.failing.since, lease.failing.retry_at]
    for moment in moments:  # a sweep reads all leases, and a walk over all fields takes ten times as long
        if moment is not None:
            check_moment(moment)
    return lease


def readable_lease(row: Row) -> Lease | None:
    """Return the lease of a row; None if its tenant cannot be read either.

    If the lease cannot be read, its times are long ago, so that the call is renewed first. One damaged row must not end
    the scan, and costs its call nothing if that can be avoided.
    """
    try:
        return to_lease(row)
    except ValueError:
        tenant_id = row.get("tenantId")
    if not isinstance(tenant_id, str) or not tenant_id:
        _log_unreadable(row, ("lease",), skipped=True)
        return None
    _log_unreadable(row, ("lease",))
    return Lease(id_of_key(_key(row)), tenant_id, _LONG_AGO, _LONG_AGO, app_id=_app_id(row))


def read_or_none[T](read: Callable[[Row], T], row: Row | None) -> T | None:
    """Return the record of a row of a shard, or None if it is damaged: the next sweep writes it again."""
    if row is None:
        return None
    try:
        return read(row)
    except ValueError:
        _log_unreadable(row, (), skipped=True)
        return None


def to_operation(row: Row) -> Operation:
    """Return the operation of an `operation|` row. Raises `RowUnreadable` if its key has no operation id."""
    return _load_and_log(_load_operation, row)


def readable_operation(row: Row) -> Operation | None:
    """Return the operation of a row, or None if it cannot be read."""
    try:
        return to_operation(row)
    except RowUnreadable:
        return None


def to_event(row: Row) -> Event:
    """Return the event of an `event|` row. If columns cannot be read, `detail` names them."""
    values, unreadable = load_fields(row, _EVENT)
    detail = {name: _scalar(value) for name, value in values["detail"].items()}
    if unreadable:
        _log_unreadable(row, unreadable)
        detail["unreadable"] = ", ".join(unreadable)
    return Event(**values | {"detail": detail})


def to_watermark(row: Row) -> Watermark:
    """Return the watermark of a shard. Raises `ValueError`."""
    return _load(Watermark, row, _WATERMARK)


def to_progress(row: Row) -> Progress:
    """Return how far a sweep came. Raises `ValueError`."""
    progress = _load(Progress, row, _PROGRESS)
    return progress if row.get("afterId") is None else replace(progress, cursor=_load(_Cursor, row, _CURSOR))


def to_watchdog_state(row: Row) -> WatchdogState:
    """Return the state of the watchdog. Raises `ValueError`."""
    return _load(WatchdogState, row, _WATCHDOG_STATE)


def to_idempotency_record(row: Row) -> IdempotencyRecord:
    """Return the request of an `idempotency|` row.

    Raises
    ------
    RowUnreadable
        A column cannot be read. Then it is unknown whether the request was done, so it is not done again.
    """
    try:
        return _load(IdempotencyRecord, row, _IDEMPOTENCY_RECORD)
    except ValueError:
        _log_unreadable(row, (), skipped=True)
        raise RowUnreadable(_key(row)) from None


def to_signing_key(row: Row) -> bytes:
    """Return the key that signs continuations. Raises `ValueError`."""
    key = bytes.fromhex(join_text(row, "key"))
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError("The key that signs continuations is too short.")
    return key


def _columns_of(record: Record) -> dict[str, Cell]:
    return split_long_columns(_cells_of(record))


def _cells_of(record: Record) -> dict[str, Cell]:
    match record:
        case bytes():
            return {"key": record.hex()}
        case Call():
            call = _with_short_reason(record)
            return {"lease": None if call.ended_at else _LEASE.dump(call.lease)} | dump_record(call, _CALL)
        case Progress(cursor=(deadline, began_at, call_id)):
            return dump_record(record, _PROGRESS) | dump_record(_Cursor(deadline, began_at, call_id), _CURSOR)
        case _:
            return dump_record(record, _COLUMNS[type(record)])


def _with_short_reason(call: Call) -> Call:
    if call.failing is None or len(call.failing.reason) <= MAX_REASON_LENGTH:
        return call
    return replace(call, failing=replace(call.failing, reason=call.failing.reason[:MAX_REASON_LENGTH]))


def _load[T](make: Callable[..., T], row: Row, columns: Iterable[Column]) -> T:
    """Return the record of a row. Raises `ValueError` if one of its columns cannot be read."""
    values, unreadable = load_fields(row, columns)
    if unreadable:
        raise ValueError(f"Columns that cannot be read: {', '.join(unreadable)}.")
    return make(**values)


def _load_call(row: Row) -> Call:
    key = _key(row)
    is_active = key.startswith("active|")
    values, unreadable = load_fields(row, _ACTIVE_CALL if is_active else _CALL)
    values["tenant_id"] = values["tenant_id"] or _tenant_of_lease(row)
    if not is_active:
        values["ended_at"] = values["ended_at"] or _end_of_key(key)
    if not values["tenant_id"] or not (is_active or values["ended_at"]):
        raise RowUnreadable(key)
    if "termination" in unreadable:
        values["termination"] = _partial_termination(row)
    return Call(id=id_of_key(key), unreadable=unreadable, **values)


def _tenant_of_lease(row: Row) -> str | None:
    """Return the tenant of the lease of an active call. What a sweep can renew can be read and written too."""
    try:
        return to_lease(row).tenant_id or None
    except ValueError:
        return None


def _end_of_key(key: str) -> datetime | None:
    """Return the end of a call from the key of its `recent|` row."""
    if not key.startswith("recent|"):
        return None
    try:
        return parse_recent_key(key)
    except ValueError:
        return None


def _partial_termination(row: Row) -> Termination:
    """Return what can be read of the end: all but the source, if a newer version wrote a source of its own."""
    try:
        stored = json.loads(join_text(row, "termination"))
        return _TERMINATION_ADAPTER.validate_json(json.dumps(stored | {"source": TerminationSource.UNKNOWN}))
    except (ValueError, TypeError, RecursionError):
        return Termination(TerminationSource.UNKNOWN, "What is on record of the end cannot be read.", UNKNOWN)


def _load_operation(row: Row) -> Operation:
    key = _key(row)
    try:
        _, call_id, operation_id = key.split("|")
    except ValueError:
        raise RowUnreadable(key) from None
    values, unreadable = load_fields(row, _OPERATION)
    return Operation(id=operation_id, call_id=call_id, unreadable=unreadable, **values)


def _load_and_log[T: Call | Operation](load: Callable[[Row], T], row: Row) -> T:
    try:
        record = load(row)
    except RowUnreadable:
        _log_unreadable(row, (), skipped=True)
        raise
    if record.unreadable:
        _log_unreadable(row, record.unreadable)
    return record


def _log_unreadable(row: Row, names: tuple[str, ...], *, skipped: bool = False) -> None:
    key = _key(row)
    telemetry.ROW_UNREADABLE(
        rowKind=key.partition("|")[0], rowKey=key, columns=", ".join(names) or None, skipped=skipped
    )


def _app_id(row: Row) -> str | None:
    return None if row.get("appId") is None else join_text(row, "appId")


def _key(row: Row) -> str:
    return str(row.get("RowKey"))


def _scalar(value: JsonValue) -> str | int | bool | None:
    """Return a value for the detail of an event, which is flat. A newer version may have written lists or objects."""
    return value if value is None or isinstance(value, str | int) else to_json(value)
