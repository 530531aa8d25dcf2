"""A change of a call, and the writes of its one transaction."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from shared.domain.calls import Call, Event, Operation, Status
from shared.storage.row_codec import to_row, update_row
from shared.storage.rows import (
    active_key,
    call_key,
    ended_key,
    event_key,
    first_event_key,
    operation_key,
    recent_key,
)
from shared.storage.table import MAX_TRANSACTION_ROWS, Cells, Create, Delete, Put, Replace, Row, Write


@dataclass(frozen=True, slots=True)
class Stored[T]:
    """A value as it was read, with the ETag that a write of it must carry.

    `row` is the row that it was read from. A write of the value keeps its columns that this version does not know.
    """

    value: T
    etag: str
    row: Row | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Change:
    """All that one transaction writes of one call.

    `before` is the call as it was read (None: it was not on record), `after` the call to write. Operations are pairs of
    the same.
    """

    before: Stored[Call] | None
    after: Call
    events: tuple[Event, ...] = ()
    operations: tuple[tuple[Stored[Operation] | None, Operation], ...] = ()

    @property
    def changes_call(self) -> bool:
        """True if the call itself differs from what was read."""
        return self.before is None or self.before.value != self.after


def new_events(change: Change) -> dict[str, Event]:
    """Return the events of a change by their keys, each once."""
    by_key: dict[str, Event] = {}
    for event in change.events:
        by_key.setdefault(event_key(change.after.id, event.digest), event)
    return by_key


def plan_writes(change: Change, existing: AbstractSet[str]) -> tuple[Write, ...]:
    """Return the writes of a change, for one transaction. They are empty if nothing differs from what is on record.

    The row of the call is always among them, with its ETag, even if only an event is new. So a writer cannot add to a
    call that was ended or purged since it was read.

    Parameters
    ----------
    existing
        Keys of the events that are on record already. They keep their first time.

    Raises
    ------
    ValueError
        The change has more rows than one transaction, or has an operation twice, or revives an ended call. Only a
        tombstone that another tenant's token made can become active.
    """
    events = [Create(key, to_row(event)) for key, event in new_events(change).items() if key not in existing]
    operations = [
        _write_operation(stored, operation)
        for stored, operation in change.operations
        if stored is None or stored.value != operation
    ]
    if not (change.changes_call or events or operations):
        return ()
    writes = (*_write_call(change), *events, *operations)
    if len(writes) > MAX_TRANSACTION_ROWS:
        raise ValueError(f"A change of {len(writes)} rows exceeds one transaction of {MAX_TRANSACTION_ROWS}: split it.")
    if len({write.key for write in writes}) < len(writes):
        raise ValueError("A change has an operation twice.")
    return writes


def _write_operation(before: Stored[Operation] | None, after: Operation) -> Write:
    key = operation_key(after.call_id, after.id)
    return Replace(key, _updated_row(before, after), before.etag) if before else Create(key, to_row(after))


def _write_call(change: Change) -> tuple[Write, ...]:
    before, after = change.before, change.after
    if before is None:
        first = Create(first_event_key(after.id), to_row(_known_event(after)))
        cells = to_row(after)
        return (first, Create(call_key(after), cells), *_put_recent(after, cells))
    if before.value.status is after.status:
        gone = _delete_recent(before.value) if after.ended_at != before.value.ended_at else ()
        cells = _updated_row(before, after)
        return (Replace(call_key(after), cells, before.etag), *gone, *_put_recent(after, cells))
    if after.status is Status.ACTIVE:
        if before.value.registered_at or before.value.tenant_id == after.tenant_id:
            raise ValueError(f"Call {after.id} has ended: nothing brings it back.")
        return (  # without the columns of the tombstone: another tenant's token says nothing about this call
            Delete(ended_key(after.id), before.etag),
            *_delete_recent(before.value),
            Create(active_key(after.id), to_row(after)),
        )
    cells = _updated_row(before, after)
    ended = Create(ended_key(after.id), cells)
    return (Delete(active_key(after.id), before.etag), ended, *_put_recent(after, cells))


def _updated_row[T: Call | Operation](before: Stored[T], after: T) -> dict[str, object]:
    return to_row(after) if before.row is None else update_row(before.row, before.value, after)


def _put_recent(call: Call, cells: Cells) -> tuple[Write, ...]:
    return (Put(recent_key(call.ended_at, call.id), cells),) if call.ended_at else ()


def _delete_recent(call: Call) -> tuple[Write, ...]:
    return (Delete(recent_key(call.ended_at, call.id)),) if call.ended_at else ()


def _known_event(call: Call) -> Event:
    return Event("firstSeen", call.known_at, {"by": "registration" if call.registered_at else "notification"})
