"""Writes whose answer is lost. Each takes effect once, is reported once, and is not taken for the write of another.

Two things come of a lost answer: the storage client repeats the write and meets its own (a conflict), or it gives up.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from shared import telemetry
from shared.api.continuation_tokens import ContinuationSigner
from shared.api.idempotency import IdempotencyHandler, implied_key, parse_key
from shared.api.management import Management
from shared.api.records import Records
from shared.api.webhook import SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.config.apps import Apps, BotApp
from shared.domain.calls import Call, IdempotencyRecord, StoredResponse
from shared.domain.leases import Progress, Timing, WatchdogState, Watermark
from shared.domain.notifications import OperationNotification
from shared.errors import GraphUnavailable, RequestInProgress, StoreConflict, StoreUnavailable
from shared.graph.recording import RecordRequest
from shared.keeping.renewer import Outcome, Renewer
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.memory_table import MemoryTable
from shared.storage.store import CallStore, Change, Stored, retry_conflicts, shard_of
from shared.storage.table import Put, Write
from shared.storage.wakeup_queue import Renew, WakeUp
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
APPS = Apps((BotApp.model_construct(app_id=APP, credential="managedIdentity"),))
SECOND = timedelta(seconds=1)
LOSSES = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(StoreConflict, id="the client repeats its write"),
        pytest.param(StoreUnavailable, id="the client gives up"),
    ],
)


class LosingTable(MemoryTable):
    """Applies the write of a number, from 0, counted since `lose`, and loses its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.loss: type[Exception] = StoreConflict

    def lose(self, number: int, loss: type[Exception]) -> None:
        self.left, self.loss = number, loss

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        etags = await super().write(shard, writes)
        loss = self._next_loss()
        if loss is StoreConflict and all(isinstance(write, Put) for write in writes):
            return etags  # to repeat it is no conflict
        if loss:
            raise loss("The answer is lost (test).")
        return etags

    def _next_loss(self) -> type[Exception] | None:
        if self.left is None:
            return None
        self.left -= 1
        if self.left >= 0:
            return None
        self.left = None
        return self.loss


class Graph(VirtualGraph):
    """Hangs up and records too."""

    recordings = 0

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:
        await self._arrive("delete", call_id, tenant_id, app_id)

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None
    ) -> OperationNotification:
        await self._arrive("record", call_id, tenant_id, app_id)
        self.recordings += 1
        return OperationNotification(
            call_id,
            f"operation-{self.recordings}",
            "recordOperation",
            deleted=False,
            status="running",
            client_context=request.client_context,
        )


class Trusting:
    async def verify(self, authorization: str | None) -> Claims:  # noqa: ARG002 (the protocol's)
        return Claims(TENANT, APP)


class World:
    def __init__(self) -> None:
        self.clock, self.table = VirtualClock(), LosingTable()
        self.store = CallStore(self.table)
        self.queue, self.graph, timing = VirtualQueue(self.clock), Graph(self.clock), Timing()
        wakeups = BestEffortQueue(self.queue, self.clock, timing)
        self.renewer = Renewer(self.store, self.graph, wakeups, self.clock, timing)
        records = Records(self.store, self.clock, timing, ContinuationSigner(self.store))
        self.management = Management(
            self.store, self.graph, self.renewer, self.clock, timing, queue=wakeups, records=records, apps=APPS
        )
        verifier = cast("TokenVerifier", Trusting())
        self.webhook = Webhook(self.store, verifier, wakeups, self.clock, SenderAllowList(), apps=APPS)

    async def register(self) -> tuple[Call, bool]:
        if "call" not in self.graph.calls:
            self.graph.start("call", age=timedelta(minutes=10))
        shown, new = await self.management.register("call", TENANT, self.clock.now() - timedelta(minutes=10), {})
        self.clock.set(self.clock.now() + SECOND)
        return shown.call, new

    async def event_kinds(self, beginning: str = "") -> list[str]:
        return [event.kind for event in await self.store.list_events("call") if event.kind.startswith(beginning)]

    async def call(self) -> Call:
        stored = await self.store.get("call")
        assert stored is not None
        return stored.value


@pytest.fixture
def world() -> World:
    return World()


@LOSSES
async def test_a_registration_is_new_all_the_same(world: World, loss: type[Exception]) -> None:
    world.table.lose(0, loss)
    _, new = await world.register()
    assert new
    assert sorted(await world.event_kinds()) == ["firstSeen", "registered"]


@LOSSES
async def test_an_end_by_notification_is_logged_once(
    world: World, loss: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Call] = []
    monkeypatch.setattr(telemetry, "log_call_ended", logged.append)
    await world.register()
    body = (
        b'{"value": [{"changeType": "deleted", "resourceUrl": "/communications/calls/call", "resourceData": '
        b'{"state": "terminated", "resultInfo": {"code": 200, "subcode": 5010}}}]}'
    )
    world.table.lose(0, loss)
    await world.webhook.receive("Bearer x", body)
    await world.webhook.receive("Bearer x", body)
    assert [(call.id, call.ended_at is not None) for call in logged] == [("call", True)]
    assert await world.event_kinds("callNotified") == ["callNotified"]


@LOSSES
async def test_an_end_by_keep_alive_is_logged_once(
    world: World, loss: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Call] = []
    monkeypatch.setattr(telemetry, "log_call_ended", logged.append)
    call, _ = await world.register()
    world.graph.calls["call"].ended = True
    world.table.lose(0, loss)
    assert await world.renewer.renew_in_sweep(call.lease, None) is Outcome.ENDED
    assert [call.id for call in logged] == ["call"]
    assert await world.event_kinds("ended") == ["ended"]


@LOSSES
async def test_a_hang_up_is_on_record_with_one_line(world: World, loss: type[Exception]) -> None:
    await world.register()
    world.table.lose(1, loss)  # after the line of the request
    shown = await world.management.hang_up("call", "somebody")
    assert shown.call.state == "terminating"
    assert await world.event_kinds("hangup") == ["hangupRequested", "hangupAnswered"]
    assert world.graph.requests["delete"] == 1


async def test_a_line_before_graph_is_asked_is_no_reason_not_to_ask(world: World) -> None:
    await world.register()
    world.table.lose(0, StoreConflict)
    await world.management.hang_up("call", "somebody")
    assert await world.event_kinds("hangup") == ["hangupRequested", "hangupAnswered"]
    world.clock.set(world.clock.now() + SECOND)
    world.table.lose(0, StoreUnavailable)  # then Graph is not asked, which does no harm: the caller repeats it
    with pytest.raises(StoreUnavailable):
        await world.management.hang_up("call", "somebody")
    assert world.graph.requests["delete"] == 1


@LOSSES
async def test_a_recording_is_stored_and_returned_as_begun(world: World, loss: type[Exception]) -> None:
    await world.register()
    world.table.lose(1, loss)
    _, operation = await world.management.record("call", RecordRequest(), "somebody")
    assert [known.id for known in await world.store.list_operations("call")] == [operation.id]
    assert await world.event_kinds("record") == ["recordRequested", "recordAnswered"]
    assert world.graph.recordings == 1


@LOSSES
async def test_a_failure_is_one_failure_and_a_recovery_one(world: World, loss: type[Exception]) -> None:
    async def trouble(_operation: str, _call_id: str) -> None:
        raise GraphUnavailable("Trouble (test).", status=503)

    call, _ = await world.register()
    world.graph.faults["*"] = trouble
    world.table.lose(0, loss)
    assert await world.renewer.renew_in_sweep(call.lease, None) is Outcome.FAILING
    failing = (await world.call()).failing
    assert failing is not None
    assert failing.attempts == 1
    assert len(world.queue.messages) == 1

    del world.graph.faults["*"]
    world.clock.set(world.clock.now() + SECOND)
    world.table.lose(0, loss)
    assert await world.renewer.renew_now((await world.call()).lease, None) is Outcome.RENEWED
    assert (await world.call()).failing is None
    assert await world.event_kinds("keepAlive") == ["keepAliveFailing", "keepAliveRecovered"]


async def test_a_retry_that_lies_on_the_queue_twice_is_done_once(world: World) -> None:
    """The queue took a message, and the client, without an answer, left it again."""

    async def trouble(_operation: str, _call_id: str) -> None:
        raise GraphUnavailable("Trouble (test).", status=503)

    call, _ = await world.register()
    world.graph.faults["*"] = trouble
    await world.renewer.renew_in_sweep(call.lease, None)
    ((_, message),) = world.queue.waiting()
    assert isinstance(message, Renew)
    del world.graph.faults["*"]
    assert await world.renewer.retry(message) is Outcome.RENEWED
    assert await world.renewer.retry(message) is None
    assert len(world.graph.calls["call"].keep_alives) == 1


async def test_a_message_that_the_queue_took_and_did_not_acknowledge_is_the_retry_of_the_row(world: World) -> None:
    async def trouble(_operation: str, _call_id: str) -> None:
        raise GraphUnavailable("Trouble (test).", status=503)

    async def unacknowledged(message: WakeUp, delay: timedelta = timedelta()) -> None:
        await taken(message, delay)
        raise StoreUnavailable("The answer is lost (test).")

    call, _ = await world.register()
    world.graph.faults["*"] = trouble
    taken, world.queue.send = world.queue.send, unacknowledged  # type: ignore[method-assign] # the queue of this test
    assert await world.renewer.renew_in_sweep(call.lease, None) is Outcome.FAILING
    ((_, message),) = world.queue.waiting()
    assert isinstance(message, Renew)
    del world.graph.faults["*"]
    assert await world.renewer.retry(message) is Outcome.RENEWED
    assert (await world.call()).failing is None


@LOSSES
async def test_watermark_progress_switch_and_secret_are_written_again_or_there(loss: type[Exception]) -> None:
    table, now = LosingTable(), VirtualClock().now()
    store = CallStore(table)
    watermark, progress, switch = Watermark(now, now), Progress(now, None), WatchdogState(now, now)
    writes = (
        lambda: store.put_watermark(0, watermark),
        lambda: store.put_progress(0, progress),
        lambda: store.put_watchdog_state(switch),
        store.get_continuation_key,
    )
    for write in writes:
        table.lose(0, loss)
        for _ in range(2):  # who gets an error does it again
            try:
                await retry_conflicts(write, "It")
                break
            except StoreUnavailable:
                assert loss is StoreUnavailable
    assert await store.get_watermark(0) == watermark
    assert await store.get_watchdog_state() == switch
    assert await store.get_continuation_key() == await store.get_continuation_key()
    assert [record async for record in store.scan(0) if isinstance(record, Progress)] == [progress]


@LOSSES
@pytest.mark.parametrize("number", [0, 1], ids=["claim", "settlement"])
@pytest.mark.parametrize("repeatable", [True, False], ids=["repeatable", "not repeatable"])
async def test_a_key_is_its_owners(world: World, loss: type[Exception], number: int, *, repeatable: bool) -> None:
    once = IdempotencyHandler(world.store, world.clock, "recordRequested", repeatable)
    key = parse_key('"one"', "bot", "record {}")
    assert key is not None
    done: list[int] = []

    async def act() -> StoredResponse:
        done.append(1)
        return StoredResponse(202, "{}")

    world.table.lose(number, loss)
    assert (await once.handle("call", key, act)).status == 202
    assert (await once.handle("call", key, act)).status == 202
    assert len(done) == 1


@LOSSES
async def test_an_implied_key_is_given_back(world: World, loss: type[Exception]) -> None:
    once, key, done = (
        IdempotencyHandler(world.store, world.clock, "recordRequested", is_repeatable=False),
        implied_key("bot", "x"),
        [],
    )

    async def act() -> StoredResponse:
        done.append(1)
        return StoredResponse(202, "{}")

    for number in (0, 1, 0):
        world.table.lose(number, loss)
        await once.handle("call", key, act)
    assert len(done) == 3


async def test_a_claim_of_another_is_not_taken_for_our_own(world: World) -> None:
    class Quicker(CallStore):
        """Somebody else takes the key between our read and our claim."""

        async def claim_idempotency_key(
            self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
        ) -> None:
            await super().claim_idempotency_key(call_id, name, replace(request, claim_id="another's"), before)
            await super().claim_idempotency_key(call_id, name, request, before)

    async def never() -> StoredResponse:
        raise AssertionError

    once = IdempotencyHandler(Quicker(MemoryTable()), world.clock, "recordRequested", is_repeatable=False)
    with pytest.raises(RequestInProgress):
        await once.handle("call", implied_key("bot", "x"), never)


@pytest.mark.parametrize(("number", "left"), [(0, 1), (1, 0)], ids=["events", "state"])
async def test_a_purge_is_done_by_the_next(world: World, number: int, left: int) -> None:
    await world.register()
    now, stored = world.clock.now(), await world.store.get("call")
    assert stored is not None
    await world.store.commit(Change(stored, replace(stored.value, ended_at=now)))
    world.table.lose(number, StoreUnavailable)
    with pytest.raises(StoreUnavailable):
        await world.store.purge(shard_of("call"), now + SECOND, 10)
    assert await world.store.purge(shard_of("call"), now + SECOND, 10) == left
    assert await world.store.get("call") is None
