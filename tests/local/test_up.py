"""`make up`: what it prints about the relay."""

import json
import shlex
from types import SimpleNamespace
from typing import cast

import pytest

from local import up
from local.stack.stack import APP_ID, Stack
from shared.config.settings import load_settings
from tests.docs.documents import blocks
from tools.docs_tables import ROOT

SETTINGS = {
    "CALLS_STORAGE": "UseDevelopmentStorage=true",
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    "GRAPH_APP_ID": APP_ID,
}


def _welcome(capsys: pytest.CaptureFixture[str]) -> str:
    stack = SimpleNamespace(
        address="http://127.0.0.1:7071",
        api="http://127.0.0.1:7071/api",
        simulator="http://127.0.0.1:8080",
        function_key="key",
        bot_settings=lambda: {"BOT_APP_ID": APP_ID, "SSL_CERT_FILE": "ca.pem"},
    )
    up._welcome(cast("Stack", stack), 1)
    return capsys.readouterr().out


def _targets(command: str) -> str:
    """Return the value of RELAY_TARGETS in a shell command that ends with `make up`."""
    variable, *make = shlex.split(command)
    assert make == ["make", "up"]
    return variable.removeprefix("RELAY_TARGETS=")


def test_without_a_relay_it_prints_how_to_turn_it_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RELAY_TARGETS", raising=False)
    (command,) = (line for line in _welcome(capsys).splitlines() if line.endswith("make up"))
    settings = load_settings({**SETTINGS, "RELAY_TARGETS": _targets(command)})
    assert settings.relay_fault is None
    assert [target.format for target in settings.relay_targets] == ["graph", "events"]


def test_with_a_relay_it_prints_how_to_start_a_bot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELAY_TARGETS", up.RELAY_TARGETS)
    welcome = _welcome(capsys)
    command = welcome.partition("another terminal:")[2].partition("Start a call")[0]
    *variables, python, program = shlex.split(command.replace("\\\n", ""))
    assert variables == [f"BOT_APP_ID={APP_ID}", "SSL_CERT_FILE=ca.pem", "BOT_SECRET=any"]
    assert python == ".venv/bin/python"
    assert (ROOT / program).is_file()


def test_the_example_of_the_readme_is_accepted() -> None:
    lines = [line for block in blocks(ROOT / "README.md") for line in block.body.splitlines()]
    (command,) = (line for line in lines if line.startswith("RELAY_TARGETS="))
    settings = load_settings({**SETTINGS, "RELAY_TARGETS": _targets(command)})
    assert settings.relay_fault is None
    (target,) = settings.relay_targets
    assert target.model_dump(mode="json", include={"name", "format", "url"}) == json.loads(up.RELAY_TARGETS)[0]
