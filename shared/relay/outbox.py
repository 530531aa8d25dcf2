"""The planner of the outbox: adds deliveries to the changes of calls, so that one transaction writes both."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared.clock import Clock
from shared.config.apps import Apps
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.calls import Call, Operation
from shared.domain.deliveries import (
    Attempt,
    Delivery,
    DeliveryStatus,
    Destination,
    delivery_id,
    is_valid_to,
    sequence_at,
)
from shared.relay.breaker import Destinations, Obstacle
from shared.relay.events import RECORDING, CallEvent, events_of_change, render, with_end_revision
from shared.relay.lanes import log_dead
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Change, Committed, max_rows
from shared.storage.delivery_codec import MAX_BODY_COLUMNS, MAX_GZIP_OVERHEAD, pack_body
from shared.storage.delivery_writes import lanes_of
from shared.storage.relay_queue import RelayMessage, deliver_message
from shared.storage.rows import shard_of
from shared.storage.store import CallStore
from shared.storage.table import MAX_BINARY_LENGTH, MAX_TRANSACTION_ROWS

ROWS_OF_EVENT = 3  # of its transaction: the delivery, its copy, and its lane
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class _Draft:
    """A delivery that has no place yet. The body of an event holds its id, so it is made last."""

    delivery: Delivery
    event: CallEvent | None = None

    def finish(self, new_id: str, sequence: int, at: datetime) -> Delivery:
        """Return the delivery with its id, its sequence and its body. A body that no row can hold is left out."""
        body = render(self.event, new_id, at) if self.event else self.delivery.body
        if body is not None and is_too_large(body):
            body = None
        return replace(self.delivery, id=new_id, sequence=sequence, body=body)


@dataclass(frozen=True)
class OutboxPlanner:
    """Adds the events of a change, gives each delivery its place in the order of its call, and calls the queue.

    Every writer of a call commits through the store, which asks this planner: so no change loses its events.
    """

    targets: RelayTargets
    apps: Apps
    destinations: Destinations
    queue: BestEffortQueue[RelayMessage]
    clock: Clock

    async def plan(self, store: CallStore, change: Change) -> Change:
        """Return the change with its deliveries, and the call with the sequence of the last one."""
        before = change.before.value if change.before else None
        after = with_end_revision(before, change.after)
        drafts = [
            *map(_Draft, change.outgoing.deliveries),
            *await self._event_drafts(store, change, before, after),
        ]
        if not drafts and not change.outgoing.barriers:
            return change  # without a delivery nothing of the relay is written, not even the revision of the end
        now = self.clock.now()
        await self.destinations.refresh()
        await self.destinations.confirm_disabled(draft.delivery.destination for draft in drafts)
        placed = self._in_order(drafts, before, now)
        last = [each.sequence for each in placed] + [each.sequence for each in change.outgoing.barriers]
        after = replace(after, relay_sequence=max(*last, _last_sequence(before)))
        outgoing = replace(change.outgoing, deliveries=placed, at=now)
        return replace(change, after=after, outgoing=outgoing)

    async def announce(self, committed: Committed, *, is_claimed: bool) -> None:
        """Log deliveries that are dead from the start, and ask the queue to attempt the others if they are unclaimed.

        It never fails: a look at the outbox finds them too.
        """
        for stored in committed.deliveries:
            if not stored.value.wants_answer or stored.value.attempts:
                log_dead(stored.value)
        for key in () if is_claimed else lanes_of(stored.value for stored in committed.deliveries):
            lane = committed.opened.get(key)
            # Without its time, a process whose clock is behind would take the message for one that came too early.
            await self.queue.send(deliver_message(key, lane.value.next_attempt_at if lane else None))

    def _place(self, delivery: Delivery, at: datetime) -> Delivery:
        """Return a delivery as it is written: dead without a valid `to`, disabled if its destination is off."""
        target = self.targets.get(delivery.destination.target)
        if target and target.wants_to and not is_valid_to(delivery.destination.to or ""):
            return replace(delivery, status=DeliveryStatus.DEAD, attempts=(Attempt(at, error="noTo"),))
        blocked = self.destinations.blocked(delivery.destination)
        if blocked and blocked.obstacle is Obstacle.DISABLED and not delivery.wants_answer:
            return replace(delivery, status=DeliveryStatus.DISABLED)
        return delivery

    def _in_order(self, drafts: Iterable[_Draft], before: Call | None, now: datetime) -> tuple[Delivery, ...]:
        """Give each delivery a sequence above that of the call's delivery before, its id, and its state."""
        last = _last_sequence(before)
        placed: list[Delivery] = []
        for draft in drafts:
            last = max(sequence_at(now), draft.delivery.sequence, last + 1)
            new_id = delivery_id(shard_of(draft.delivery.call_id), last, secrets.token_hex(4))
            placed.append(self._place(draft.finish(new_id, last, now), now))
        return tuple(placed)

    async def _event_drafts(
        self, store: CallStore, change: Change, before: Call | None, after: Call
    ) -> Sequence[_Draft]:
        app_id = self.apps.with_app_id(after).app_id
        if not any(target.format == "events" for target in self.targets.all):
            return ()
        operations = [(stored.value if stored else None, operation) for stored, operation in change.operations]
        unfinished = await self._unfinished_recordings(store, before, after, app_id)
        events = events_of_change(before, self.apps.with_app_id(after), operations, unfinished)
        found = [
            _Draft(self._event_delivery(event, target, after, app_id), event)
            for event in events
            for target in self.targets.events_targets(app_id, event.type)
        ]
        room = (MAX_TRANSACTION_ROWS - max_rows(change)) // ROWS_OF_EVENT
        return found[max(len(found) - room, 0) :]  # the end comes last; what has no room are recordings of one call

    async def _unfinished_recordings(
        self, store: CallStore, before: Call | None, after: Call, app_id: str | None
    ) -> Sequence[Operation]:
        """Return the recordings that the end of the call cuts off. They cost a request only if a target wants them."""
        has_ended = after.ended_at is not None and (before is None or before.ended_at is None)
        if before is None or not has_ended or not self.targets.events_targets(app_id, "recording.lost"):
            return ()
        operations = await store.list_operations(after.id)
        return [each for each in operations if each.kind == RECORDING and not each.is_finished]

    def _event_delivery(self, event: CallEvent, target: RelayTarget, call: Call, app_id: str | None) -> Delivery:
        now = self.clock.now()
        return Delivery(
            id="",
            call_ids=(call.id,),
            sequence=0,
            destination=Destination(target.name, call.relay_to if target.wants_to else None),
            type=event.type,
            tenant_id=call.tenant_id,
            app_id=app_id,
            received_at=now,
            retry_since=now,
            headers=JSON_HEADERS,
        )


def _last_sequence(call: Call | None) -> int:
    return (call.relay_sequence if call else None) or 0


def is_too_large(body: bytes) -> bool:
    """True if no row can hold the body."""
    surely_fits = len(body) <= MAX_BODY_COLUMNS * MAX_BINARY_LENGTH - MAX_GZIP_OVERHEAD
    return not surely_fits and pack_body(body) is None
