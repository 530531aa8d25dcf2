"""Records of rows of Table Storage, and the rows of records. What goes in comes out the same.

A row may be damaged, or a newer version may have written it. Each column that cannot be read counts as left out, and
no write changes it; columns and members of JSON that this version does not know are kept. So a deployment may go back
to an older version, and forward again, without loss: see docs/decisions/0031-rows-of-other-versions.md.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import JsonValue, TypeAdapter

from shared import telemetry
from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Termination, TerminationSource
from shared.domain.leases import Lease, Progress, WatchdogState, Watermark
from shared.domain.precedence import NO_STATE
from shared.domain.termination import UNKNOWN
from shared.errors import RowUnreadable
from shared.storage import column_values, columns, rows
from shared.storage.column_values import Row, RowReader
from shared.storage.rows import Record, id_of_key
from shared.storage.unknown_columns import merge_unknown_columns

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
_REWRITTEN_COLUMNS = {"lease", "failing", "renewedAt"}  # the state of renewals: every renewal makes it anew
_MIN_KEY_BYTES = 32

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

_METADATA = TypeAdapter(dict[str, str])
_DETAIL = TypeAdapter(dict[str, JsonValue])
_IDS = TypeAdapter(frozenset[str])


def to_row(record: Record, base: Row | None = None) -> dict[str, object]:
    """The columns of a record, without its keys.

    Parameters
    ----------
    base
        The row that the record was read from: what of it this version does not know, or cannot read, is kept.
    """
    new = column_values.split_long_columns(columns.columns_of(record))
    if base is None or not isinstance(record, Call | Operation):
        return dict(new)
    before = _call(base) if isinstance(record, Call) else _operation(base)
    fixed = [name for name in before.unreadable if name not in _REWRITTEN_COLUMNS]
    return merge_unknown_columns(base, column_values.split_long_columns(columns.columns_of(before)), new, fixed)


def to_call(row: Row) -> Call:
    """The call of an `active|`, `ended|` or `recent|` row.

    Raises
    ------
    RowUnreadable
        Not even the tenant can be read, or, of an ended call, when it ended.
    """
    return _read_and_log(_call, row)


def readable_call(row: Row) -> Call | None:
    """The same; None if the row cannot be read."""
    try:
        return to_call(row)
    except RowUnreadable:
        return None


def to_lease(row: Row) -> Lease:
    """The lease of an `active|` row of which only SWEEP_COLUMNS were read. Raises `ValueError`.

    It is in one column, beside those that it is made of: the SDK takes four times as long to read the times in theirs.
    """
    lease = columns.LEASE_ADAPTER.validate_json(column_values.required_text(row, "lease"))
    moments = [lease.known_at, lease.started_at, lease.renewed_at]
    if lease.failing:
        moments += [lease.failing.since, lease.failing.retry_at]
    for moment in moments:  # not by `check_moments`, which takes ten times as long: a sweep reads all leases
        if moment is not None:
            column_values.check_moment(moment)
    return lease


def readable_lease(row: Row) -> Lease | None:
    """The lease, as well as it can be read: a damaged row must not end the scan, nor, if it can be helped, its call.

    What cannot be read is taken for long ago, so that the call goes first. None if not even the tenant is there.
    """
    try:
        return to_lease(row)
    except ValueError:
        key, tenant_id = str(row.get("RowKey")), row.get("tenantId")
        is_lost = not isinstance(tenant_id, str) or not tenant_id
        _log_unreadable(row, ("lease",), skipped=is_lost)
    if is_lost:
        return None
    return Lease(id_of_key(key), str(tenant_id), _LONG_AGO, _LONG_AGO, app_id=column_values.optional_text(row, "appId"))


def read_or_none[T](read: Callable[[Row], T], row: Row | None) -> T | None:
    """What a row of a shard says; a damaged one counts as none: the next sweep writes it anew."""
    if row is None:
        return None
    try:
        return read(row)
    except ValueError:
        _log_unreadable(row, (), skipped=True)
        return None


def to_operation(row: Row) -> Operation:
    """The operation of an `operation|` row. Raises `RowUnreadable` if its key does not name one."""
    return _read_and_log(_operation, row)


def readable_operation(row: Row) -> Operation | None:
    """The same; None if the row cannot be read."""
    try:
        return to_operation(row)
    except RowUnreadable:
        return None


def to_event(row: Row) -> Event:
    """The event of an `event|` row. Of one that cannot be read, the line stays, and says so."""
    read = RowReader(row)
    at, kind = read.required_moment("at", _LONG_AGO), read.required_text("kind", "unreadable")
    detail = {name: _scalar(value) for name, value in (read.load_json(_DETAIL, "detail") or {}).items()}
    if read.unreadable:
        _log_unreadable(row, read.unreadable)
        detail["unreadable"] = ", ".join(read.unreadable)
    return Event(kind, at, detail, bool(row.get("told")))


def to_watermark(row: Row) -> Watermark:
    """The watermark of a shard. Raises `ValueError`."""
    return Watermark(
        column_values.required_moment(row, "sweepStartedAt"),
        column_values.required_moment(row, "finishedAt"),
        column_values.optional_number(row, "renewed") or 0,
        column_values.optional_number(row, "ended") or 0,
        column_values.optional_number(row, "failing") or 0,
        _ids(row),
    )


def to_progress(row: Row) -> Progress:
    """How far a sweep came. Raises `ValueError`."""
    last_id = column_values.optional_text(row, "afterId")
    return Progress(
        column_values.required_moment(row, "startedAt"),
        column_values.optional_moment(row, "under"),
        None
        if last_id is None
        else (
            column_values.required_moment(row, "afterDeadline"),
            column_values.required_moment(row, "afterBegan"),
            last_id,
        ),
        column_values.optional_number(row, "renewed") or 0,
        column_values.optional_number(row, "ended") or 0,
        column_values.optional_number(row, "failing") or 0,
        _ids(row),
    )


def to_watchdog_state(row: Row) -> WatchdogState:
    """The last dead man's switch. Raises `ValueError`."""
    return WatchdogState(column_values.required_moment(row, "due"), column_values.optional_moment(row, "sweepBeganAt"))


def to_idempotency_record(row: Row) -> IdempotencyRecord:
    """The request of an `idempotency|` row.

    Raises
    ------
    RowUnreadable
        A column cannot be read. Whether the request was done is then unknown, so it is not done again.
    """
    try:
        response, unknown = (
            column_values.load_json(columns.RESPONSE_ADAPTER, row, "answered"),
            bool(row.get("outcomeLost")),
        )
        claim = column_values.optional_text(row, "claim") or ""
        return IdempotencyRecord(
            column_values.required_text(row, "fingerprint"),
            column_values.required_moment(row, "beganAt"),
            response,
            unknown,
            claim,
        )
    except ValueError:
        _log_unreadable(row, (), skipped=True)
        raise RowUnreadable(str(row.get("RowKey"))) from None


def to_continuation_key(row: Row) -> bytes:
    """The key of this deployment. Raises `ValueError`."""
    secret = bytes.fromhex(column_values.required_text(row, "key"))
    if len(secret) < _MIN_KEY_BYTES:
        raise ValueError("The key of this deployment is too short.")
    return secret


def _call(row: Row) -> Call:
    key, read = column_values.required_text(row, "RowKey"), RowReader(row)
    tenant_id = read.optional_text("tenantId") or _tenant_of_lease(row)
    ended_at = _ended_at(read, key)
    if not tenant_id or (ended_at is None and not key.startswith("active|")):
        raise RowUnreadable(key)
    metadata = read.load_json(_METADATA, "metadata")
    call = Call(
        id=id_of_key(key),
        tenant_id=tenant_id,
        state=read.required_text("state", NO_STATE),
        known_at=read.required_moment("knownAt", _LONG_AGO),
        started_at=read.required_moment("startedAt", _LONG_AGO),
        registered_at=read.optional_moment("registeredAt"),
        ever_established=bool(row.get("everEstablished")),
        direction=read.optional_text("direction"),
        call_chain_id=read.optional_text("callChainId"),
        metadata=metadata or {},
        renewed_at=read.optional_moment("renewedAt"),
        failing=read.load_json(columns.RENEWAL_FAILURE_ADAPTER, "failing"),
        hangup=read.load_json(columns.HANGUP_ADAPTER, "hangup"),
        ended_at=ended_at,
        termination=_termination(read, row),
        app_id=read.optional_text("appId"),
    )
    return replace(call, unreadable=read.unreadable) if read.unreadable else call


def _tenant_of_lease(row: Row) -> str | None:
    """The tenant by the lease of an active call: what a sweep can renew can be read and written too."""
    try:
        return to_lease(row).tenant_id or None
    except ValueError:
        return None


def _ended_at(read: RowReader, key: str) -> datetime | None:
    """When a call ended; of a `recent|` row its key tells it too."""
    if key.startswith("active|"):
        return None
    found = read.optional_moment("endedAt")
    if found is None and key.startswith("recent|"):
        try:
            return rows.parse_recent_key(key)
        except ValueError:
            return None
    return found


def _termination(read: RowReader, row: Row) -> Termination | None:
    """Why a call ended. Of an account that cannot be read, its words, if they are there."""
    termination = read.load_json(columns.TERMINATION_ADAPTER, "termination")
    if termination is not None or "termination" not in read.unreadable:
        return termination
    try:
        stored = json.loads(column_values.required_text(row, "termination"))
        return columns.TERMINATION_ADAPTER.validate_json(json.dumps(stored | {"source": TerminationSource.UNKNOWN}))
    except (ValueError, TypeError, RecursionError):
        return Termination(TerminationSource.UNKNOWN, "What is on record of the end cannot be read.", UNKNOWN)


def _operation(row: Row) -> Operation:
    key, read = column_values.required_text(row, "RowKey"), RowReader(row)
    try:
        _, call_id, operation_id = key.split("|")
    except ValueError:
        raise RowUnreadable(key) from None
    operation = Operation(
        id=operation_id,
        call_id=call_id,
        kind=read.required_text("kind", "commsOperation"),
        status=read.required_text("status", NO_STATE),
        known_at=read.required_moment("knownAt", _LONG_AGO),
        client_context=read.optional_text("clientContext"),
        requested_at=read.optional_moment("requestedAt"),
        requested_by=read.optional_text("requestedBy"),
        finished_at=read.optional_moment("finishedAt"),
        code=read.optional_number("code"),
        subcode=read.optional_number("subcode"),
        raw_code=read.optional_text("rawCode"),
        raw_subcode=read.optional_text("rawSubcode"),
        message=read.optional_text("message"),
        completion_reason=read.optional_text("completionReason"),
        recording_location=read.optional_text("recordingLocation"),
        recording_access_token=read.optional_text("recordingAccessToken"),
    )
    return replace(operation, unreadable=read.unreadable) if read.unreadable else operation


def _read_and_log[T: Call | Operation](read: Callable[[Row], T], row: Row) -> T:
    """What `read` makes of a row; what it could not read is logged."""
    try:
        record = read(row)
    except RowUnreadable:
        _log_unreadable(row, (), skipped=True)
        raise
    if record.unreadable:
        _log_unreadable(row, record.unreadable)
    return record


def _log_unreadable(row: Row, names: tuple[str, ...], *, skipped: bool = False) -> None:
    key = str(row.get("RowKey"))
    kind, columns_ = key.partition("|")[0], ", ".join(names) or None
    telemetry.ROW_UNREADABLE(rowKind=kind, rowKey=key, columns=columns_, skipped=skipped)


def _scalar(value: JsonValue) -> str | int | bool | None:
    """A value of an event's detail, which is flat: a newer version may have written others."""
    return value if value is None or isinstance(value, str | int) else column_values.to_json(value)


def _ids(row: Row) -> frozenset[str]:
    return column_values.load_json(_IDS, row, "unwritten") or frozenset()
