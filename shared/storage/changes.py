"""A change of a call with its deliveries, and the writes of its one transaction."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.domain.calls import Call, Event, Operation, Status
from shared.domain.deliveries import Delivery, Lane, LaneKey
from shared.storage.delivery_codec import Barrier
from shared.storage.delivery_writes import append_to_lane, create_delivery, lanes_of, open_lane, put_barrier
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
from shared.storage.stored import Stored
from shared.storage.table import MAX_TRANSACTION_ROWS, Cells, Create, Delete, Put, Replace, Write

MAX_CALL_ROWS = 4  # of a call in a change: it leaves `active|` or a place in `recent|`, and gets two new rows


@dataclass(frozen=True, slots=True)
class Claim:
    """The claim on the lanes that a change opens: the writer makes the first attempts itself."""

    id: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The deliveries of a change.

    Parameters
    ----------
    deliveries
        New ones. Pending ones join the lanes of the call.
    barriers
        The places of deliveries whose rows are in the shards of other calls.
    claim
        None: the queue makes the first attempts.
    at
        The time of the change.
    """

    deliveries: tuple[Delivery, ...] = ()
    barriers: tuple[Barrier, ...] = ()
    claim: Claim | None = None
    at: datetime | None = None

    def __bool__(self) -> bool:
        """True if anything is delivered."""
        return bool(self.deliveries or self.barriers)

    @property
    def lanes(self) -> tuple[LaneKey, ...]:
        """The lanes that the deliveries and barriers join, each once."""
        return tuple(dict.fromkeys((*lanes_of(self.deliveries), *(barrier.lane for barrier in self.barriers))))


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
    outgoing: Outgoing = Outgoing()

    @property
    def changes_call(self) -> bool:
        """True if the call itself differs from what was read."""
        return self.before is None or self.before.value != self.after

    @property
    def has_news(self) -> bool:
        """True if the call differs in more than the sequence of its deliveries: its events are most likely new."""
        known = self.before.value if self.before else None
        return known is None or replace(known, relay_sequence=self.after.relay_sequence) != self.after


@dataclass(frozen=True, slots=True)
class Committed:
    """The deliveries of a change that is on record.

    Parameters
    ----------
    deliveries
        As they are on record.
    opened
        The lanes that the change opened: no delivery before was pending in them.
    appended
        The lanes that had pending deliveries, as they were read.
    """

    deliveries: tuple[Stored[Delivery], ...] = ()
    opened: Mapping[LaneKey, Stored[Lane]] = field(default_factory=dict)
    appended: tuple[Lane, ...] = ()


def max_rows(change: Change) -> int:
    """Return how many rows a change writes at most."""
    outgoing = change.outgoing
    deliveries = 2 * len(outgoing.deliveries) + len(outgoing.barriers) + len(outgoing.lanes)
    return MAX_CALL_ROWS + len(change.events) + len(change.operations) + deliveries


def new_events(change: Change) -> dict[str, Event]:
    """Return the events of a change by their keys, each once."""
    by_key: dict[str, Event] = {}
    for event in change.events:
        by_key.setdefault(event_key(change.after.id, event.digest), event)
    return by_key


def plan_writes(
    change: Change, existing: AbstractSet[str], lanes: Mapping[LaneKey, Stored[Lane]] | None = None
) -> tuple[Write, ...]:
    """Return the writes of a change, for one transaction. They are empty if nothing differs from what is on record.

    The row of the call is always among them, with its ETag, even if only an event is new. So a writer cannot add to a
    call that was ended or purged since it was read.

    Parameters
    ----------
    existing
        Keys of the events that are on record already. They keep their first time.
    lanes
        The lanes of its deliveries that have pending deliveries already.

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
    if not (change.changes_call or events or operations or change.outgoing):
        return ()
    writes = (*_write_call(change), *events, *operations, *_write_outgoing(change.outgoing, lanes or {}))
    if len(writes) > MAX_TRANSACTION_ROWS:
        raise ValueError(f"A change of {len(writes)} rows exceeds one transaction of {MAX_TRANSACTION_ROWS}: split it.")
    if len({write.key for write in writes}) < len(writes):
        raise ValueError("A change has an operation twice.")
    return writes


def _write_outgoing(outgoing: Outgoing, lanes: Mapping[LaneKey, Stored[Lane]]) -> Iterator[Write]:
    for delivery in outgoing.deliveries:
        yield from create_delivery(delivery)
    yield from map(put_barrier, outgoing.barriers)
    for key in outgoing.lanes:
        yield append_to_lane(lanes[key]) if key in lanes else open_lane(new_lane(key, outgoing))


def new_lane(key: LaneKey, outgoing: Outgoing) -> Lane:
    """Return a lane as a change opens it."""
    claim = outgoing.claim
    if claim is None:
        return Lane(key, next_attempt_at=outgoing.at, oldest_received_at=outgoing.at)
    return Lane(key, claim.id, claim.until, oldest_received_at=outgoing.at)


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
