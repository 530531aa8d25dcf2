"""The webhook's upper bound: its transactions, sent directly to storage by `python -m bench.storage_writes CALLS`."""

import asyncio
import sys

from azure.data.tables.aio import TableClient

from bench.measure import Measure
from bench.notifications import bodies
from bench.workload import IN_FLIGHT, TENANT, call_ids, run_concurrently
from shared.clock import EVENT_SPACING, SystemClock
from shared.config.settings import load_settings
from shared.domain import lifecycle
from shared.domain.calls import Call
from shared.domain.notifications import parse_notifications
from shared.services import TABLE_NAME
from shared.storage import rows
from shared.storage.azure_table import CLIENT_OPTIONS, _operation
from shared.storage.changes import plan_writes
from shared.storage.store import Change, Stored, shard_of
from shared.storage.table import partition_key


async def run(storage: str, count: int) -> None:
    """Write the transactions of `count` calls, and print the figures.

    Before the measurement it writes those of `IN_FLIGHT` other calls, so that all connections are open.
    """
    async with TableClient.from_connection_string(storage, TABLE_NAME, **CLIENT_OPTIONS) as client:

        async def write(call_id: str) -> None:
            before: Stored[Call] | None = None
            partition = partition_key(shard_of(call_id))
            for body in bodies(call_id):
                change = _change(before, body)
                writes = plan_writes(change, frozenset())
                with measure.request():
                    answers = await client.submit_transaction([_operation(partition, it) for it in writes])
                etags = {write.key: str(answer.get("etag")) for write, answer in zip(writes, answers, strict=True)}
                before = Stored(change.after, etags.get(rows.call_key(change.after), ""))

        await client.create_table()
        measure = Measure()
        await run_concurrently(call_ids(IN_FLIGHT, count), write)
        measure = Measure()
        await run_concurrently(call_ids(count), write)
        measure.print_figures()


def _change(before: Stored[Call] | None, body: bytes) -> Change:
    (item,) = parse_notifications(body).notifications
    at = SystemClock().now()
    after = lifecycle.notified(before.value if before else None, item, TENANT, at)
    return Change(before, after, (lifecycle.notification_event(item, at + EVENT_SPACING),))


if __name__ == "__main__":
    settings = load_settings()
    asyncio.run(run(settings.calls_storage.get_secret_value() if settings.calls_storage else "", int(sys.argv[1])))
