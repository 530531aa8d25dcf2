"""The writes of new deliveries and of their lanes, for the transaction of a call's change."""

from collections.abc import Iterable
from dataclasses import replace

from shared.domain.deliveries import Delivery, DeliveryStatus, Lane, LaneKey
from shared.storage import delivery_codec as codec
from shared.storage import rows
from shared.storage.delivery_codec import Barrier
from shared.storage.stored import Stored
from shared.storage.table import Create, Put, Replace, Write


def create_delivery(delivery: Delivery) -> tuple[Write, ...]:
    """Return the writes of a new delivery: its row, and its copy in the list of its status."""
    copy_key = rows.delivery_status_key(delivery.status, delivery.sequence, delivery.call_id)
    return (
        Create(rows.delivery_key(delivery.call_id, delivery.sequence), codec.delivery_cells(delivery)),
        Create(copy_key, codec.delivery_copy_cells(delivery)),
    )


def put_barrier(barrier: Barrier) -> Write:
    """Return the write of a barrier."""
    key = rows.barrier_key(barrier.call_id, barrier.sequence, barrier.primary_call_id)
    return Put(key, codec.barrier_cells(barrier))


def open_lane(lane: Lane) -> Write:
    """Return the write of a lane that must not exist: its creation proves that no delivery before is pending."""
    return Create(rows.lane_key(lane.key), codec.lane_cells(lane))


def append_to_lane(found: Stored[Lane]) -> Write:
    """Return the write that shows the worker of a lane that something was added: it changes the ETag and the count."""
    lane = replace(found.value, appended=found.value.appended + 1)
    return Replace(rows.lane_key(lane.key), codec.lane_cells(lane), found.etag)


def lanes_of(deliveries: Iterable[Delivery]) -> tuple[LaneKey, ...]:
    """Return the lanes of pending deliveries, each once, in their order."""
    pending = (each for each in deliveries if each.status is DeliveryStatus.PENDING and not each.wants_answer)
    return tuple(dict.fromkeys(each.lane for each in pending))
