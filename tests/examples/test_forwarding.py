"""The example bots if the callbackUri is their own, and they forward to Call Keeper."""

from collections.abc import Iterator

import pytest

from local.stack.processes import Children
from local.stack.stack import APP_ID, Options
from soak.real.world import World, running
from tests.examples.bots import Bot, Programs
from tests.examples.simulated_graph import Graph, graph_of
from tests.examples.webhooks import deliver, tone_body

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running(Options(speed=1)) as world:
        yield world


@pytest.fixture(scope="module")
def graph(world: World) -> Iterator[Graph]:
    with graph_of(world.stack) as graph:
        yield graph


def test_call_keeper_learns_from_the_bot_why_a_call_ended(
    world: World, graph: Graph, programs: Programs, children: Children, language: str
) -> None:
    bot = Bot(programs, children, language, {})
    bot.settings = {
        **graph.settings_of_bot(APP_ID, bot.notifications),
        "BOT_FORWARD_TO": f"{world.stack.api}/notifications",
    }
    bot.start()
    assert deliver(bot, graph.token(APP_ID), tone_body("1", "tone1"), "1") == 202  # this came from Call Keeper
    call_id = graph.call_bot(APP_ID, bot.notifications)
    world.wait_until(lambda: graph.state(call_id) == "established")
    world.end(call_id, 200, 5010)
    world.wait_until(lambda: world.ended_with(call_id) == (200, 5010))
    end = world.termination(call_id)
    assert end is not None
    assert end.source == "notification"
    notifications = graph.control("GET", f"/calls/{call_id}").json()["notifications"]
    world.wait_until(lambda: bot.output.count("forwarded: 202") == len(notifications))
    assert bot.output.count("forwarded: ") == len(notifications)
    bot.kill()
