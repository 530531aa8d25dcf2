"""A row of each kind, for docs/storage.md. The store writes them into a table in memory, so they are what it stores."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

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
from shared.domain.deliveries import (
    NOTIFICATION_TYPE,
    Attempt,
    Delivery,
    Destination,
    DestinationState,
    Lane,
    delivery_id,
    sequence_at,
)
from shared.domain.leases import Progress, RenewalFailure, WatchdogState, Watermark
from shared.storage.delivery_writes import create_delivery, open_lane
from shared.storage.memory_table import MemoryTable
from shared.storage.outbox import OutboxStore
from shared.storage.row_codec import to_row
from shared.storage.rows import SIGNING_KEY_ROW, shard_of
from shared.storage.store import CallStore, Change
from shared.storage.table import KeyRange, Put

CALL_ID = "57dab8b1-894c-409a-b240-bd8beae78896"
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_ALL = KeyRange("", "~")
_EXAMPLE_KEY = bytes(range(32))  # a real one is random


@cache
def row_examples() -> Mapping[str, Mapping[str, object]]:
    """Return the columns of one row of each kind, by the part of its RowKey before the first `|`."""
    return asyncio.run(_write_all())


async def _write_all() -> Mapping[str, Mapping[str, object]]:
    table = MemoryTable()
    await _write(CallStore(table), table)
    shards = (0, shard_of(CALL_ID))
    rows = [row for shard in shards async for page in table.pages(shard, _ALL) for row in page]
    return {row.key.partition("|")[0]: row.columns for row in rows if not row.key.endswith("|first")}


async def _write(store: CallStore, table: MemoryTable) -> None:
    shard = shard_of(CALL_ID)
    notified = Event("callNotified", NOW + MINUTE, {"state": "established"}, from_notification=True)
    recording = Operation(
        "op-1", CALL_ID, "recordOperation", "completed", NOW + MINUTE, "greeting", code=200, subcode=0
    )
    await store.commit(Change(None, _ended(), (notified,), ((None, recording),)))
    await store.commit(Change(None, replace(_active(), id=_neighbour(shard))))
    request = IdempotencyRecord("sha256 of the request", NOW, StoredResponse(202, '{"id": "op-1"}'), claim_id="random")
    await store.claim_idempotency_key(CALL_ID, "sha256-of-caller-and-key", request, None)
    await store.put_watermark(shard, Watermark(NOW, NOW + MINUTE, renewed=41, ended=2, failing=1))
    await store.put_progress(shard, Progress(NOW, NOW - 15 * MINUTE, (NOW + 30 * MINUTE, NOW, CALL_ID), renewed=40))
    await store.put_watchdog_state(WatchdogState(NOW + 20 * MINUTE, NOW))
    await table.write(0, [Put(SIGNING_KEY_ROW, to_row(_EXAMPLE_KEY))])
    delivery = _delivery()
    lane = Lane(delivery.lane, next_attempt_at=delivery.next_attempt_at, oldest_received_at=NOW)
    await table.write(shard, [*create_delivery(delivery), open_lane(lane)])
    rests = DestinationState(delivery.destination, rests_until=NOW + MINUTE)
    await OutboxStore(table).put_destination(None, rests)


def _delivery() -> Delivery:
    body = b'{"value": [{"changeType": "updated"}]}'
    return Delivery(
        delivery_id(shard_of(CALL_ID), sequence_at(NOW), "9f3c2a1b"),
        (CALL_ID,),
        sequence_at(NOW),
        Destination("bot", "pod-1"),
        NOTIFICATION_TYPE,
        "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11",
        "26a18ebc-cdf7-4a6a-91cb-beb352805e81",
        received_at=NOW,
        retry_since=NOW,
        attempts=(Attempt(NOW, 503, latency=timedelta(milliseconds=12)),),
        next_attempt_at=NOW + MINUTE,
        headers={"Content-Type": "application/json"},
        body=body,
    )


def _active() -> Call:
    return Call(
        CALL_ID,
        "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11",
        "established",
        known_at=NOW,
        started_at=NOW - MINUTE,
        registered_at=NOW,
        ever_established=True,
        direction="incoming",
        call_chain_id="2f1a7c64-9b0e-4d53-8a21-6e0f3b7c9d15",
        metadata={"ticket": "4711"},
        renewed_at=NOW,
        failing=RenewalFailure(NOW + 15 * MINUTE, 1, NOW + 16 * MINUTE, "Graph answered 503.", 503),
        app_id="26a18ebc-cdf7-4a6a-91cb-beb352805e81",
    )


def _ended() -> Call:
    return replace(
        _active(),
        state="terminated",
        failing=None,
        hangup=Hangup(NOW + 20 * MINUTE, "function key", accepted=True),
        ended_at=NOW + 21 * MINUTE,
        termination=Termination(
            TerminationSource.NOTIFICATION, "Hung up through Call Keeper by function key.", "byBot", 200, 5001
        ),
    )


def _neighbour(shard: int) -> str:
    """Return the id of another call of the same shard, so that one scan finds all rows."""
    ids = (f"00000000-0000-4000-8000-{number:012}" for number in range(1_000))
    return next(call_id for call_id in ids if shard_of(call_id) == shard)
