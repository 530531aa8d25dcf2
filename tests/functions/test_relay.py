"""The relay over HTTP: Graph's own request reaches the bot, and what it missed follows in order."""

import gzip
import json
import logging
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import azure.functions as func
import jwt
import pytest
from aiohttp import web
from azure.data.tables.aio import TableServiceClient
from azure.storage.queue.aio import QueueServiceClient
from pydantic import JsonValue

from functions import relay
from shared.api.webhook import MAX_RELAYED_PER_CHANGE
from shared.domain import lifecycle
from shared.domain.calls import TerminationSource
from shared.domain.deliveries import Delivery, DeliveryStatus
from shared.errors import InvalidRequest
from shared.storage.store import Change
from tests.functions.harness import APP_ID, App, Json, about_call

BOT_PATH = "/bot"


@dataclass
class Received:
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def state(self) -> str:
        return str(json.loads(self.body)["value"][0]["resourceData"].get("state"))


@dataclass
class Bot:
    """A bot that records what it receives, and answers as it is told."""

    url: str
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""
    received: list[Received] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(Received(request.path, request.headers, await request.read()))
        return web.Response(
            status=self.statuses.pop(0) if self.statuses else 202, headers=self.headers, body=self.answer
        )


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    found = Bot("")
    server = web.Application(client_max_size=8 * 1024 * 1024)
    server.router.add_post("/{path:.*}", found.handle)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    found.url = f"http://127.0.0.1:{port}{BOT_PATH}"
    yield found
    await runner.cleanup()


def targets(bot: Bot, *others: Mapping[str, JsonValue], suffix: str = "") -> str:
    return json.dumps([{"name": "bot", "url": bot.url + suffix, "format": "graph"}, *others])


async def statuses(app: App, call_id: str) -> list[tuple[str, list[tuple[int | None, str | None]]]]:
    found = await app.parts.outbox.list_of_call(call_id)
    return [(each.status.value, [(attempt.status, attempt.error) for attempt in each.attempts]) for each in found]


async def retry_all(app: App) -> None:
    """Make each attempt that is due, as the timer does after some minutes."""
    app.clock.ahead += timedelta(minutes=20)
    await app.parts.deliverer.look()


async def the_delivery(app: App, call_id: str) -> Delivery:
    (found,) = await app.parts.outbox.list_of_call(call_id)
    return found


async def test_the_bot_receives_graphs_own_request(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        headers = await relaying.simulator.signature(relaying.tenant)
        sent = {**headers, "Scenario-Id": "scenario", "X-Forwarded-For": "1.2.3.4"}
        answer = await relaying.notify(about_call(call_id, state="established"), headers=sent)
        (received,) = bot.received
        assert answer.status_code == 202
        assert received.body == answer.request.content
        assert received.headers["Authorization"] == headers["Authorization"]
        assert received.headers["Scenario-Id"] == "scenario"
        assert "X-Forwarded-For" not in received.headers
        delivery = await the_delivery(relaying, call_id)
        assert received.headers["webhook-id"] == delivery.id
        assert (delivery.status, delivery.body) == (DeliveryStatus.DELIVERED, None)


async def test_what_a_bot_missed_follows_in_order_with_our_own_token(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        bot.statuses = [500]
        await relaying.notify(about_call(call_id, state="establishing"))
        await relaying.notify(about_call(call_id, state="established"))
        await relaying.notify(about_call(call_id, "deleted", state="terminated"))
        assert [each.state for each in bot.received] == ["establishing"]
        assert await statuses(relaying, call_id) == [("pending", [(500, None)]), ("pending", []), ("pending", [])]
        await retry_all(relaying)
        assert [each.state for each in bot.received] == ["establishing", "establishing", "established", "terminated"]
        assert bot.received[0].headers["webhook-id"] == bot.received[1].headers["webhook-id"]
        assert bot.received[0].headers["Authorization"] != bot.received[1].headers["Authorization"]
        assert [status for status, _ in await statuses(relaying, call_id)] == ["delivered"] * 3


async def test_a_delivery_without_its_instance_is_dead_and_logged(
    app: App, bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    events = {"name": "events", "url": f"{bot.url}/{{to}}", "format": "events", "audience": APP_ID}
    async with app.configured(RELAY_TARGETS=targets(bot, events, suffix="/{to}")) as relaying:
        call_id = await relaying.register()
        await relaying.notify(about_call(call_id, state="established"))
        lines = [record for record in caplog.records if "relay.delivery.dead" in record.getMessage()]
        assert {(record.target, record.type, record.error) for record in lines} == {  # type: ignore[attr-defined] # by `extra`
            ("bot", "notification", "noTo"),
            ("events", "call.established", "noTo"),
        }
        assert bot.received == []


async def test_a_question_that_the_bot_does_not_answer_is_dead_and_logged(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.configured(RELAY_TARGETS=targets(Bot("http://127.0.0.1:9"))) as relaying:
        call_id = await relaying.register()
        joining: JsonValue = {"@odata.type": "#microsoft.graph.participantJoiningNotification"}
        await relaying.notify(about_call(call_id) | {"resourceData": joining})
        (line,) = [record for record in caplog.records if "relay.delivery.dead" in record.getMessage()]
        assert (line.target, line.error, line.attempts) == ("bot", "refused", 1)  # type: ignore[attr-defined] # as above


async def test_wrong_settings_are_logged_by_the_timer(
    app: App, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.configured(RELAY_TARGETS="hush-hush") as relaying:
        monkeypatch.setattr(relay, "services", lambda: relaying.parts)
        await relay.relay_timer(None)
        (line,) = [record for record in caplog.records if "relay.settings.invalid" in record.getMessage()]
        assert "RELAY_TARGETS" in line.getMessage()
        assert "hush" not in line.getMessage()


async def test_an_event_explains_the_end(app: App, bot: Bot) -> None:
    events = {"name": "events", "url": bot.url, "format": "events", "audience": APP_ID, "types": ["call.ended"]}
    async with app.configured(RELAY_TARGETS=json.dumps([events])) as relaying:
        call_id = await relaying.register()
        result: Json = {"code": 200, "subcode": 5010}
        await relaying.notify(about_call(call_id, "deleted", state="terminated", resultInfo=result))
        (received,) = bot.received
        event = json.loads(received.body)
        assert (event["type"], event["data"]["callId"], event["data"]["revision"]) == ("call.ended", call_id, 1)
        assert event["id"] == received.headers["webhook-id"]


async def test_without_targets_nothing_is_written(app: App, bot: Bot) -> None:
    call_id = await app.register()
    await app.notify(about_call(call_id, state="established"))
    stored = await app.parts.store.get(call_id)
    assert stored is not None
    assert stored.value.relay_sequence is None
    assert await statuses(app, call_id) == []
    assert bot.received == []


def joining(call_id: str) -> Json:
    """The notification of a participant that joins a call which a policy records: Graph wants the bot's decision."""
    data: Json = {"@odata.type": "#microsoft.graph.participantJoiningNotification", "call": {"id": call_id}}
    return about_call(call_id) | {"resourceData": data}


async def post(app: App, query: str, *items: Json, **headers: str) -> int:
    """Send a signed body to a callback with a query."""
    signed = await app.simulator.signature(app.tenant)
    answer = await app.http.post(f"/api/notifications{query}", json={"value": [*items]}, headers={**signed, **headers})
    return answer.status_code


async def test_a_question_gets_the_bots_own_answer(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        bot.statuses, bot.answer = [200], b'{"@odata.type":"#microsoft.graph.acceptJoinResponse"}'
        bot.headers = {"Content-Type": "application/json", "x-microsoft-bot-auth-type": "entra", "Set-Cookie": "a=b"}
        answer = await relaying.notify(joining(call_id), expect=200)
        assert answer.content == bot.answer
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["x-microsoft-bot-auth-type"] == "entra"
        assert "Set-Cookie" not in answer.headers
        bot.statuses = [401]
        await relaying.notify(joining(call_id), expect=401)
        assert len(bot.received) == 2  # it is not repeated
        assert await statuses(relaying, call_id) == [("delivered", [(200, None)]), ("delivered", [(401, None)])]


async def test_other_notifications_beside_a_question_are_retried_alone(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        bot.statuses = [500]
        await relaying.notify(about_call(call_id, state="established"), joining(call_id), expect=500)
        await retry_all(relaying)
        first, second = bot.received
        assert [len(json.loads(each.body)["value"]) for each in (first, second)] == [2, 1]
        assert second.state == "established"
        assert await statuses(relaying, call_id) == [
            ("delivered", [(500, None)]),
            ("delivered", [(500, None), (202, None)]),
        ]


async def test_a_401_is_repeated_once_with_the_same_bearer(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        bot.statuses = [401]
        await relaying.notify(about_call(call_id, state="established"))
        first, second = bot.received
        assert first.headers["Authorization"] == second.headers["Authorization"]
        assert await statuses(relaying, call_id) == [("delivered", [(401, None), (202, None)])]


@pytest.mark.parametrize("left", [29, -60], ids=["29 s left", "a minute after its end"])
async def test_a_bearer_near_its_end_is_replaced_by_our_own_token(app: App, bot: Bot, left: int) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        headers = await relaying.simulator.signature(relaying.tenant)
        claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), options={"verify_signature": False})
        ends_at = datetime.fromtimestamp(claims["exp"], UTC)
        relaying.clock.ahead += ends_at - relaying.clock.now() - timedelta(seconds=left)
        await relaying.notify(about_call(call_id, state="established"), headers=headers)
        (received,) = bot.received
        assert received.headers["Authorization"] not in {"", headers["Authorization"]}
        assert received.headers["webhook-timestamp"]
        own = jwt.decode(received.headers["Authorization"].removeprefix("Bearer "), options={"verify_signature": False})
        assert APP_ID in own["aud"]


async def test_what_is_refused_is_not_forwarded(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        signed = await relaying.simulator.signature(relaying.tenant)
        other = await relaying.simulator.signature(str(uuid4()))
        stranger = await relaying.simulator.signature(relaying.tenant, audience=str(uuid4()))
        body = json.dumps({"value": [about_call(call_id, state="established")]}).encode()
        for headers, content, expected in (
            ({}, body, 401),
            (stranger, body, 401),
            (other, body, 403),
            (signed, b"no json", 400),
            (signed, b'{"value": [{}]}', 400),
            ({**signed, "Content-Encoding": "gzip"}, gzip.compress(body), 415),
            ({**signed, "Content-Encoding": "br"}, body, 415),
        ):
            answer = await relaying.http.post("/api/notifications", content=content, headers=headers)
            assert answer.status_code == expected
        await relaying.notify()  # an empty `value`
        assert bot.received == []
        assert await statuses(relaying, call_id) == []


async def test_a_body_about_several_calls_goes_unchanged_to_one_destination(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        calls = [await relaying.register() for _ in range(3)]
        bot.statuses = [500]
        answer = await relaying.notify(*(about_call(call_id, state="established") for call_id in calls))
        (received,) = bot.received
        assert received.body == answer.request.content
        await retry_all(relaying)
        assert bot.received[1].body == received.body
        for call_id in calls:
            delivery = await the_delivery(relaying, call_id)
            assert delivery.call_ids == tuple(calls)
            assert delivery.status is DeliveryStatus.DELIVERED


async def test_a_body_is_split_if_its_calls_have_several_destinations(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot, suffix="/{to}")) as relaying:
        one, two = await relaying.register(to="one"), await relaying.register(to="two")
        items = [about_call(one, state="established"), about_call(two, state="hold"), about_call(one, state="hold")]
        signed = await relaying.simulator.signature(relaying.tenant)
        body = {"@odata.context": "envelope", "value": items}
        answer = await relaying.http.post("/api/notifications", json=body, headers=signed)
        assert answer.status_code == 202
        parts = {each.path: json.loads(each.body) for each in bot.received}
        assert parts == {
            f"{BOT_PATH}/one": {"@odata.context": "envelope", "value": [items[0], items[2]]},
            f"{BOT_PATH}/two": {"@odata.context": "envelope", "value": [items[1]]},
        }


async def test_only_what_is_stored_is_sent(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        mine, other = await relaying.register(), str(uuid4())
        await relaying.notify(about_call(other, state="hold"), tenant=str(uuid4()))
        bot.received.clear()
        await relaying.notify(about_call(mine, state="established"), about_call(other, "deleted", state="terminated"))
        (received,) = bot.received
        assert [each["resourceData"]["state"] for each in json.loads(received.body)["value"]] == ["established"]


@pytest.mark.parametrize(
    "query",
    ["", "?to=", "?to=one&to=two", "?to=one&to=one", "?to=a/b", "?to=..", f"?to={'a' * 65}", "?TO=one"],
    ids=["absent", "empty", "doubled", "twice the same", "a path", "a parent", "too long", "another name"],
)
async def test_without_a_valid_to_the_delivery_is_dead(app: App, bot: Bot, query: str) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot, suffix="/{to}")) as relaying:
        is_absent = query in {"", "?TO=one"}
        call_id = await (relaying.register() if is_absent else relaying.register(to="good"))
        assert await post(relaying, query, about_call(call_id, state="established")) == 202
        assert bot.received == []
        assert await statuses(relaying, call_id) == [("dead", [(None, "noTo")])]
        assert (await relaying.asked("GET", f"calls/{call_id}"))["state"] == "established"


async def test_the_to_of_the_callback_wins_over_that_of_the_registration(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot, suffix="/{to}/end")) as relaying:
        call_id = await relaying.register(to="registered")
        await post(relaying, "", about_call(call_id, state="established"))
        await post(relaying, "?x=1&to=callback", about_call(call_id, state="hold"))
        assert [each.path for each in bot.received] == [f"{BOT_PATH}/registered/end", f"{BOT_PATH}/callback/end"]


async def test_a_body_of_two_chunks_is_one_delivery(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        items = [about_call(call_id, state="hold", callChainId=f"{n}") for n in range(MAX_RELAYED_PER_CHANGE + 1)]
        answer = await relaying.notify(*items)
        (received,) = bot.received
        assert received.body == answer.request.content
        assert [status for status, _ in await statuses(relaying, call_id)] == ["delivered"]


async def test_a_body_that_no_row_holds(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        large = "".join(uuid4().hex for _ in range(70_000))  # 2.2 MB of hex digits pack to 1.1 MB
        bot.statuses = [500]
        await relaying.notify(about_call(call_id, state="established", large=large))
        await relaying.notify(about_call(call_id, state="hold", large=large))
        fits = large[: 32 * 40_000]  # 1.3 MB pack to about 0.7 MB: eleven columns
        bot.statuses = [500]
        await relaying.notify(about_call(call_id, "deleted", state="terminated", large=fits))
        await retry_all(relaying)
        assert await statuses(relaying, call_id) == [
            ("dead", [(500, None), (None, "bodyTooLarge")]),
            ("delivered", [(202, None)]),
            ("delivered", [(500, None), (202, None)]),
        ]
        assert bot.received[-1].body == bot.received[-2].body


async def test_retry_after_holds_for_the_destination(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        one, two = await relaying.register(), await relaying.register()
        bot.statuses, bot.headers = [429], {"Retry-After": "600"}
        await relaying.notify(about_call(one, state="established"))
        await relaying.notify(about_call(two, state="established"))
        assert len(bot.received) == 1
        relaying.clock.ahead += timedelta(minutes=5)
        await relaying.parts.deliverer.look()
        assert len(bot.received) == 1
        bot.headers = {}
        await retry_all(relaying)
        assert [status for each in (one, two) for status, _ in await statuses(relaying, each)] == ["delivered"] * 2


async def test_after_a_410_nothing_is_sent(app: App, bot: Bot) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        one, two = await relaying.register(), await relaying.register()
        bot.statuses = [410]
        await relaying.notify(about_call(one, state="established"))
        await relaying.notify(about_call(two, state="established"))
        await relaying.notify(joining(two))
        assert len(bot.received) == 1
        assert await statuses(relaying, one) == [("disabled", [(410, None)])]
        assert await statuses(relaying, two) == [("disabled", []), ("dead", [(None, "disabled")])]
        await relaying.parts.destinations.enable("bot")
        await relaying.notify(about_call(two, state="hold"))
        assert len(bot.received) == 2


async def test_the_headers_of_the_bot_are_copied_if_the_whole_body_went_to_it(app: App, bot: Bot) -> None:
    copied = {"x-microsoft-bot-auth-type": "botframework", "x-microsoft-bot-sdk-version": "1.2"}
    bot.headers = {**copied, "x-other": "1"}
    async with app.configured(RELAY_TARGETS=targets(bot, suffix="/{to}")) as relaying:
        one, two = await relaying.register(to="one"), await relaying.register(to="two")
        whole = await relaying.notify(about_call(one, state="established"))
        split = await relaying.notify(about_call(one, state="hold"), about_call(two, state="hold"))
        assert {name: whole.headers.get(name) for name in copied} == copied
        assert {name: split.headers.get(name) for name in copied} == dict.fromkeys(copied)
        assert "x-other" not in whole.headers


async def test_an_end_that_a_sweep_found_reaches_the_bot_by_the_queue(
    app: App, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = {"name": "events", "url": bot.url, "format": "events", "audience": APP_ID, "types": ["call.ended"]}
    async with app.configured(RELAY_TARGETS=json.dumps([events])) as relaying:
        call_id = await relaying.register()
        stored = await relaying.parts.store.get(call_id)
        assert stored is not None
        after = lifecycle.call_gone(stored.value, TerminationSource.KEEP_ALIVE_NOT_FOUND, relaying.clock.now())
        await relaying.parts.store.commit(Change(stored, after))  # as the keeper does
        assert bot.received == []
        monkeypatch.setattr(relay, "services", lambda: relaying.parts)
        handled = 0
        async for message in relaying.parts.relay_queue._queue._client.receive_messages():  # type: ignore[attr-defined] # StorageQueue
            if call_id in (text := b64decode(message.content).decode()):
                handled += 1
                await relay.relay_queue(func.QueueMessage(body=text.encode()))
        assert handled == 1
        (received,) = bot.received
        assert json.loads(received.body)["data"]["callId"] == call_id
        assert [status for status, _ in await statuses(relaying, call_id)] == ["delivered"]


async def test_a_message_that_is_none_of_the_relays_goes_to_the_poison_queue(
    app: App, bot: Bot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        monkeypatch.setattr(relay, "services", lambda: relaying.parts)
        with pytest.raises(InvalidRequest):  # the host repeats it, and then puts it there
            await relay.relay_queue(func.QueueMessage(body=b'{"kind": "renew", "call_id": "secret"}'))
        assert "its kind is none of deliver, look" in caplog.text
        assert "secret" not in caplog.text


async def test_graphs_bearer_and_the_body_are_in_no_row_message_or_log_line(
    app: App, bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "a-recording-access-token-that-few-may-see"
    async with app.configured(RELAY_TARGETS=targets(bot)) as relaying:
        call_id = await relaying.register()
        headers = await relaying.simulator.signature(relaying.tenant)
        bearer = headers["Authorization"].removeprefix("Bearer ")
        bot.statuses = [500, 500]
        await relaying.notify(about_call(call_id, state="established", recordingAccessToken=secret), headers=headers)
        await retry_all(relaying)
        own = bot.received[1].headers["Authorization"].removeprefix("Bearer ")
        assert own != bearer
        stored = await everything_stored(app.storage)
    lines = [f"{logging.Formatter().format(record)} {vars(record)}" for record in caplog.records]
    logged = [line for line in lines if "aiohttp.access" not in line]
    assert any(call_id in text for text in stored)
    for hidden in (bearer, own):
        assert not [text for text in (*stored, *logged) if hidden in text or hidden.rpartition(".")[2] in text]
    assert not [line for line in logged if secret in line]


async def everything_stored(storage: str) -> list[str]:
    """All rows of all tables, their bodies unpacked, and all messages of all queues."""
    found: list[str] = []
    async with TableServiceClient.from_connection_string(storage) as tables:
        async for table in tables.list_tables():
            async for row in tables.get_table_client(table.name).list_entities():
                packed = b"".join(value for name, value in sorted(row.items()) if name.startswith("body"))
                # Other tests leave damaged bodies, and those of many columns are not in order here: the first is enough.
                is_gzip = packed.startswith(b"\x1f\x8b")
                body = zlib.decompressobj(wbits=31).decompress(packed[:60_000]) if is_gzip else packed
                found.append(f"{dict(row)!r}{body!r}")
    async with QueueServiceClient.from_connection_string(storage) as queues:
        async for queue in queues.list_queues():
            messages = await queues.get_queue_client(queue.name).peek_messages(32)
            found += [b64decode(message.content).decode() for message in messages]
    return found
