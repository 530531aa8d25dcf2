"""The demo's chapter about the relay: it fails if the bot gets another order, or Graph's token too late."""

import io
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from local.demo.bot import GRAPHS, OWN
from local.demo.console import Console
from local.demo.relay import APP_ID, EVENTS_TARGET, KEYS, TARGET, BotC, RelayChapter
from local.demo.report import Delivered
from local.demo.steps import DemoFailed, Requests
from local.stack.stack import APP_ID as OTHER_APP_ID
from local.stack.stack import Stack
from shared.config.settings import load_settings

if TYPE_CHECKING:
    from local.stack.processes import Child


@dataclass
class Run:
    """A run of the bot."""

    output: str


def bot_with(*outputs: str) -> BotC:
    """Return a bot that has printed this in its runs."""
    return BotC(port=3978, runs=[cast("Child", Run(output)) for output in outputs])


def chapter(bot: BotC) -> RelayChapter:
    """Return the chapter of this bot, without a stack."""
    return RelayChapter(cast("Stack", SimpleNamespace()), cast("Requests", None), Console(io.StringIO()), bot)


def delivered(id_: str, target: str = TARGET, token: str = OWN) -> Delivered:
    """Return a delivery."""
    return Delivered(id_, target, "notification", 2, timedelta(seconds=3), token)


def test_the_settings_relay_the_calls_of_this_bot_alone() -> None:
    settings = load_settings(
        {
            "CALLS_STORAGE": "UseDevelopmentStorage=true",
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": OTHER_APP_ID,
            **bot_with().settings,
        }
    )
    assert settings.relay_fault is None
    assert [(target.name, target.app_id, target.audience) for target in settings.relay_targets] == [
        (TARGET, APP_ID, APP_ID),
        (EVENTS_TARGET, APP_ID, APP_ID),
    ]


def test_ids_are_those_of_all_runs_each_once() -> None:
    bot = bot_with(
        "accepted notifications id=1 token=graph\naccepted events id=2 token=own\n",
        "heard tone3\naccepted notifications id=3 token=own\naccepted notifications id=1 token=own\n",
    )
    assert bot.ids_of("notifications") == ["1", "3"]
    assert bot.ids_of("events") == ["2"]


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("accepted notifications id=2 token=own\naccepted notifications id=1 token=own\n", id="order"),
        pytest.param("accepted notifications id=1 token=own\n", id="one is missing"),
        pytest.param(
            "accepted notifications id=1 token=own\naccepted events id=2 token=own\n", id="one is at another path"
        ),
    ],
)
def test_another_order_fails(output: str) -> None:
    with pytest.raises(DemoFailed, match="stored in the order"):
        chapter(bot_with(output))._check_order([delivered("1"), delivered("2")])


def test_the_same_order_at_each_destination_passes() -> None:
    output = "accepted notifications id=1 token=own\naccepted notifications id=3 token=own\n"
    bot = bot_with("accepted events id=2 token=own\n" + output)
    chapter(bot)._check_order([delivered("1"), delivered("2", EVENTS_TARGET), delivered("3")])


def test_a_late_delivery_with_graphs_token_fails() -> None:
    missed = [delivered(key, token=GRAPHS if key == KEYS[-1] else OWN) for key in KEYS]
    with pytest.raises(DemoFailed, match="not with the bot's own token"):
        chapter(bot_with())._print_missed(missed)
