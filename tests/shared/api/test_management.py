"""Races while registering, hanging up and storing notifications, in virtual time on the memory store."""

import asyncio
import logging
from datetime import timedelta
from typing import cast

import pytest

from shared import telemetry
from shared.api.continuation_tokens import ContinuationSigner
from shared.api.management import Management
from shared.api.records import Records
from shared.api.webhook import SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.clock import SystemClock
from shared.config.apps import Apps, BotApp
from shared.domain.calls import Call, Status, TerminationSource
from shared.domain.leases import Timing, Watermark
from shared.domain.lifecycle import call_gone
from shared.domain.notifications import OperationNotification
from shared.errors import StoreConflict, StoreUnavailable
from shared.graph.client import GraphCall
from shared.graph.recording import RecordRequest
from shared.keeping.renewer import Renewer
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Committed
from shared.storage.memory_table import MemoryTable
from shared.storage.store import CallStore, Change, shard_of
from shared.storage.wakeup_queue import Renew
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
APPS = Apps((BotApp.model_construct(app_id=APP, credential="managedIdentity"),))


class EndingGraph:
    """The end of the call is stored while Graph hangs it up."""

    def __init__(self, store: CallStore, clock: VirtualClock) -> None:
        self._store = store
        self._clock = clock

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:  # noqa: ARG002 (the protocol's)
        stored = await self._store.get(call_id)
        assert stored is not None
        await self._store.commit(
            Change(stored, call_gone(stored.value, TerminationSource.KEEP_ALIVE_NOT_FOUND, self._clock.now()))
        )

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None
    ) -> OperationNotification:
        raise NotImplementedError(call_id, tenant_id, request)

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        raise NotImplementedError(call_id, tenant_id)

    async def get(self, call_id: str, tenant_id: str, app_id: str | None) -> GraphCall:
        raise NotImplementedError(call_id, tenant_id)


class Contested(CallStore):
    """Another writer is always faster."""

    async def commit(self, change: Change) -> Committed:
        raise StoreConflict(f"{change.after.id} was written since it was read.")


class Trusting:
    """Returns our tenant for every token. `TokenVerifier` has tests of its own."""

    async def verify(self, authorization: str | None) -> Claims:  # noqa: ARG002 (the protocol's)
        return Claims(TENANT, APP)


def make_management(
    store: CallStore,
    graph: EndingGraph,
    queue: VirtualQueue,
    clock: VirtualClock,
    *,
    renews: VirtualGraph | None = None,
) -> Management:
    """Return a management whose renewer sends keepAlives to `renews`, by default to `graph`."""
    timing = Timing()
    wakeups = BestEffortQueue(queue, clock, timing)
    renewer = Renewer(store, renews or graph, wakeups, clock, timing)
    records = Records(store, clock, timing, ContinuationSigner(store))
    return Management(store, graph, renewer, clock, timing, queue=wakeups, records=records, apps=APPS)


async def test_an_end_that_comes_while_a_call_is_hung_up_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, telemetry.LOGGER)
    clock, store = VirtualClock(), CallStore(MemoryTable())
    queue, graph = VirtualQueue(clock), EndingGraph(store, clock)
    management = make_management(store, graph, queue, clock)
    await management.register("call", TENANT, clock.now() - timedelta(minutes=10), {})
    clock.set(clock.now() + timedelta(seconds=1))

    shown = await management.hang_up("call", "somebody")

    assert shown.call.status is Status.ENDED
    assert shown.call.hangup is not None
    assert shown.call.termination is not None
    assert shown.call.termination.source is TerminationSource.KEEP_ALIVE_NOT_FOUND
    assert shown.call.termination.reason == "Hung up through Call Keeper by somebody."  # Graph accepted it
    ends = [vars(record)["category"] for record in caplog.records if vars(record).get("event") == "call.ended"]
    assert ends[-1:] == ["byBot"]  # the hang-up is now the reason
    events = [(event.kind, event.detail) for event in await store.list_events("call")]
    assert events[-2:] == [
        ("hangupRequested", {"requestedBy": "somebody"}),
        ("hangupAnswered", {"requestedBy": "somebody", "outcome": "accepted"}),
    ]


async def test_a_webhook_that_loses_every_race_asks_graph_to_send_the_body_again() -> None:
    clock = VirtualClock()
    queue = BestEffortQueue(VirtualQueue(clock), clock, Timing())
    webhook = Webhook(
        Contested(MemoryTable()), cast("TokenVerifier", Trusting()), queue, clock, SenderAllowList(), apps=APPS
    )
    body = b'{"value": [{"resource": "/communications/calls/call", "resourceData": {"state": "established"}}]}'
    with pytest.raises(StoreUnavailable, match="too many at once"):
        await webhook.receive("Bearer x", body)


async def test_the_clock_of_the_machine_sleeps() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0.001)
    assert before.utcoffset() == timedelta(0)
    assert clock.now() > before


def test_a_call_is_active_until_its_end_is_known() -> None:
    now = VirtualClock().now()
    assert Call("call", TENANT, "terminating", known_at=now, started_at=now).status is Status.ACTIVE


async def test_a_watermark_of_the_future_does_not_keep_a_late_registration_from_being_renewed() -> None:
    clock, store = VirtualClock(), CallStore(MemoryTable())
    graph = VirtualGraph(clock)
    graph.start("call", age=timedelta(minutes=40))
    ahead = clock.now() + timedelta(hours=3)
    await store.put_watermark(shard_of("call"), Watermark(ahead, ahead))
    management = make_management(store, EndingGraph(store, clock), VirtualQueue(clock), clock, renews=graph)
    await clock.run(management.register("call", TENANT, clock.now() - timedelta(minutes=40), {}))
    assert len(graph.calls["call"].keep_alives) == 1


@pytest.mark.parametrize(("is_known", "keep_alives"), [(True, 0), (False, 1)], ids=["start known", "start unknown"])
async def test_a_call_of_unknown_age_is_renewed_after_a_minute(is_known: bool, keep_alives: int) -> None:
    clock, store = VirtualClock(), CallStore(MemoryTable())
    queue, graph = VirtualQueue(clock), VirtualGraph(clock)
    graph.start("call")
    management = make_management(store, EndingGraph(store, clock), queue, clock, renews=graph)
    for _ in range(2):
        await clock.run(management.register("call", TENANT, clock.now() if is_known else None, {}))
    await clock.advance(timedelta(minutes=1))
    while message := queue.due():
        assert isinstance(message, Renew)
        await clock.run(management.renewer.retry(message))
    assert len(graph.calls["call"].keep_alives) == keep_alives


class DyingStore(CallStore):
    """The process dies after the first row of a call is written. The next process lives."""

    dies = True

    async def commit(self, change: Change) -> Committed:
        committed = await super().commit(change)
        if self.dies:
            self.dies = False
            raise asyncio.CancelledError
        return committed


async def test_a_call_of_unknown_age_is_renewed_if_the_process_dies_in_its_registration() -> None:
    clock, store = VirtualClock(), DyingStore(MemoryTable())
    queue, graph = VirtualQueue(clock), VirtualGraph(clock)
    graph.start("call", age=timedelta(minutes=40))
    management = make_management(store, EndingGraph(store, clock), queue, clock, renews=graph)
    with pytest.raises(asyncio.CancelledError):
        await management.register("call", TENANT, None, {})
    await management.register("call", TENANT, None, {})
    await clock.advance(timedelta(minutes=1))
    message = queue.due()
    assert isinstance(message, Renew)
    await clock.run(management.renewer.retry(message))
    assert len(graph.calls["call"].keep_alives) == 1
