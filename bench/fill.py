"""Fills a storage with calls as the app writes them: `python -m bench.fill COUNT`. Settings come from the environment.

It writes only the rows that a sweep reads, so no events of calls.
"""

import asyncio
import sys
from datetime import datetime, timedelta
from itertools import batched

from azure.data.tables.aio import TableClient
from azure.storage.queue.aio import QueueClient

from bench.workload import TENANT, call_ids
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.domain.calls import Call
from shared.domain.leases import Watermark
from shared.services import TABLE_NAME
from shared.storage import rows
from shared.storage.azure_table import CLIENT_OPTIONS, AzureTable
from shared.storage.row_codec import to_row
from shared.storage.store import SHARDS, shard_of
from shared.storage.table import MAX_TRANSACTION_ROWS, Put, Table
from shared.storage.wakeup_queue import QUEUE_NAME

CALL_AGE = timedelta(minutes=30)
SINCE_LAST_SWEEP = timedelta(minutes=15)  # the period of KEEP_ALIVE_SCHEDULE: the next sweep is due


async def fill(storage: str, count: int) -> None:
    """Write `count` live calls and one watermark for each shard, and create the queue, as after an earlier sweep."""
    now = SystemClock().now()
    async with QueueClient.from_connection_string(storage, QUEUE_NAME) as queue:
        await queue.create_queue()
    async with TableClient.from_connection_string(storage, TABLE_NAME, **CLIENT_OPTIONS) as client:
        table = AzureTable(client)
        by_shard: list[list[str]] = [[] for _ in range(SHARDS)]
        for call_id in call_ids(count):
            by_shard[shard_of(call_id)].append(call_id)
        for shard, ids in enumerate(by_shard):
            await _fill_shard(table, shard, ids, now)


async def _fill_shard(table: Table, shard: int, ids: list[str], now: datetime) -> None:
    swept = now - SINCE_LAST_SWEEP
    await table.write(shard, [Put(rows.WATERMARK_ROW, to_row(Watermark(swept, swept, renewed=len(ids))))])
    for some in batched(ids, MAX_TRANSACTION_ROWS, strict=False):
        await table.write(
            shard, [Put(rows.active_key(call_id), to_row(_call(call_id, now - CALL_AGE))) for call_id in some]
        )


def _call(call_id: str, at: datetime) -> Call:
    return Call(
        call_id,
        TENANT,
        "established",
        known_at=at,
        started_at=at,
        registered_at=at,
        ever_established=True,
        direction="outgoing",
        call_chain_id="2f1a7c64-9b0e-4d53-8a21-6e0f3b7c9d15",
        metadata={"ticket": "4711", "queue": "support"},
    )


if __name__ == "__main__":
    settings = load_settings()
    asyncio.run(fill(settings.calls_storage.get_secret_value() if settings.calls_storage else "", int(sys.argv[1])))
