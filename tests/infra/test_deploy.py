"""Deployment by one command, and by azd's hooks, against a fake `az` and a fake directory."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import azd, commands, deploy, grant_graph_permissions
from infra import directory as directory_module
from infra.directory import CLOUDS, Cloud
from infra.grant_graph_permissions import Outcome
from tests.infra.fake_clouds import SUBSCRIPTION, TENANT, WEBHOOK, Clouds
from tests.infra.fake_directory import BOT, IDENTITY, MANAGEMENT, FakeDirectory, Json, running

ARGUMENTS = ["--group", "rg-call-keeper", "--location", "westeurope", "--bot-app-id", BOT]
PRODUCTION = ["--parameters", "infra/params/production.bicepparam"]
WHERE = "--app func-call-keeper --group rg-call-keeper"
PUBLISHED = [
    "make package",
    f"{sys.executable} -m release.publish push {WHERE}",
    f"{sys.executable} -m release.publish prove {WHERE}",
]
REFUSED: tuple[int, Json] = (
    403,
    {"error": {"code": "Authorization_RequestDenied", "message": "Insufficient privileges."}},
)
LATE: tuple[int, Json] = (
    400,
    {"error": {"code": "Request_BadRequest", "message": "Permission being assigned was not found on application"}},
)
OF_AZD = {
    "API_BASE_URL": "https://app/api",
    "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
    "AZURE_RESOURCE_GROUP": "rg-call-keeper",
    "FUNCTION_APP_NAME": "func-call-keeper",
    "GRAPH_APP_ID": BOT,
    "IDENTITY_PRINCIPAL_ID": IDENTITY,
    "WEBHOOK_URL": WEBHOOK,
}


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Clouds:
    made = Clouds()
    monkeypatch.setattr(commands, "_run", made.run)
    for name, value in OF_AZD.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the commands that write to the terminal. They build, upload and prove, and have their own tests."""
    seen: list[str] = []
    monkeypatch.setattr(commands, "run_visibly", lambda *command: seen.append(shlex.join(command)))
    return seen


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDirectory]:
    with running() as served:
        for name, cloud in list(CLOUDS.items()):
            monkeypatch.setitem(directory_module.CLOUDS, name, Cloud(served.url, cloud.authority, cloud.audience))
        monkeypatch.setattr(directory_module, "wait", served.waited.append)
        yield served


@pytest.fixture
def grants(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the options of each grant instead of granting."""
    seen: list[list[str]] = []

    def record(options: list[str]) -> Outcome:
        seen.append(options)
        return Outcome()

    monkeypatch.setattr(grant_graph_permissions, "grant", record)
    return seen


def test_one_command_deploys_grants_and_proves(
    clouds: Clouds, directory: FakeDirectory, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.main(ARGUMENTS) == 0
    assert clouds.groups == {"rg-call-keeper": "westeurope"}
    assert clouds.deployed == ["infra/params/minimal.bicepparam"]
    assert [env["GRAPH_APP_ID"] for env in clouds.environments_given] == [BOT], "the parameter file reads it"
    bot = next(str(item["id"]) for item in directory.principals if item["appId"] == BOT)
    (given,) = directory.lists[f"/servicePrincipals/{bot}/appRoleAssignedTo"]
    assert given["principalId"] == bot, "the bot may manage its own calls"
    assert shown == PUBLISHED
    lines = capsys.readouterr().out.splitlines()
    assert f"webhook:  {WEBHOOK}  (the bot's callbackUri)" in lines
    assert f"identity: {IDENTITY}" in lines, "a grant for another caller needs it"
    assert lines[-1] == "ok: it is deployed and proved"


def test_all_steps_are_printed_in_one_column(
    clouds: Clouds, directory: FakeDirectory, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory.late["POST /appRoleAssignedTo"] = [LATE]
    directory.broken["POST /servicePrincipals"] = REFUSED
    deploy.main(ARGUMENTS)
    directory.broken.clear()
    deploy.main(ARGUMENTS)
    grant_graph_permissions.main(["--bot-app-id", MANAGEMENT, "--identity-principal-id", IDENTITY, "--dry-run"])
    heads = re.findall(r"^((done|there|note|would|wait): {1,2})", capsys.readouterr().out, re.MULTILINE)
    assert {word for _, word in heads} == {"done", "there", "note", "would", "wait"}
    assert {len(head) for head, _ in heads} == {len("there: ")}
    assert shown
    assert clouds.deployed


def test_a_second_run_creates_nothing_twice(
    clouds: Clouds, directory: FakeDirectory, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.main(ARGUMENTS)
    directory.writes.clear()
    clouds.calls.clear()
    assert deploy.main(ARGUMENTS) == 0
    assert directory.writes == []
    assert not [call for call in clouds.changes if "deployment group create" not in call and "get-access" not in call]
    assert shown == PUBLISHED * 2
    assert "there: resource group rg-call-keeper" in capsys.readouterr().out


def test_an_account_without_the_directory_role_deploys_and_gets_a_command_for_an_administrator(
    clouds: Clouds, directory: FakeDirectory, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory.broken["POST /applications/app-bot/federatedIdentityCredentials"] = REFUSED
    management = [*PRODUCTION, "--variable", f"MANAGEMENT_APP_ID={MANAGEMENT}", "--media"]
    assert deploy.main([*ARGUMENTS, *management]) == 0
    assert shown == PUBLISHED
    printed = capsys.readouterr()
    assert "This account may not do that." in printed.err
    (command,) = [line for line in printed.out.splitlines() if "python3 -m infra.grant_graph_permissions" in line]
    arguments = shlex.split(command.partition("infra.grant_graph_permissions ")[2])
    del directory.broken["POST /applications/app-bot/federatedIdentityCredentials"]
    assert grant_graph_permissions.main(arguments) == 0, "the printed command grants all that was missing"
    assert deploy.main([*ARGUMENTS, *management]) == 0
    assert "An administrator" not in capsys.readouterr().out
    assert clouds.cloud == "AzureCloud"


def test_a_slow_directory_is_waited_for(
    clouds: Clouds, directory: FakeDirectory, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    directory.late["POST /appRoleAssignedTo"] = [LATE]
    assert deploy.main(ARGUMENTS) == 0
    assert len(directory.waited) == 1
    assert "note:  calls are" not in capsys.readouterr().out
    assert shown == PUBLISHED
    assert clouds.deployed


@pytest.mark.parametrize(
    ("step", "note"),
    [
        pytest.param("/appRoleAssignments", "note:  calls are not kept alive yet. ", id="permission of Graph"),
        pytest.param(
            "/appRoleAssignedTo",
            "note:  calls are kept alive, but the bot may not register them yet: ",
            id="role of the bot",
        ),
    ],
)
@pytest.mark.parametrize(
    ("answer", "code"), [pytest.param(REFUSED, 0, id="refused"), pytest.param(LATE, 1, id="never ready")]
)
@pytest.mark.usefixtures("clouds")
def test_the_note_names_what_is_missing_and_who_can_grant_it(
    directory: FakeDirectory,
    shown: list[str],
    capsys: pytest.CaptureFixture[str],
    *,
    step: str,
    note: str,
    answer: tuple[int, Json],
    code: int,
) -> None:
    directory.late[f"POST {step}"] = [answer] * 99
    assert deploy.main(ARGUMENTS) == code
    printed = capsys.readouterr()
    (line,) = [line for line in printed.out.splitlines() if line.startswith("note:  calls are")]
    assert line.startswith(note)
    assert ("An administrator of the bot's tenant" in line) == (code == 0)
    assert ("Run this again:" in line) == (code == 1)
    assert (commands.RUN_AGAIN in printed.err) == (code == 1)
    assert shown == PUBLISHED, "the app is deployed nevertheless"


def test_in_the_government_cloud_the_grant_uses_its_graph(
    clouds: Clouds, grants: list[list[str]], shown: list[str]
) -> None:
    clouds.cloud = "AzureUSGovernment"
    assert deploy.main([*ARGUMENTS, "--parameters", "infra/params/government.bicepparam"]) == 0
    assert azd.main(["postprovision"]) == 0
    assert [options[-2:] for options in grants] == [["--cloud", "usgov-l4"]] * 2
    assert shown == PUBLISHED


def test_the_graph_of_a_cloud_is_that_of_the_template() -> None:
    template = (commands.ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")
    assert "param graphCloud string = environment().name == 'AzureUSGovernment' ? 'usgov-l4' : 'global'" in template
    assert deploy.cloud_options("AzureUSGovernment") == ["--cloud", "usgov-l4"]
    assert deploy.cloud_options("AzureUSGovernment", "param graphCloud = 'usgov-l5'\n") == ["--cloud", "usgov-l5"]
    assert deploy.cloud_options("AzureCloud") == []


@pytest.mark.parametrize("command", ["group create --name rg", "deployment group create", "provider list"])
def test_a_refusal_of_azure_is_one_line_and_nothing_is_published(
    clouds: Clouds, shown: list[str], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    clouds.broken = {command: "(AuthorizationFailed) No\nright."}
    assert deploy.main(ARGUMENTS) == 1
    failed, advice = capsys.readouterr().err.splitlines()
    assert failed.startswith("failed: az ")
    assert failed.endswith("ERROR: (AuthorizationFailed) No right.")
    assert advice == commands.RUN_AGAIN
    assert shown == []


@pytest.mark.usefixtures("directory")
def test_a_package_that_cannot_be_built_is_an_error(
    clouds: Clouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real programs are run; `make` is one that fails."""
    assert clouds.groups == {}
    make = tmp_path / "make"
    make.write_text("#!/bin/sh\necho 'package: failed: why' >&2\nexit 2\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert deploy.main(ARGUMENTS) == 1
    assert "failed: make package failed: see its output above" in capsys.readouterr().err
    make.unlink()
    assert azd.main(["postdeploy"]) == 1
    assert capsys.readouterr().err == "failed: make is not installed. See docs/deploy.md, Before you begin\n"


def test_the_app_registration_of_management_is_created_and_its_tenant_is_deployed(
    clouds: Clouds, grants: list[list[str]], shown: list[str]
) -> None:
    assert deploy.main([*ARGUMENTS, *PRODUCTION]) == 0
    (app,) = clouds.apps
    assert app["displayName"] == "call-keeper-management"
    assert ["--management-app-id", app["appId"]] == grants[0][-2:]
    (env,) = clouds.environments_given
    assert (env["MANAGEMENT_APP_ID"], env["MANAGEMENT_TENANT_ID"]) == (app["appId"], TENANT)
    assert shown == PUBLISHED


def test_an_app_registration_in_the_environment_is_used_by_az_and_by_the_grant(
    clouds: Clouds, grants: list[list[str]], shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANAGEMENT_APP_ID", MANAGEMENT)
    assert deploy.main([*ARGUMENTS, *PRODUCTION]) == 0
    assert clouds.apps == []
    assert grants[0][-2:] == ["--management-app-id", MANAGEMENT]
    assert shown == PUBLISHED


def test_an_app_registration_that_cannot_be_created_can_be_named(
    clouds: Clouds, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.broken = {"ad app create": "Insufficient privileges to complete the operation."}
    assert deploy.main([*ARGUMENTS, *PRODUCTION]) == 1
    assert "To use an existing one: --variable MANAGEMENT_APP_ID=…" in capsys.readouterr().err.splitlines()[0]
    assert shown == []


@pytest.mark.parametrize("name", ["ALERT_MAIL", "PATH"])
def test_a_variable_that_the_parameter_file_does_not_read_is_refused(
    clouds: Clouds, shown: list[str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert deploy.main([*ARGUMENTS, *PRODUCTION, "--variable", f"{name}=x"]) == 1
    printed = capsys.readouterr().err.splitlines()[0]
    assert f"production.bicepparam does not read {name}. It reads ALERT_EMAIL, ALLOWED_TENANT_IDS" in printed
    assert (clouds.calls, shown) == ([], [])


def test_azd_stops_at_once_if_the_deployment_would_fail(
    clouds: Clouds, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert azd.main(["preprovision"]) == 0
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "55555555-0000-4000-8000-000000000001")
    assert azd.main(["preprovision"]) == 1
    assert "az account set --subscription 55555555-0000-4000-8000-000000000001" in capsys.readouterr().err
    monkeypatch.delenv("GRAPH_APP_ID")
    assert azd.main(["preprovision"]) == 1
    assert 'azd env set GRAPH_APP_ID "' in capsys.readouterr().err
    assert clouds.groups == {}


def test_azd_asks_for_the_subscription_at_its_first_run(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    assert azd.main(["preprovision"]) == 0
    assert len(clouds.providers) > 2


def test_azd_grants_after_provisioning_and_continues_if_it_is_refused(
    clouds: Clouds, directory: FakeDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    directory.broken["POST /applications/app-bot/federatedIdentityCredentials"] = REFUSED
    assert azd.main(["postprovision"]) == 0
    assert f"--identity-principal-id {IDENTITY} --grant-to bot" in capsys.readouterr().out
    directory.broken.clear()
    assert azd.main(["postprovision"]) == 0
    assert len(directory.lists["/applications/app-bot/federatedIdentityCredentials"]) == 1
    assert clouds.calls


@pytest.mark.usefixtures("clouds")
def test_azd_publishes_the_proved_package(shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert azd.main(["postdeploy"]) == 0
    assert shown == PUBLISHED
    printed = capsys.readouterr().out
    assert "note:  app func-call-keeper, group rg-call-keeper, API https://app/api\n" in printed, (
        "a first call needs them"
    )
    assert WEBHOOK in printed


def test_azd_without_a_deployment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AZURE_RESOURCE_GROUP", raising=False)
    assert azd.main(["postdeploy"]) == 1
    assert capsys.readouterr().err == "failed: azd has no AZURE_RESOURCE_GROUP: run azd provision first\n"


def test_the_hooks_read_outputs_that_the_template_has() -> None:
    template = (commands.ROOT / "infra" / "main.azd.bicep").read_text(encoding="utf-8")
    parameters = json.loads((commands.ROOT / "infra" / "main.azd.parameters.json").read_text(encoding="utf-8"))
    outputs = [line.split()[1] for line in template.splitlines() if line.startswith("output ")]
    assert set(OF_AZD) - {"AZURE_SUBSCRIPTION_ID", "GRAPH_APP_ID"} <= set(outputs)
    assert parameters["parameters"]["graphAppId"]["value"] == "${GRAPH_APP_ID}"


@pytest.mark.parametrize(
    "arguments",
    [["--bot-app-id", "bot"], ["--variable", "alert"], ["--parameters", "infra/params/none.bicepparam"]],
    ids=["an id that is no GUID", "a variable without a value", "a file that does not exist"],
)
def test_invalid_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        deploy.main([*ARGUMENTS, *arguments])
