"""The planner: the events of a change, the places of deliveries, and the rows of one transaction."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import JsonValue

from shared.api.webhook import MAX_RELAYED_PER_CHANGE
from shared.config.relay_targets import MAX_EVENTS_TARGETS
from shared.domain import lifecycle
from shared.domain.calls import TerminationSource
from shared.domain.deliveries import DeliveryStatus, Destination
from shared.domain.leases import RenewalFailure
from shared.errors import StoreConflict
from shared.relay.outbox import ROWS_OF_EVENT
from shared.storage.changes import MAX_CALL_ROWS, Change, Outgoing
from shared.storage.delivery_codec import Barrier
from shared.storage.table import MAX_TRANSACTION_ROWS
from tests.support.relaying import MINUTE, SECOND, World, item, target

EVENTS: dict[str, JsonValue] = {"format": "events", "appId": None}
MAX_OTHER_ROWS = 2 * 2 + 1 + 2  # a question and a notification; or a place in another call's lane; and two lanes


async def end(world: World, call_id: str = "call") -> None:
    """Let a sweep find the end of a call."""
    stored = await world.process.store.get(call_id)
    assert stored
    gone = lifecycle.call_gone(stored.value, TerminationSource.KEEP_ALIVE_NOT_FOUND, world.clock.now())
    await world.process.store.commit(Change(stored, gone))


def types(world: World) -> list[str]:
    return [json.loads(each.body)["type"] for each in world.bot.received]


class TestEvents:
    async def test_the_end_that_a_sweep_finds_is_sent_by_the_queue(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        world.bot.received.clear()
        await end(world)
        assert world.bot.received == []
        assert len(world.queue.messages) == 1
        await world.process.run_queue()
        assert types(world) == ["call.ended"]
        (received,) = world.bot.received
        assert received.headers["Authorization"] == "Bearer our-own-token"
        assert json.loads(received.body)["id"] == received.headers["webhook-id"]

    async def test_a_process_whose_clock_is_behind_sends_it_at_once(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        world.bot.received.clear()
        await end(world)
        message = world.queue.due()
        assert message
        world.clock.time -= SECOND
        await world.process.deliverer.handle(message)
        assert types(world) == ["call.ended"]

    async def test_without_the_queue_a_look_finds_it(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        world.process.raw_queue.is_broken = True
        await end(world)
        await world.process.look(2 * MINUTE)
        assert types(world) == ["call.established", "call.ended"]

    async def test_a_call_at_risk_is_reported_once(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        for _ in range(2):
            stored = await world.process.store.get("call")
            assert stored
            now = world.clock.now()
            failure = RenewalFailure(now, 3, now + MINUTE, "throttled", 429, at_risk=True)
            after = lifecycle.renewal_failed(stored.value, failure, now)
            await world.process.store.commit(Change(stored, after))
            await world.process.run_queue()
        assert types(world).count("call.at_risk") == 1

    async def test_events_use_the_to_of_the_registration(self) -> None:
        world = World(target("events", **{**EVENTS, "url": "https://events.example/{to}"}))
        await world.notify(item("call", "establishing"))
        stored = await world.process.store.get("call")
        assert stored
        await world.process.store.commit(Change(stored, replace(stored.value, relay_to="mine")))
        await world.notify(item("call"), to=("callback",))
        assert [each.url for each in world.bot.received] == ["https://events.example/mine"]

    async def test_a_change_without_an_event_writes_nothing_of_the_relay(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        before = len(world.rows())
        await world.notify(item("call"))
        assert len(world.rows()) == before


class TestPlaces:
    async def test_sequences_grow_although_clocks_differ(self) -> None:
        world = World()
        world.bot.usual = 500
        for _ in range(4):
            world.clock.time -= timedelta(hours=1)
            await world.notify(item("call", "hold"))
        sequences = [each.sequence for each in await world.deliveries("call")]
        assert sequences == sorted(set(sequences))
        received = [each.received_at for each in await world.deliveries("call")]
        assert received == sorted(received, reverse=True)  # so the order is that of storing

    async def test_a_place_behind_a_later_delivery_does_not_turn_the_sequence_back(self) -> None:
        world = World()
        world.bot.usual = 500
        await world.notify(item("first"), item("second"))
        for _ in range(3):
            await world.notify(item("second", "hold"))
            await world.notify(item("first", "hold"), item("second", "hold"))
        found = [each.sequence for each in await world.deliveries("second")]
        assert found == sorted(set(found))
        stored = await world.process.store.get("second")
        assert stored
        assert stored.value.relay_sequence == found[-1]

    async def test_a_change_with_nothing_but_a_place_of_an_earlier_delivery_keeps_the_sequence(self) -> None:
        world = World()
        await world.notify(item("call"))
        stored = await world.process.store.get("call")
        assert stored
        place = Barrier("call", "another", 50, Destination("bot", None))
        change = Change(stored, stored.value, outgoing=Outgoing(barriers=(place,)))
        planned = await world.process.planner.plan(world.process.store, change)
        assert planned.after == stored.value
        await world.process.store.commit(change)
        assert len(world.rows("delivery|call")) == 2

    async def test_what_goes_to_a_destination_that_is_off_is_disabled_with_its_body(self) -> None:
        world = World()
        world.bot.replies = [410]
        await world.notify(item("call"))
        await world.notify(item("call", "hold"))
        assert [(each.status, bool(each.body)) for each in await world.deliveries("call")] == [
            (DeliveryStatus.DISABLED, True)
        ] * 2


class TestTransactions:
    def test_the_rows_of_a_change_leave_room_for_events(self) -> None:
        # Each notification of a chunk may add a line to the log and change an operation.
        rows = MAX_CALL_ROWS + 2 * MAX_RELAYED_PER_CHANGE + MAX_OTHER_ROWS
        assert rows == 4 + 2 * 5 + 7
        room = (MAX_TRANSACTION_ROWS - rows) // ROWS_OF_EVENT
        assert room == (100 - 21) // 3
        assert room >= 2 * MAX_EVENTS_TARGETS  # call.established and call.ended for all targets

    @pytest.mark.parametrize("number", [1, 10, 30], ids="{} targets".format)
    async def test_no_change_exceeds_a_transaction(self, number: int) -> None:
        targets = [target(f"events-{index}", **EVENTS) for index in range(number)]
        world = World(target(), *targets)
        await world.notify(item("call"))
        world.bot.received.clear()
        operations = [operation(f"recording-{index}") for index in range(3 * MAX_RELAYED_PER_CHANGE - 1)]
        with_end = [*operations, item("call", "terminated", "deleted")]
        result = await world.notify(*with_end)
        assert result.notifications == len(with_end)
        await world.process.look()
        ends = [each for each in world.bot.received if b'"call.ended"' in each.body]
        assert len(ends) >= min(number, 26)  # the room of the test above
        assert world.rows("lane") == []

    async def test_a_planner_is_asked_again_after_a_conflict(self) -> None:
        world = World(target("events", **EVENTS))
        await world.notify(item("call"))
        store = world.process.store
        stale = await store.get("call")
        assert stale
        await world.notify(item("call", callChainId="another"))
        gone = lifecycle.call_gone(stale.value, TerminationSource.KEEP_ALIVE_NOT_FOUND, world.clock.now())
        with pytest.raises(StoreConflict):
            await store.commit(Change(stale, gone))
        assert types(world) == ["call.established"]
        await end(world)
        await world.process.run_queue()
        assert types(world) == ["call.established", "call.ended"]


def operation(operation_id: str) -> dict[str, JsonValue]:
    """A recording that is complete."""
    path = f"/communications/calls/call/operations/{operation_id}"
    data: dict[str, JsonValue] = {
        "@odata.type": "#microsoft.graph.recordOperation",
        "id": operation_id,
        "status": "completed",
        "recordingLocation": "https://recordings.example/1",
    }
    return {"changeType": "updated", "resource": path, "resourceUrl": path, "resourceData": data}
