"""The rows of a call: their keys, and the writes that one change of a call is made of. Both stores go by it."""

import secrets
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.domain.calls import Call, Event, IdempotencyRecord, Operation, Status
from shared.domain.leases import Progress, WatchdogState, Watermark
from shared.storage.column_values import Row
from shared.storage.store import Change

MAX_TRANSACTION_ROWS = 100  # Table Storage: rows in one transaction
PROGRESS_ROW = "active-progress"  # these two sort just before the `active|` rows: one scan reads all that a sweep needs
WATERMARK_ROW = "active-watermark"
WATCHDOG_ROW = "switch"  # in shard 0
CONTINUATION_KEY_ROW = "seal"  # in shard 0
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

type Record = Call | Operation | Event | Watermark | Progress | WatchdogState | bytes | IdempotencyRecord


@dataclass(frozen=True, slots=True)
class Create:
    """Write a row that must not be there yet. What of `base`, a row of the same record, we do not know is kept."""

    key: str
    record: Record
    base: Row | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Replace:
    """Write a row anew that must still be as it was read. `base` as of `Create`."""

    key: str
    record: Record
    etag: str
    base: Row | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Put:
    """Write a row, whether it is there or not. `base` as of `Create`."""

    key: str
    record: Record
    base: Row | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a row that must be there, and, where an ETag is given, must still be as it was read."""

    key: str
    etag: str | None = None


type Write = Create | Replace | Put | Delete


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The row keys between two, both exclusive."""

    above: str
    below: str


def shard_key(shard: int) -> str:
    """The PartitionKey of a shard: two digits."""
    return f"{shard:02}"


def active_key(call_id: str) -> str:
    """The row of a live call."""
    return f"active|{call_id}"


def ended_key(call_id: str) -> str:
    """The row of an ended call."""
    return f"ended|{call_id}"


def recent_key(ended_at: datetime, call_id: str) -> str:
    """The row that sorts an ended call before older ones: 18 digits of the microseconds from its end to year 10000."""
    return f"recent|{_descending(ended_at)}|{call_id}"


def parse_recent_key(recent: str) -> datetime:
    """The end that the key of a `recent|` row tells. Raises `ValueError`."""
    try:
        return _END_OF_TIME - int(recent.split("|")[1]) * _MICROSECOND
    except (IndexError, OverflowError):
        raise ValueError("The key tells no time.") from None


def event_key(call_id: str, digest: str) -> str:
    """The row of a line of the story."""
    return f"event|{call_id}|{digest}"


def first_event_key(call_id: str) -> str:
    """The row that says how the call became known. There is one a call, so that only one writer can create the call.

    ETags do not see to that: `active|` and `ended|` are two rows, and two writers that read nothing could write both.
    """
    return event_key(call_id, "first")


def operation_key(call_id: str, operation_id: str) -> str:
    """The row of an operation."""
    return f"operation|{call_id}|{operation_id}"


def idempotency_record_key(call_id: str, name: str) -> str:
    """The row of a request with an `Idempotency-Key`."""
    return f"idempotency|{call_id}|{name}"


def call_key(call: Call) -> str:
    """The row that holds the state of a call."""
    return active_key(call.id) if call.status is Status.ACTIVE else ended_key(call.id)


def id_of_key(key: str) -> str:
    """What stands behind the last `|` of a key: ids have none."""
    return key.rpartition("|")[2]


def prefix_range(prefix: str) -> KeyRange:
    """All rows whose key begins with this prefix and a `|`, which `}` follows."""
    return KeyRange(f"{prefix}|", f"{prefix}}}")


def ended_before_range(moment: datetime) -> KeyRange:
    """The `recent|` rows of calls that ended before a moment."""
    return KeyRange(f"recent|{_descending(moment)}}}", "recent}")


def sweep_range() -> KeyRange:
    """All that a sweep of a shard reads: its progress, its watermark, and then its active calls."""
    return KeyRange("active-", prefix_range("active").below)


def new_continuation_key() -> bytes:
    """A key for HMAC-SHA-256."""
    return secrets.token_bytes(32)


def sort_key(key: str) -> bytes:
    """What to sort keys by: Table Storage goes by UTF-16 units, Python by code points."""
    return key.encode("utf-16-be", "surrogatepass")


def new_events(change: Change) -> dict[str, Event]:
    """The events of a change by their keys; each once."""
    by_key: dict[str, Event] = {}
    for event in change.events:
        by_key.setdefault(event_key(change.after.id, event.digest), event)
    return by_key


def plan_writes(change: Change, existing: AbstractSet[str]) -> tuple[Write, ...]:
    """What a change writes, in one transaction; nothing if everything is on record as it shall be.

    The row of the call is always among it, with its ETag, even where only an event is new: so that nobody adds to a
    call that was ended, or purged, since it was read.

    Parameters
    ----------
    existing
        The keys of those events that are on record already: they keep their first time.

    Raises
    ------
    ValueError
        It is more than one transaction holds, it writes an operation twice, or it revives an ended call that is not of
        another tenant's word alone.
    """
    events = [Create(key, event) for key, event in new_events(change).items() if key not in existing]
    operations = [
        Replace(operation_key(change.after.id, operation.id), operation, stored.etag, stored.row)
        if stored
        else Create(operation_key(change.after.id, operation.id), operation)
        for stored, operation in change.operations
        if stored is None or stored.value != operation
    ]
    if change.before and change.before.value == change.after and not events and not operations:
        return ()
    rows = (*_call_rows(change), *events, *operations)
    if len(rows) > MAX_TRANSACTION_ROWS:
        raise ValueError(
            f"{len(rows)} rows do not go into one transaction of {MAX_TRANSACTION_ROWS}: write them in parts."
        )
    if len({row.key for row in rows}) < len(rows):
        raise ValueError("A change names an operation twice.")
    return rows


def _call_rows(change: Change) -> tuple[Write, ...]:
    before, after = change.before, change.after
    if before is None:
        return (
            Create(first_event_key(after.id), _known_event(after)),
            Create(call_key(after), after),
            *_put_recent(after),
        )
    if before.value.status is after.status:
        gone = _delete_recent(before.value) if after.ended_at != before.value.ended_at else ()
        return (Replace(call_key(after), after, before.etag, before.row), *gone, *_put_recent(after, before.row))
    if after.status is Status.ACTIVE:
        if before.value.registered_at or before.value.tenant_id == after.tenant_id:
            raise ValueError(f"Call {after.id} has ended: nothing brings it back.")
        return (  # without the row of before: another tenant's word says nothing of this call
            Delete(ended_key(after.id), before.etag),
            *_delete_recent(before.value),
            Create(active_key(after.id), after),
        )
    ended = Create(ended_key(after.id), after, before.row)
    return (Delete(active_key(after.id), before.etag), ended, *_put_recent(after, before.row))


def _put_recent(call: Call, base: Row | None = None) -> tuple[Write, ...]:
    return (Put(recent_key(call.ended_at, call.id), call, base),) if call.ended_at else ()


def _delete_recent(call: Call) -> tuple[Write, ...]:
    return (Delete(recent_key(call.ended_at, call.id)),) if call.ended_at else ()


def _known_event(call: Call) -> Event:
    return Event("firstSeen", call.known_at, {"by": "registration" if call.registered_at else "notification"})


def _descending(moment: datetime) -> str:
    return f"{(_END_OF_TIME - moment) // _MICROSECOND:018}"
