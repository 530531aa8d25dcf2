"""Checks of the records in storage: sweeps, wake-ups on the poison queue, and calls whose lease lapsed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus

from azure.core.exceptions import AzureError, HttpResponseError

from doctor.check import check, note
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.storage import POISON_QUEUES, ManagedIdentityUnavailable, queue_client, table_client
from doctor.target import Target, now
from shared.domain.calls import Call, Status
from shared.errors import StoreUnavailable
from shared.storage.azure_table import AzureTable
from shared.storage.store import SHARDS, CallStore

STALE = Fault(
    "sweep-stale",
    "Shards were not swept for more than 30 minutes. Leases of their calls are about to lapse, or have lapsed.",
    "Sweep now: POST /api/keep-alive with a function key. Then check timer-disabled, schedule-… and the app's log.",
)
NEVER = Fault(
    "sweep-never",
    "Storage has no record of a sweep.",
    "Start the app. The timer starts the first sweep, or POST /api/keep-alive with a function key does.",
    Severity.WARN,
)
POISONED = Fault(
    "poison-waiting",
    "Wake-ups failed five times and are in the queue keep-alive-poison or relay-poison.",
    "Find the reason in the app's log, then delete them: sweeps renew their calls, and take up their deliveries.",
    Severity.WARN,
)
LAPSED = Fault(
    "lease-lapsed",
    "Graph ended calls in the last day because it received no keepAlive (408/8537).",
    "Read what was tried: GET /api/calls/{callId}/events. Were the calls registered in time? Did sweeps stop?",
)

DAY = timedelta(days=1)
_PAGE_SIZE, _MAX_PAGES = 500, 10
_LAPSED = (408, 8537)  # code and subcode; Graph: call-delete page


@check("sweeps", "Are all shards swept?", STALE, NEVER)
async def sweeps(target: Target) -> AsyncIterator[Finding]:
    """Check the age of the watermarks."""
    max_age = target.settings.timing.at_risk_after
    async with _store(target) as store:
        if store is None:
            yield NEVER.found("the table of calls does not exist yet")
            return
        watermarks = [await store.get_watermark(shard) for shard in range(SHARDS)]
    started = [watermark.sweep_started_at for watermark in watermarks if watermark]
    if not started:
        yield NEVER.found("no shard has a watermark")
        return
    stale = SHARDS - sum(at >= now() - max_age for at in started)
    if stale:
        oldest = now() - min(started)
        yield STALE.found(f"{stale} of {SHARDS} shards; the longest for {oldest.total_seconds() / 60:.0f} min")
    else:
        yield note("sweeps", f"all {SHARDS} shards were swept since {min(started):%H:%M:%S} UTC")


@check("poison", "Are wake-ups on the poison queue?", POISONED)
async def poison(target: Target) -> AsyncIterator[Finding]:
    """Count the messages on the poison queues."""
    for name in POISON_QUEUES:
        async with _storage_readable(), queue_client(target, name) as client:
            try:
                count = (await client.get_queue_properties()).approximate_message_count or 0
            except HttpResponseError as error:
                if error.status_code != HTTPStatus.NOT_FOUND:
                    raise
                count = 0
        if count:
            yield POISONED.found(f"{count} in {name}")


@check("leases", "Did leases of calls lapse?", LAPSED)
async def leases(target: Target) -> AsyncIterator[Finding]:
    """Read the calls that ended in the last day, newest first, at most 10 * 500 = 5000."""
    async with _store(target) as store:
        lapsed = [] if store is None else [call async for call in _ended(store) if _is_lapsed(call)]
    if lapsed:
        yield LAPSED.found(f"{len(lapsed)} calls, the last one {lapsed[0].id}")


async def _ended(store: CallStore) -> AsyncIterator[Call]:
    continuation, since = None, now() - DAY
    for _ in range(_MAX_PAGES):
        page = await store.list_calls(Status.ENDED, limit=_PAGE_SIZE, continuation=continuation)
        for call in page.records:
            if call.ended_at is None or call.ended_at < since:
                return
            yield call
        continuation = page.continuation
        if continuation is None:
            return


def _is_lapsed(call: Call) -> bool:
    return call.termination is not None and (call.termination.code, call.termination.subcode) == _LAPSED


@asynccontextmanager
async def _store(target: Target) -> AsyncIterator[CallStore | None]:
    """Yield the store of calls; None if its table does not exist, because the doctor creates nothing."""
    async with _storage_readable(), table_client(target) as client:
        try:
            await client.get_entity("doctor", "doctor")
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            missing = "TableNotFound" in str(getattr(error, "error_code", ""))
        else:
            missing = False
        yield None if missing else CallStore(AzureTable(client))


@asynccontextmanager
async def _storage_readable() -> AsyncIterator[None]:
    """Turn errors of storage into `CannotCheck`: the check `storage` reports them."""
    try:
        yield
    except (AzureError, StoreUnavailable, ManagedIdentityUnavailable, ValueError):
        raise CannotCheck("storage cannot be read (see storage-…)") from None
