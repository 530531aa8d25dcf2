"""The bound of the webhook: its very transactions, sent straight to storage: `python -m bench.direct CALLS`."""

import asyncio
import sys
import time
from collections.abc import Iterator

from azure.data.tables.aio import TableClient

from bench.load import IN_FLIGHT, TENANT, call_ids
from bench.measure import Measure
from bench.notifications import bodies
from shared import lifecycle, rows
from shared.calls import Call
from shared.clock import TICK, SystemClock
from shared.notifications import parse
from shared.services import TABLE
from shared.settings import load_settings
from shared.store import Change, Stored, shard_of
from shared.table import CLIENT_OPTIONS, _operation


async def run(storage: str, count: int) -> None:
    """Write them, 32 calls at once; tell the figures."""
    ids = call_ids(count)
    async with TableClient.from_connection_string(storage, TABLE, **CLIENT_OPTIONS) as client:
        await client.create_table()
        measure = Measure()
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(_write(client, ids, measure.latencies))
        measure.tell(len(measure.latencies))


async def _write(client: TableClient, ids: Iterator[str], latencies: list[float]) -> None:
    for call_id in ids:
        before: Stored[Call] | None = None
        for body in bodies(call_id):
            change = _change(before, body)
            writes = rows.writes(change, frozenset())
            began = time.perf_counter()
            told = await client.submit_transaction([_operation(rows.shard_key(shard_of(call_id)), it) for it in writes])
            latencies.append(time.perf_counter() - began)
            etags = {write.key: str(said.get("etag")) for write, said in zip(writes, told, strict=True)}
            before = Stored(change.after, etags.get(rows.call_key(change.after), ""))


def _change(before: Stored[Call] | None, body: bytes) -> Change:
    (item,) = parse(body).notifications
    at = SystemClock().now()
    after = lifecycle.notified(before.value if before else None, item, TENANT, at)
    return Change(before, after, (lifecycle.story(item, at + TICK),))


if __name__ == "__main__":
    settings = load_settings()
    asyncio.run(run(settings.calls_storage.get_secret_value() if settings.calls_storage else "", int(sys.argv[1])))
