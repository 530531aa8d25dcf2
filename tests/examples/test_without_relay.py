"""The example bots with Graph alone: notifications go straight to the bot."""

import json
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from local.stack.processes import Children
from tests.examples.bots import Bot, Programs
from tests.examples.simulated_graph import TENANT, Graph, simulated_graph, wait_until
from tests.examples.webhooks import deliver, signature_headers, tone_body

APP_ID = "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60"
OTHER_APP_ID = "aaaaaaaa-0000-4000-8000-000000000002"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with simulated_graph(tmp_path_factory.mktemp("graph")) as graph:
        yield graph


@pytest.fixture(scope="module")
def bot(programs: Programs, children: Children, language: str, graph: Graph) -> Iterator[Bot]:
    """Return a bot whose callbackUri is its own address."""
    bot = Bot(programs, children, language, {})
    bot.settings = graph.settings_of_bot(APP_ID, bot.notifications)
    yield bot.start()
    bot.kill()


@pytest.mark.parametrize("token", ["legacy", "entra", "entraV1"])
def test_a_call_from_its_beginning_to_its_end(graph: Graph, bot: Bot, token: str) -> None:
    graph.control("PUT", "/delivery", {"token": token})
    call_id = graph.call_bot(APP_ID, bot.notifications)
    wait_until(lambda: "answer" in graph.requests(call_id))
    graph.advance(2)  # a second after the answer it is established
    assert graph.state(call_id) == "established"
    wait_until(lambda: "subscribeToTone" in graph.requests(call_id))
    graph.press(call_id, "tone5")
    wait_until(lambda: graph.recordings(call_id))
    graph.press(call_id, "pound")
    wait_until(lambda: graph.state(call_id) == "terminating")
    graph.advance(2)  # a second after the hang-up it is terminated

    assert graph.state(call_id) == "terminated"
    assert graph.requests(call_id) == ["answer", "subscribeToTone", "recordResponse", "delete"]
    assert f"call {call_id}: heard tone5" in bot.output
    assert f"call {call_id}: recording completed" in bot.output
    notifications = graph.control("GET", f"/calls/{call_id}").json()["notifications"]
    assert {attempt["status"] for one in notifications for attempt in one["attempts"]} == {202}


def test_what_graph_repeats_is_done_once(graph: Graph, bot: Bot) -> None:
    call_id = graph.call_bot(APP_ID, bot.notifications)
    wait_until(lambda: "answer" in graph.requests(call_id))
    graph.advance(2)
    wait_until(lambda: "subscribeToTone" in graph.requests(call_id))
    graph.press(call_id)
    wait_until(lambda: graph.recordings(call_id))
    for notification in graph.control("GET", f"/calls/{call_id}").json()["notifications"]:
        graph.control("POST", f"/calls/{call_id}/notify", {"notificationId": notification["id"]})
    graph.press(call_id, "pound")
    wait_until(lambda: graph.state(call_id) == "terminating")
    assert graph.requests(call_id) == ["answer", "subscribeToTone", "recordResponse", "delete"]


def test_a_delivery_of_call_keeper_is_handled_once(graph: Graph, bot: Bot) -> None:
    """A bot that answered 202 gets the delivery again if its answer was lost: with the same id."""
    call_id, tones = _established(graph, bot), []
    for number, message_id in enumerate(("first", "first", "second", "first")):
        tone = f"tone{number}"
        assert deliver(bot, graph.token(APP_ID), tone_body(call_id, tone), f"{call_id}-{message_id}") == 202
        tones.append(f"call {call_id}: heard {tone}")
    wait_until(lambda: tones[2] in bot.output)
    assert [tone in bot.output for tone in tones] == [True, False, True, False]


def test_a_delivery_that_was_refused_is_handled_when_it_comes_again(graph: Graph, bot: Bot) -> None:
    call_id = _established(graph, bot)
    refused = deliver(bot, graph.token(OTHER_APP_ID, audience=APP_ID), tone_body(call_id, "tone1"), f"{call_id}-1")
    assert refused == 401
    assert "heard tone1" not in bot.output.partition(call_id)[2]
    assert deliver(bot, graph.token(APP_ID), tone_body(call_id, "tone1"), f"{call_id}-1") == 202
    wait_until(lambda: f"call {call_id}: heard tone1" in bot.output)


def test_a_bot_that_has_no_keys_asks_for_another_attempt(
    graph: Graph, programs: Programs, children: Children, language: str
) -> None:
    """Call Keeper gives up after some 401, but repeats after 503 for 24 hours."""
    bot = Bot(programs, children, language, {})
    nowhere = "http://127.0.0.1:9"
    bot.settings = {
        **graph.settings_of_bot(APP_ID, bot.notifications),
        "LOGIN_URL": nowhere,
        "LEGACY_METADATA": nowhere,
    }
    bot.start()
    legacy = {"kind": "notification", "token": "legacy"}
    for token in (graph.token(APP_ID), graph.token(APP_ID, **legacy)):
        assert deliver(bot, token, tone_body("1", "tone1"), "1") == 503
    bot.kill()


def test_events_with_a_token(graph: Graph, bot: Bot) -> None:
    call_id = str(uuid.uuid4())
    token = {"Authorization": f"Bearer {graph.token(APP_ID)}", "webhook-id": f"{call_id}-1"}
    for _ in range(2):
        assert httpx.post(bot.events, content=_ended(call_id), headers=token).status_code == 202
    forged = {**token, "Authorization": f"Bearer {graph.token(OTHER_APP_ID, audience=APP_ID)}"}
    assert httpx.post(bot.events, content=_ended(call_id), headers=forged).status_code == 401
    wait_until(lambda: f"call {call_id} ended" in bot.output)
    assert bot.output.count(f"call {call_id} ended (1): The conversation ended.") == 1


def test_events_with_a_signature(graph: Graph, programs: Programs, children: Children, language: str) -> None:
    bot = Bot(programs, children, language, {})
    bot.settings = {**graph.settings_of_bot(APP_ID, bot.notifications), "BOT_EVENTS_SECRET": WEBHOOK_SECRET}
    bot.start()
    call_id, now = str(uuid.uuid4()), int(time.time())
    body = _ended(call_id)
    good = signature_headers(WEBHOOK_SECRET, "1", now, body)
    other = signature_headers("whsec_" + "A" * 32, "1", now, body)
    rotated = {**good, "webhook-signature": f"{other['webhook-signature']} {good['webhook-signature']}"}
    refused = {
        "no signature": {"webhook-id": "1", "webhook-timestamp": str(now)},
        "a token instead": {"Authorization": f"Bearer {graph.token(APP_ID)}", "webhook-id": "1"},
        "another secret": other,
        "another id": {**good, "webhook-id": "2"},
        "another version": {**good, "webhook-signature": good["webhook-signature"].replace("v1,", "v1a,")},
        "no version": {**good, "webhook-signature": good["webhook-signature"].removeprefix("v1,")},
        "an old one": signature_headers(WEBHOOK_SECRET, "1", now - 400, body),
        "a coming one": signature_headers(WEBHOOK_SECRET, "1", now + 400, body),
        "no time": signature_headers(WEBHOOK_SECRET, "1", "now", body),
    }
    assert {what: httpx.post(bot.events, content=body, headers=one).status_code for what, one in refused.items()} == (
        dict.fromkeys(refused, 401)
    )
    assert httpx.post(bot.events, content=body + b" ", headers=good).status_code == 401
    assert "ended" not in bot.output
    for headers in (good, rotated):
        assert httpx.post(bot.events, content=body, headers=headers).status_code == 202
    wait_until(lambda: f"call {call_id} ended" in bot.output)
    assert bot.output.count("ended (1)") == 1
    bot.kill()


def _established(graph: Graph, bot: Bot) -> str:
    """Return a call that the bot has answered."""
    call_id = graph.call_bot(APP_ID, bot.notifications)
    wait_until(lambda: "answer" in graph.requests(call_id))
    graph.advance(2)
    return call_id


def _ended(call_id: str) -> bytes:
    data = {"callId": call_id, "tenantId": TENANT, "revision": 1, "reason": "The conversation ended."}
    return json.dumps({"id": "1", "type": "call.ended", "version": "1", "data": data}).encode()
