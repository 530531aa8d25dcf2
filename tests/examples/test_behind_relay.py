"""The example bots behind Call Keeper: real processes, real storage. The callbackUri is Call Keeper's."""

import json
from collections.abc import Iterator

import httpx
import pytest

from local.stack.processes import Children
from local.stack.stack import APP_ID, Options
from soak.real.world import World, running
from tests.examples.bots import Bot, Programs
from tests.examples.simulated_graph import Graph, graph_of
from tests.examples.webhooks import tone_body

pytestmark = pytest.mark.timeout(180)

OTHER_APP_ID = "aaaaaaaa-0000-4000-8000-000000000002"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SHORT_LEASE = "PT45S"  # sixty times as short as Graph's 45 minutes: so are the delays between retries, down to a second


@pytest.fixture(scope="module")
def bot(programs: Programs, children: Children, language: str) -> Bot:
    """Return a bot that does not run yet."""
    return Bot(programs, children, language, {})


@pytest.fixture(scope="module")
def world(bot: Bot) -> Iterator[World]:
    """Run Call Keeper with the bot as a target of notifications, and of events with a token and a signature."""
    targets = [
        {"name": "bot", "format": "graph", "url": bot.notifications},
        {"name": "events", "format": "events", "url": bot.events, "audience": APP_ID, "secretSetting": "EVENTS_SECRET"},
    ]
    settings = {"RELAY_TARGETS": json.dumps(targets), "EVENTS_SECRET": SECRET, "LEASE_DURATION": SHORT_LEASE}
    with running(Options(speed=1, settings=settings)) as world:
        yield world


@pytest.fixture(scope="module")
def graph(world: World) -> Iterator[Graph]:
    with graph_of(world.stack) as graph:
        yield graph


@pytest.fixture
def webhook(world: World, graph: Graph, bot: Bot) -> Iterator[str]:
    """Run the bot, and return Call Keeper's address for Graph."""
    address = f"{world.stack.api}/notifications"
    bot.settings = graph.settings_of_bot(APP_ID, address)
    bot.start()
    yield address
    bot.kill()
    world.reset()


def _established(world: World, graph: Graph, webhook: str) -> str:
    """Return a call that the bot has answered, and whose tones it hears."""
    call_id = graph.call_bot(APP_ID, webhook)
    world.wait_until(lambda: "subscribeToTone" in graph.requests(call_id))
    return call_id


@pytest.mark.parametrize("token", ["legacy", "entra", "entraV1"])
def test_a_call_from_its_beginning_to_the_reason_of_its_end(
    world: World, graph: Graph, bot: Bot, webhook: str, token: str
) -> None:
    world.set_delivery(token=token)
    call_id = _established(world, graph, webhook)
    graph.press(call_id, "tone5")
    world.wait_until(lambda: graph.recordings(call_id))
    graph.press(call_id, "pound")
    world.wait_until(lambda: f"call {call_id} ended (1): " in bot.output)

    assert graph.requests(call_id) == ["answer", "subscribeToTone", "recordResponse", "delete"]
    end = world.termination(call_id)
    assert end is not None
    assert f"call {call_id} ended (1): {end.reason}" in bot.output
    assert f"call {call_id}: recording completed" in bot.output


def test_a_bot_that_was_down_gets_what_it_missed_in_order(world: World, graph: Graph, bot: Bot, webhook: str) -> None:
    """Late deliveries carry a token of the bot itself: here the bot cannot check Graph's, which is a legacy one."""
    call_id = _established(world, graph, webhook)
    bot.kill()
    bot.settings = {**bot.settings, "LEGACY_METADATA": "http://127.0.0.1:9"}
    tones = [f"tone{number}" for number in (3, 1, 2)]
    for tone in tones:
        graph.press(call_id, tone)
    world.end(call_id, 200, 5010)
    world.wait_until(lambda: world.ended_with(call_id) == (200, 5010))
    bot.start()
    wanted = [f"call {call_id}: heard {tone}" for tone in tones]
    world.wait_until(lambda: wanted[-1] in bot.output and f"call {call_id} ended" in bot.output)
    heard = [line for line in bot.output.splitlines() if f"call {call_id}: heard" in line]
    assert heard == wanted
    notifications = graph.control("GET", f"/calls/{call_id}").json()["notifications"]
    assert {attempt["status"] for one in notifications for attempt in one["attempts"]} == {202}


def test_a_forged_notification_does_not_reach_the_bot(world: World, graph: Graph, bot: Bot, webhook: str) -> None:
    call_id = _established(world, graph, webhook)
    forged = (
        graph.token(OTHER_APP_ID, audience=APP_ID),
        graph.token(APP_ID),  # a late delivery is for the bot: Call Keeper does not take it back
        graph.token(APP_ID, kind="notification", token="entra", audience=OTHER_APP_ID),
        graph.token(APP_ID, kind="notification", token="legacy", issuer="https://another-issuer.example"),
        graph.token(APP_ID, kind="notification", token="legacy", expiresIn=-301),
    )
    for token in forged:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = httpx.post(webhook, content=tone_body(call_id, "tone9"), headers=headers)
        assert answer.status_code in {401, 403}
    graph.press(call_id, "tone1")
    world.wait_until(lambda: f"call {call_id}: heard tone1" in bot.output)
    assert "tone9" not in bot.output


def test_a_call_that_no_bot_knows_is_found_and_hung_up(world: World, graph: Graph) -> None:
    """Microsoft's SDK may create a second call if a connection is lost: docs/bots.md."""
    known, unknown = world.begin_and_register(), world.begin()
    world.wait_until(lambda: world.stored_call(unknown))
    listed = world.request_ok("GET", "/calls?status=active").json()["value"]
    found = [call["id"] for call in listed if call["registeredAt"] is None and call["direction"] != "incoming"]
    assert unknown in found
    assert known not in found
    world.request_ok("POST", f"/calls/{unknown}/hangup")
    world.wait_until(lambda: graph.state(unknown) == "terminated")


def test_a_signature_proves_an_event_as_well(world: World, graph: Graph, bot: Bot, webhook: str) -> None:
    bot.kill()
    bot.settings = {**bot.settings, "BOT_EVENTS_SECRET": SECRET}
    bot.start()
    call_id = _established(world, graph, webhook)
    world.end(call_id, 200, 5010)
    world.wait_until(lambda: f"call {call_id} ended (1): " in bot.output)
    bot.kill()
    bot.settings = {**bot.settings, "BOT_EVENTS_SECRET": SECRET[:-1] + "A"}
    bot.start()
    refused = _established(world, graph, webhook)
    world.end(refused, 200, 5010)
    world.wait_until(lambda: "no valid signature" in bot.output)
    assert f"call {refused} ended" not in bot.output
