"""`python -m doctor` as a process: its output, its exit code and the source of its settings."""

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


def test_a_healthy_set_up_gives_a_short_report_of_what_was_checked(world: World) -> None:
    plan = world.local()
    run = _run("--webhook", str(plan.webhook), "--url", str(plan.url), settings=_trusting(world))
    assert run.returncode == 0, run.stdout
    assert run.stdout.startswith("doctor: no problems. Checked: settings, cloud, python, functions,")
    assert "schedule: runs are at most 15 min apart; next at " in run.stdout
    assert "Not checked" not in run.stdout
    assert "\x1b[" not in run.stdout
    assert len(run.stdout.splitlines()) <= 2 + 1  # two wrapped lines of checks, one of the schedule


def test_a_fault_is_one_line_with_severity_name_and_fix(world: World) -> None:
    settings = _trusting(world) | {"NOTIFICATION_AUDIENCES": "api://another", "GRAPH_TENANTID": "x"}
    run = _run("--only", "settings,notifications", settings=settings)
    assert run.returncode == 1
    first, second, *summary = run.stdout.splitlines()
    assert first.startswith(
        "warn  setting-misspelt: the app does not read GRAPH_TENANTID; did you mean GRAPH_TENANT_ID? Fix: "
    )
    assert second.startswith("FAIL  audience-wrong: NOTIFICATION_AUDIENCES does not contain GRAPH_APP_ID. Fix: ")
    assert summary == ["doctor: 1 problem, 1 warning. Checked: settings, notifications."]


def test_without_settings_it_says_where_they_come_from_and_how_to_check_make_up() -> None:
    run = _run("--webhook", "http://127.0.0.1:9/api/notifications")
    assert run.returncode == 1
    assert "FAIL  setting-missing: GRAPH_APP_ID is missing." in run.stdout
    assert "copy local.settings.example.json to local.settings.json" in run.stderr
    assert "--only health --url http://127.0.0.1:7071" in run.stderr
    assert "there are no settings" not in _run("--only", "python").stderr


def test_a_warning_does_not_fail(world: World) -> None:
    assert _run("--only", "settings", settings=_trusting(world) | {"GRAPH_TENANTID": "x"}).returncode == 0


def test_json_has_the_same_report() -> None:
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


def test_local_settings_json_is_read_and_the_environment_overrides_it(world: World) -> None:
    values = _trusting(world) | {"GRAPH_CLIENT_SECRET": "hush-hush-another", "KEEP_ALIVE_SCHEDULE": "0 0 * * * *"}
    root = world.root(local__settings__json=json.dumps({"IsEncrypted": False, "Values": values}))
    run = _run("--root", str(root), "--only", "token,schedule", settings={"GRAPH_CLIENT_SECRET": SECRET})
    assert "schedule-too-long" in run.stdout
    assert "Checked: schedule, token." in run.stdout
    assert run.returncode == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            '{"Values": {"A": "hush-hush-another"', "cannot be read (JSONDecodeError, line 1)", id="incomplete JSON"
        ),
        pytest.param('{"Values": {"GRAPH_TIMEOUT": 7}}', "Values.GRAPH_TIMEOUT is wrong", id="number as a value"),
        pytest.param('{"IsEncrypted": true, "Values": {}}', "func settings decrypt", id="encrypted"),
    ],
)
def test_an_unreadable_local_settings_json_is_one_line(world: World, text: str, message: str) -> None:
    run = _run("--root", str(world.root(local__settings__json=text)))
    assert (run.returncode, run.stdout) == (1, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_deployed_app_is_checked_with_the_login_of_az(world: World) -> None:
    plan = world.deployed()
    listed = [{"name": name, "value": value} for name, value in plan.settings.items()]
    world.az.answer("functionapp config appsettings list", listed)
    trusting = {"SSL_CERT_FILE": str(world.trusted)}
    options = ("--app", "keeper", "--resource-group", "group", "--subscription", "sub")
    run = _run(*options, "--only", "deployment,roles,storage,webhook", settings=trusting, path=os.environ["PATH"])
    assert "webhook-" in run.stdout  # the request went to the app's own name, which does not exist
    assert "Checked: storage, webhook, deployment, roles." in run.stdout
    assert all("--subscription sub" in command for command in world.az.commands if not command.startswith("account"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            "ERROR: Please run 'az login' to setup account. hush-hush-another",
            "az is not logged in: run az login",
            id="not logged in",
        ),
        pytest.param(
            "ERROR: (ResourceNotFound) hush-hush-another",
            "failed (ResourceNotFound): run it by hand to see why",
            id="app not found",
        ),
    ],
)
def test_a_failure_of_az_is_one_line_without_its_text(world: World, error: str, message: str) -> None:
    world.deployed()
    world.az.fail(error)
    run = _run("--app", "keeper", "--resource-group", "group", path=os.environ["PATH"])
    assert (run.returncode, run.stdout) == (1, "")
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_without_az_a_deployed_app_cannot_be_checked() -> None:
    run = _run("--app", "keeper", "--resource-group", "group", path="/nowhere")
    assert run.returncode == 1
    assert "the Azure CLI (az) is not installed" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--app", "keeper"), id="app without resource group"),
        pytest.param(("--only", "everything"), id="unknown check"),
    ],
)
def test_wrong_options_exit_with_2(arguments: tuple[str, ...]) -> None:
    run = _run(*arguments)
    assert run.returncode == 2
    assert run.stdout == ""


def _trusting(world: World) -> dict[str, str]:
    return world.local().settings | {"SSL_CERT_FILE": str(world.trusted)}
