"""Mutations of the relay: each removes one safety of deliveries from the real classes."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

import shared.storage.outbox
from shared.domain.deliveries import Delivery, Destination, Lane, LaneKey
from shared.errors import StoreConflict
from shared.relay.attempts import Attempts, Transmission, Tried
from shared.relay.breaker import Blocked, Destinations, Obstacle
from shared.relay.care import OutboxCare
from shared.relay.deliverer import Deliverer
from shared.relay.exchange import Bearer
from shared.storage import changes
from shared.storage.changes import Change, Committed, Outgoing, new_lane
from shared.storage.outbox import LaneEntry, OutboxStore
from shared.storage.rows import delivery_key, lane_key, shard_of
from shared.storage.store import CallStore
from shared.storage.stored import Stored
from shared.storage.table import Delete, Write
from tests.soak.mutations import Mutation, nothing


def own_transaction(patch: pytest.MonkeyPatch) -> None:
    write = CallStore._write

    async def writes(
        self: CallStore, change: Change, existing: frozenset[str], lanes: Mapping[LaneKey, Stored[Lane]]
    ) -> Committed:
        del lanes
        outgoing = change.outgoing
        await write(self, replace(change, outgoing=Outgoing()), existing, {})
        if not outgoing:
            return Committed()
        while True:
            found = await self._existing_lanes(change)
            planned = list(changes._write_outgoing(outgoing, found))
            try:
                etags = await self._table.write(shard_of(change.after.id), planned)
            except StoreConflict:
                continue
            by_key = dict(zip((each.key for each in planned), etags, strict=True))
            return Committed(
                tuple(Stored(each, by_key[delivery_key(each.call_id, each.sequence)]) for each in outgoing.deliveries),
                {
                    key: Stored(new_lane(key, outgoing), by_key[lane_key(key)])
                    for key in outgoing.lanes
                    if key not in found
                },
                tuple(lane.value for lane in found.values()),
            )

    patch.setattr(CallStore, "_write", writes)


def any_pending(patch: pytest.MonkeyPatch) -> None:
    pending = OutboxStore.pending_of_lane

    async def reads(self: OutboxStore, key: LaneKey, *, below: int | None = None) -> list[LaneEntry]:
        return (await pending(self, key, below=below))[::-1]

    patch.setattr(OutboxStore, "pending_of_lane", reads)


def no_claims(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deliverer, "_may_claim", lambda *_args, **_kwargs: True)


def no_look(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OutboxCare, "run", nothing)
    patch.setattr(Deliverer, "notice_overdue", nothing)


def open_to_all(patch: pytest.MonkeyPatch) -> None:
    blocked = Destinations.blocked

    def lets_through(self: Destinations, destination: Destination) -> Blocked | None:
        found = blocked(self, destination)
        return None if found and found.obstacle is Obstacle.BREAKER_OPEN else found

    patch.setattr(Destinations, "blocked", lets_through)


def lane_without_etag(patch: pytest.MonkeyPatch) -> None:
    lane_write = shared.storage.outbox._lane_write

    def writes(before: Stored[Lane], after: Lane | None) -> Write:
        return Delete(lane_key(before.value.key)) if after is None else lane_write(before, after)

    patch.setattr(shared.storage.outbox, "_lane_write", writes)


def same_bearer(patch: pytest.MonkeyPatch) -> None:
    make, bearers = Attempts.make, dict[str, Bearer]()

    async def makes(self: Attempts, delivery: Delivery, way: Transmission) -> Tried:
        if way.bearer:
            bearers[delivery.id] = way.bearer
        return await make(self, delivery, replace(way, bearer=bearers.get(delivery.id)))

    patch.setattr(Attempts, "make", makes)


def expired_bearer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Bearer, "is_usable", lambda *_: True)


def any_write_is_mine(patch: pytest.MonkeyPatch) -> None:
    is_committed = CallStore._is_committed

    async def compares_calls(self: CallStore, change: Change) -> bool:
        return await is_committed(self, replace(change, outgoing=Outgoing()))

    patch.setattr(CallStore, "_is_committed", compares_calls)


MUTATIONS = (
    Mutation("the outbox in the transaction of the call", "relay-crashes", 2, own_transaction),
    Mutation("only the first pending delivery of a lane", "relay-no-queue", 1, any_pending),
    Mutation("the claim on a lane", "relay-races", 1, no_claims),
    Mutation("the looks at the outbox", "relay-no-queue", 1, no_look),
    Mutation("the breaker's one probe at a time", "relay-dead-bot", 1, open_to_all),
    Mutation("the ETag of a lane that is deleted", "relay-races", 1, lane_without_etag),
    Mutation("our own token for retries", "relay-old-bearers", 3, same_bearer),
    Mutation("30 s of life for Graph's bearer", "relay-old-bearers", 1, expired_bearer),
    Mutation("the ids by which a writer knows its own deliveries", "relay-twins", 1, any_write_is_mine),
)
