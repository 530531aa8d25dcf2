"""The pass-through: what of a request is sent where, and what Graph is answered."""

import json
from collections.abc import Iterable
from datetime import timedelta
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from shared.domain.deliveries import DeliveryStatus
from shared.errors import StoreUnavailable
from shared.relay.exchange import MAX_HEADER_LENGTH, BotResponse, Incoming, IncomingRequest
from shared.relay.lanes import CLAIM
from shared.relay.passthrough import PassThrough, Relayed, _split
from shared.storage.rows import active_key, shard_of
from shared.storage.table import Put
from tests.support.relaying import GRAPH_BEARER, OTHER_TENANT, SECOND, TENANT, World, body_of, item, question, target

CALLS = ("call-a", "call-b", "call-c")
items = st.lists(
    st.one_of(
        st.builds(item, st.sampled_from(CALLS), st.sampled_from(["hold", "established", "é\u2028"])),
        st.builds(question, st.sampled_from(CALLS)),
        st.sampled_from([{"changeType": "updated"}, {"resourceUrl": "/communications/calls"}]),
    ),
    min_size=1,
    max_size=12,
)


def call_of(found: JsonValue) -> str:
    assert isinstance(found, dict)
    return str(found.get("resourceUrl", "")).rpartition("/")[2]


def is_question(found: JsonValue) -> bool:
    return "participantJoining" in json.dumps(found)


class TestSplitting:
    @given(items, st.sets(st.sampled_from(CALLS), min_size=1), st.booleans(), st.sampled_from(["value", "Value"]))
    def test_each_accepted_item_is_in_one_part_in_its_order(
        self, found: list[dict[str, JsonValue]], accepted: set[str], is_whole: bool, name: str
    ) -> None:
        ids = [call_id for call_id in CALLS if call_id in accepted]
        mine = [each for each in found if call_of(each) in ids]
        ids = [call_id for call_id in ids if any(call_of(each) == call_id for each in mine)]
        body = json.dumps({"@odata.context": "x", name: found}).encode("utf-8-sig")
        parts = list(_split(body, ids, is_whole=is_whole))
        if is_whole and not any(map(is_question, mine)):
            assert [(part.call_ids, part.body) for part in parts] == [(tuple(ids), body)]
            return
        sent: list[JsonValue] = []
        for part in parts:
            envelope = json.loads(part.body)
            content = envelope.pop(name)
            assert envelope == {"@odata.context": "x"}
            assert {call_of(each) for each in content} == set(part.call_ids)
            assert {is_question(each) for each in content} == {part.is_question}
            assert len(part.call_ids) == 1 or is_whole
            positions = [
                index for index, each in enumerate(mine) if any(each is not one and each == one for one in content)
            ]
            assert len(positions) >= len(content)
            sent += content
        assert len(parts) == len({(part.call_ids, part.is_question) for part in parts})
        by_call = {(call_id, flag): [] for call_id in ids for flag in (True, False)}  # type: ignore[var-annotated] # lists of items
        for each in mine:
            by_call[call_of(each), is_question(each)].append(each)
        for (call_id, flag), wanted in by_call.items():
            assert [each for each in sent if (call_of(each), is_question(each)) == (call_id, flag)] == wanted

    async def test_a_name_in_the_body_makes_no_question(self) -> None:
        world = World()
        sent = item("call", displayName="participantJoiningNotification")
        await world.notify(sent)
        (received,) = world.bot.received
        assert received.body == json.dumps({"value": [sent]}).encode()
        (delivery,) = await world.deliveries("call")
        assert not delivery.wants_answer


class TestRequest:
    def test_only_what_the_bot_needs_is_passed_on(self) -> None:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Scenario-Id": "s",
            "X-Microsoft-Skype-Chain-ID": "c",
            "X-Microsoft-Skype-Message-ID": "m",
            "Client-Request-Id": "r",
        }
        more = {
            "Authorization": "Bearer x",
            "Host": "h",
            "Cookie": "c",
            "X-Forwarded-For": "1.2.3.4",
            "webhook-id": "1",
        }
        found = IncomingRequest.of({**headers, **more}, "https://keeper.example/api/notifications?to=one&code=key")
        assert found == IncomingRequest(headers, ("one",))

    @pytest.mark.parametrize(
        "value", ["a\r\nX-Injected: 1", "é", "a" * (MAX_HEADER_LENGTH + 1), ""], ids=["lines", "é", "too long", "empty"]
    )
    def test_headers_that_no_client_should_send_are_left_out(self, value: str) -> None:
        assert IncomingRequest.of({"Scenario-Id": value}, "/").headers == {}

    @pytest.mark.parametrize(
        ("query", "expected"),
        [("", ()), ("?to", ("",)), ("?to=a&to=b", ("a", "b")), ("?to=%61", ("a",)), ("?To=a&x=to", ())],
        ids=["none", "empty", "doubled", "escaped", "others"],
    )
    def test_the_query_has_the_to(self, query: str, expected: tuple[str, ...]) -> None:
        assert IncomingRequest.of({}, f"https://keeper.example/api/notifications{query}").to == expected

    @pytest.mark.parametrize(
        ("webhook_id", "expected"),
        [("03-1772438400000000-9f3c2a1b", True), ("msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", False), ("", False)],
        ids=["ours", "another's", "empty"],
    )
    def test_our_own_id_shows_that_a_delivery_came_back(self, webhook_id: str, expected: bool) -> None:
        assert IncomingRequest.of({"webhook-id": webhook_id}, "/").is_from_relay is expected


async def test_a_delivery_that_a_bot_sends_back_is_stored_and_goes_no_further() -> None:
    """A target that leads to Call Keeper, or a bot that forwards all it gets, would send it round for ever."""
    world = World(target(), target("events", format="events", appId=None, types=["call.ended"]))
    await world.notify(item("call"))
    (first,) = world.bot.received
    request = IncomingRequest.of({"webhook-id": first.headers["webhook-id"]}, "/")
    for body in (first.body, body_of(item("call", "terminated"), question("call"))):
        result = await world.process.webhook.receive(GRAPH_BEARER, body, request=request)
        assert (result.calls, result.response) == (1, BotResponse())
    assert [each.url for each in world.bot.received[1:]] == ["https://events.example/callback"]  # the end is news
    stored = await world.process.store.get("call")
    assert stored
    assert stored.value.state == "terminated"


class TestResponse:
    @pytest.mark.parametrize(
        "value",
        ["text/\udcff", "text/plain\r\nX: 1", "é", "a" * (MAX_HEADER_LENGTH + 1)],
        ids=["no UTF-8", "lines", "é", "too long"],
    )
    async def test_headers_of_a_bot_that_the_host_could_not_send_are_left_out(self, value: str) -> None:
        world = World()
        kept = {"x-microsoft-bot-sdk-version": "1.2"}
        world.bot.replies = [(200, {"Content-Type": value, "x-microsoft-bot-auth-type": value, **kept}, b"{}")]
        result = await world.notify(question("call"))
        assert result.response == BotResponse(200, kept, b"{}")

    async def test_a_body_that_a_status_must_not_have_is_left_out(self) -> None:
        world = World()
        world.bot.replies = [(205, {}, b"{}")]
        assert (await world.notify(question("call"))).response == BotResponse(205)


class TestBodies:
    async def test_half_a_surrogate_pair_in_a_body_that_is_split_is_sent_on(self) -> None:
        """JSON may hold it, as in a name that was cut. UTF-8 cannot."""
        world = World()
        world.bot.usual = 503
        await world.notify(question("call"), item("call", "hold", displayName="\ud83d"))
        world.bot.usual = 202
        await world.process.look()
        assert (
            world.bot.received[-1].body
            == json.dumps({"value": [item("call", "hold", displayName="\ud83d")]}, separators=(",", ":")).encode()
        )

    async def test_events_of_a_change_are_attempted_at_once_beside_the_notification(self) -> None:
        world = World(target(), target("events", format="events", appId=None))
        await world.notify(item("call", "terminated", "deleted"))
        assert {each.url for each in world.bot.received} == {
            "https://bot.example/callback",
            "https://events.example/callback",
        }
        assert world.rows("lane") == []

    async def test_a_call_that_another_tenant_takes_meanwhile_does_not_swallow_the_others(self) -> None:
        world = World()
        original = PassThrough.prepare

        async def prepare(relay: PassThrough, incoming: Incoming, call_ids: Iterable[str]) -> Relayed:
            relayed = await original(relay, incoming, call_ids)
            if len(relayed.parts) == 1 and len(relayed.parts[0].call_ids) > 1:
                world.tenant = OTHER_TENANT
                await world.start_process().notify(item("first"))
                world.tenant = TENANT
            return relayed

        with patch.object(PassThrough, "prepare", prepare):
            with pytest.raises(StoreUnavailable):  # so that Graph sends the body again
                await world.notify(item("first", "hold"), item("second", "hold"))
            world.bot.received.clear()
            await world.notify(item("first", "hold"), item("second", "hold"))
        (received,) = world.bot.received
        assert [call_of(each) for each in json.loads(received.body)["value"]] == ["second"]

    async def test_a_row_that_cannot_be_read_does_not_stop_the_other_calls(self) -> None:
        world = World()
        await world.notify(item("broken"))
        row = world.rows("active|broken")[0]
        cells = {name: value for name, value in row.columns.items() if name not in {"tenantId", "lease"}}
        await world.table.write(shard_of("broken"), [Put(active_key("broken"), cells)])
        with pytest.raises(StoreUnavailable):
            await world.notify(item("broken", "hold"), item("sound", "hold"))
        await world.process.look(CLAIM + SECOND)
        assert [each.status for each in await world.deliveries("sound")] == [DeliveryStatus.DELIVERED]

    async def test_an_error_of_the_relay_is_no_error_for_graph(self) -> None:
        world = World()
        with patch.object(PassThrough, "finish", side_effect=RuntimeError("a bug")):
            assert (await world.notify(item("call"))).calls == 1
        await world.process.look(CLAIM + SECOND)
        assert await world.log("call") == [("delivered", [202])]

    async def test_while_the_store_is_away_graph_sends_it_again(self) -> None:
        world = World()
        world.process.table.is_away = True
        with pytest.raises(StoreUnavailable):
            await world.notify(item("call"), item("other"))
        assert world.bot.received == []

    async def test_an_app_without_a_target_has_no_deliveries(self) -> None:
        world = World(target(appId="5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"))
        await world.notify(item("call"))
        assert await world.log("call") == []
        assert world.bot.received == []

    async def test_several_calls_are_refused_by_the_same_rule_as_the_store_does(self) -> None:
        """A call without an app belongs to the default app, so another app's token does not reach it."""
        world = World()
        await world.notify(item("mine"))
        world.tenant = OTHER_TENANT
        await world.notify(item("foreign"))
        world.tenant = TENANT
        world.bot.received.clear()
        result = await world.notify(item("mine", "hold"), item("foreign", "hold"), item("new", "hold"))
        assert (result.calls, result.refused) == (2, 1)
        sent = [call_of(each) for received in world.bot.received for each in json.loads(received.body)["value"]]
        assert sorted(sent) == ["mine", "new"]


async def test_graph_is_answered_after_the_slowest_first_attempt_and_no_later() -> None:
    world = World(target(url="https://bot.example/{to}"))
    world.bot.takes = timedelta(hours=1)
    began = world.clock.now()
    await world.notify(item("call"), to=("one",))
    assert world.clock.now() - began < 2 * SECOND  # RELAY_BUDGET is 1.5 s
