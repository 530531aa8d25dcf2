"""The relay over HTTP: Graph's own request reaches the bot, and what it missed follows in order."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from aiohttp import web
from pydantic import JsonValue

from functions import relay
from shared.domain.deliveries import Delivery, DeliveryStatus
from tests.functions.harness import APP_ID, App, Json, about_call

BOT_PATH = "/bot"


@dataclass
class Received:
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
        self.received.append(Received(request.headers, await request.read()))
        return web.Response(
            status=self.statuses.pop(0) if self.statuses else 202, headers=self.headers, body=self.answer
        )


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    found = Bot("")
    server = web.Application()
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
