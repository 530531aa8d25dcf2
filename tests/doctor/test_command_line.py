"""`python -m doctor` as it is typed: what it prints, its exit code, and where it takes the settings from."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from local.stack.stack import ROOT
from tests.doctor.world import SECRET, SECRETS, World

type Run = subprocess.CompletedProcess[str]


def _run(*arguments: str, settings: Mapping[str, str] | None = None, path: str | None = None) -> Run:
    environment = {"PATH": path or os.environ["PATH"], **(settings or {})}
    run = subprocess.run(
        [sys.executable, "-m", "doctor", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [each for each in SECRETS if each in run.stdout + run.stderr] == []
    assert "Traceback" not in run.stderr
    return run


def test_a_healthy_set_up_is_told_in_a_few_lines_that_say_what_was_checked(world: World) -> None:
    plan = world.local()
    run = _run("--webhook", str(plan.webhook), "--url", str(plan.url), settings=_trusting(world))
    assert run.returncode == 0, run.stdout
    assert run.stdout.startswith("doctor: all well. Checked: settings, cloud, python, functions,")
    assert "schedule: at most 15 min apart; next at " in run.stdout
    assert "Not checked" not in run.stdout
    assert "\x1b[" not in run.stdout
    assert len(run.stdout.splitlines()) < 6


def test_a_fault_is_one_line_with_its_mark_its_name_and_the_fix(world: World) -> None:
    settings = _trusting(world) | {"NOTIFICATION_AUDIENCES": "api://another", "GRAPH_TENANTID": "x"}
    run = _run("--only", "settings,notifications", settings=settings)
    assert run.returncode == 1
    first, second, *summary = run.stdout.splitlines()
    assert first.startswith("warn  setting-misspelt: GRAPH_TENANTID is read by nobody; GRAPH_TENANT_ID is meant? Fix: ")
    assert second.startswith("FAIL  audience-wrong: NOTIFICATION_AUDIENCES does not have GRAPH_APP_ID. Fix: ")
    assert summary == ["doctor: 1 to mend, 1 to look at. Checked: settings, notifications."]


def test_where_nothing_is_set_it_says_where_settings_come_from_and_how_to_ask_what_make_up_runs() -> None:
    run = _run("--webhook", "http://127.0.0.1:9/api/notifications")
    assert run.returncode == 1
    assert "FAIL  setting-missing: GRAPH_APP_ID is missing." in run.stdout
    assert "copy local.settings.example.json to local.settings.json" in run.stderr
    assert "--only health --url http://127.0.0.1:7071" in run.stderr
    assert "no settings here" not in _run("--only", "python").stderr


def test_what_is_only_worth_a_look_does_not_fail(world: World) -> None:
    assert _run("--only", "settings", settings=_trusting(world) | {"GRAPH_TENANTID": "x"}).returncode == 0


def test_json_says_the_same_to_a_program() -> None:
    run = _run("--json", "--only", "webhook,switches", settings={"AzureWebJobs_keep_alive_timer_Disabled": "1"})
    assert run.returncode == 1
    report = json.loads(run.stdout)
    assert report["ok"] is False
    assert [(each["severity"], each["name"], each["check"]) for each in report["findings"]] == [
        ("fail", "timer-disabled", "switches")
    ]
    assert report["findings"][0]["fix"]
    assert report["checked"] == ["switches"]
    assert [each["check"] for each in report["notChecked"]] == ["webhook"]


def test_the_settings_of_local_settings_json_are_read_and_the_environment_wins(world: World) -> None:
    values = _trusting(world) | {"GRAPH_CLIENT_SECRET": "hush-hush-another", "KEEP_ALIVE_SCHEDULE": "0 0 * * * *"}
    root = world.root(local__settings__json=json.dumps({"IsEncrypted": False, "Values": values}))
    run = _run("--root", str(root), "--only", "token,schedule", settings={"GRAPH_CLIENT_SECRET": SECRET})
    assert "schedule-too-long" in run.stdout
    assert "Checked: schedule, token." in run.stdout
    assert run.returncode == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Values": {"A": "hush-hush-another"', "cannot be read (JSONDecodeError, line 1)"),
        ('{"Values": {"GRAPH_TIMEOUT": 7}}', "Values.GRAPH_TIMEOUT is wrong"),
        ('{"IsEncrypted": true, "Values": {}}', "func settings decrypt"),
    ],
)
def test_a_local_settings_json_that_cannot_be_read_is_one_line(world: World, text: str, said: str) -> None:
    run = _run("--root", str(world.root(local__settings__json=text)))
    assert (run.returncode, run.stdout) == (1, "")
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_deployed_app_is_asked_by_the_login_of_az(world: World) -> None:
    plan = world.deployed()
    listed = [{"name": name, "value": value} for name, value in plan.settings.items()]
    world.az.answer("functionapp config appsettings list", listed)
    trusting = {"SSL_CERT_FILE": str(world.trusted)}
    options = ("--app", "keeper", "--resource-group", "group", "--subscription", "sub")
    run = _run(*options, "--only", "deployment,roles,storage,webhook", settings=trusting, path=os.environ["PATH"])
    assert "webhook-" in run.stdout  # it was asked at the app's own name, which leads nowhere
    assert "Checked: storage, webhook, deployment, roles." in run.stdout
    assert all("--subscription sub" in asked for asked in world.az.asked if not asked.startswith("account"))


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("ERROR: Please run 'az login' to setup account. hush-hush-another", "az is not logged in: run az login"),
        ("ERROR: (ResourceNotFound) hush-hush-another", "failed (ResourceNotFound): run it by hand to see why"),
    ],
)
def test_an_az_that_cannot_tell_is_one_line_without_its_words(world: World, complaint: str, said: str) -> None:
    world.deployed()
    world.az.complain(complaint)
    run = _run("--app", "keeper", "--resource-group", "group", path=os.environ["PATH"])
    assert (run.returncode, run.stdout) == (1, "")
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_without_az_a_deployed_app_cannot_be_asked() -> None:
    run = _run("--app", "keeper", "--resource-group", "group", path="/nowhere")
    assert run.returncode == 1
    assert "the Azure CLI (az) is not installed" in run.stderr


@pytest.mark.parametrize("arguments", [("--app", "keeper"), ("--only", "everything")])
def test_wrong_options_are_exit_code_2(arguments: tuple[str, ...]) -> None:
    run = _run(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""


def _trusting(world: World) -> dict[str, str]:
    return world.local().settings | {"SSL_CERT_FILE": str(world.trusted)}
