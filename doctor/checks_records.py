"""What storage tells of the past: sweeps, wake-ups that failed for good, leases that were lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus

from azure.core.exceptions import AzureError, HttpResponseError

from doctor.check import check, fine
from doctor.finding import CannotCheck, Fault, Finding, Mark
from doctor.patient import Patient, now
from doctor.storage import POISON, NoIdentity, queue_client, table_client
from shared.domain.calls import Call, Status
from shared.errors import StoreUnavailable
from shared.storage.azure_table import AzureTable
from shared.storage.store import SHARDS, CallStore

STALE = Fault(
    "sweep-stale",
    "Shards were not swept for more than 30 minutes: calls are about to lose their lease, or have.",
    "Sweep now: POST /api/keep-alive with a function key. Then see timer-disabled, schedule-…, and the app's log.",
)
NEVER = Fault(
    "sweep-never",
    "No sweep is on record.",
    "Start the app; the first sweep comes with the timer, or by POST /api/keep-alive with a function key.",
    Mark.WARN,
)
POISONED = Fault(
    "poison-waiting",
    "Wake-ups failed five times and lie in the queue keep-alive-poison.",
    "See why in the app's log; then delete them: sweeps do their work.",
    Mark.WARN,
)
LAPSED = Fault(
    "lease-lapsed",
    "Graph ended calls in the last day because keepAlive did not come (408/8537).",
    "GET /api/calls/{callId}/events tells what was tried. Were they registered, and in time? Did sweeps stop?",
)

DAY = timedelta(days=1)
_PAGE, _MOST_PAGES = 500, 10
_LAPSED = (408, 8537)  # Graph: call-delete page


@check("sweeps", "Are all shards swept?", STALE, NEVER)
async def sweeps(patient: Patient) -> AsyncIterator[Finding]:
    """By their watermarks."""
    limit = patient.settings.timing.at_risk_after
    async with _store(patient) as store:
        if store is None:
            yield NEVER.found("there is no table of calls yet")
            return
        marks = [await store.get_watermark(shard) for shard in range(SHARDS)]
    begun = [mark.sweep_started_at for mark in marks if mark]
    if not begun:
        yield NEVER.found("no shard has a watermark")
        return
    late = SHARDS - sum(at >= now() - limit for at in begun)
    if late:
        ago = now() - min(begun)
        yield STALE.found(f"{late} of {SHARDS} shards; the longest for {ago.total_seconds() / 60:.0f} min")
    else:
        yield fine("sweeps", f"all {SHARDS} shards were swept since {min(begun):%H:%M:%S} UTC")


@check("poison", "Did wake-ups fail for good?", POISONED)
async def poison(patient: Patient) -> AsyncIterator[Finding]:
    """Counts them; which is all that is needed to know that something was wrong."""
    async with _answering(), queue_client(patient, POISON) as client:
        try:
            count = (await client.get_queue_properties()).approximate_message_count or 0
        except HttpResponseError as error:
            if error.status_code != HTTPStatus.NOT_FOUND:
                raise
            count = 0
    if count:
        yield POISONED.found(f"{count} wait there")


@check("leases", "Did calls lose their lease?", LAPSED)
async def leases(patient: Patient) -> AsyncIterator[Finding]:
    """The ended calls of the last day, newest first, up to five thousand."""
    async with _store(patient) as store:
        lost = [] if store is None else [call async for call in _ended(store) if _is_lapsed(call)]
    if lost:
        yield LAPSED.found(f"{len(lost)} of them, the last one {lost[0].id}")


async def _ended(store: CallStore) -> AsyncIterator[Call]:
    continuation, since = None, now() - DAY
    for _ in range(_MOST_PAGES):
        page = await store.list_calls(Status.ENDED, limit=_PAGE, continuation=continuation)
        for call in page.calls:
            if call.ended_at is None or call.ended_at < since:
                return
            yield call
        continuation = page.continuation
        if continuation is None:
            return


def _is_lapsed(call: Call) -> bool:
    return call.termination is not None and (call.termination.code, call.termination.subcode) == _LAPSED


@asynccontextmanager
async def _store(patient: Patient) -> AsyncIterator[CallStore | None]:
    """The calls on record; None where their table is not there: the doctor does not make it."""
    async with _answering(), table_client(patient) as client:
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
async def _answering() -> AsyncIterator[None]:
    try:
        yield
    except (AzureError, StoreUnavailable, NoIdentity, ValueError):
        raise CannotCheck("storage cannot be read (see storage-…)") from None
