"""Deliveries for tests: made, and stored without their calls and lanes."""

from datetime import datetime
from uuid import uuid4

from shared.domain.deliveries import Attempt, Delivery, DeliveryStatus, Destination, delivery_id, sequence_at
from shared.storage.delivery_codec import Barrier
from shared.storage.delivery_writes import create_delivery, put_barrier
from shared.storage.outbox import OutboxStore
from shared.storage.rows import shard_of
from tests.support.stores import NOW, SECOND, TENANT

BOT = Destination("bot", None)
APP = "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
BODY = b'{"value": []}'


def make_delivery(
    *call_ids: str,
    at: datetime = NOW,
    status: DeliveryStatus = DeliveryStatus.DEAD,
    to: Destination = BOT,
    tenant: str = TENANT,
) -> Delivery:
    sequence, ids = sequence_at(at), call_ids or ("call",)
    body = None if status is DeliveryStatus.DELIVERED else BODY
    return Delivery(
        delivery_id(shard_of(ids[0]), sequence, uuid4().hex[:8]),
        *(ids, sequence, to, "notification", tenant, APP, at, at),
        status=status,
        attempts=(Attempt(at, 500, latency=SECOND),),
        body=body,
    )


async def store_deliveries(outbox: OutboxStore, *deliveries: Delivery) -> None:
    """Store deliveries without lanes, and the barriers of those about several calls."""
    for delivery in deliveries:
        await outbox._table.write(shard_of(delivery.call_id), create_delivery(delivery))
        for call_id in delivery.call_ids[1:]:
            barrier = Barrier(call_id, delivery.call_id, delivery.sequence, delivery.destination, is_open=False)
            await outbox._table.write(shard_of(call_id), [put_barrier(barrier)])
