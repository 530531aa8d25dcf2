"""Parameters that the templates refuse themselves, before Azure does. The templates are evaluated without Azure."""

import json
import re
from pathlib import Path

import pytest

from shared.config.settings import load_settings
from tests.infra.evaluate import Evaluation, Refused, Value, of_parameters
from tests.infra.policy import value_at
from tools.bicep_check.program import Program
from tools.bicep_check.tree import Object

PROGRAM = Program.of_folder(Path(__file__).parents[2] / "infra")
MAIN = PROGRAM.template("main.bicep")
BOT, MANAGEMENT, TENANT = (f"{digit * 8}-1111-1111-1111-111111111111" for digit in "123")
ENVIRONMENT = {
    "GRAPH_APP_ID": BOT,
    "MANAGEMENT_APP_ID": MANAGEMENT,
    "MANAGEMENT_TENANT_ID": TENANT,
    "ALLOWED_TENANT_IDS": f"{TENANT},{BOT}",
    "ALERT_EMAIL": "operators@contoso.com",
    "BOT_WEBHOOK_URL": "https://bot.contoso.com/api/calls",
}
FILES = PROGRAM.names(".bicepparam")


def deployed(main: Evaluation) -> dict[str, Value]:
    """Return the settings, their references and the always-ready instances that the function app gets."""
    body = MAIN.symbols["functionApp"].body
    names = ("settings", "keyVaultReferences", "alwaysReadyHttp", "alwaysReadyTimer")
    return {name: main.value(value_at(MAIN, body, f"params.{name}")) for name in names}


def with_parameters(**given: Value) -> Evaluation:
    return Evaluation(MAIN, {"name": "trial", "graphAppId": BOT, **given})


@pytest.mark.parametrize("path", FILES)
def test_a_parameter_file_deploys_the_values_of_the_environment(path: str) -> None:
    settings = deployed(of_parameters(PROGRAM, path, ENVIRONMENT))["settings"]
    assert isinstance(settings, dict)
    assert settings["GRAPH_APP_ID"] == BOT
    audiences = MANAGEMENT if "MANAGEMENT_APP_ID" in PROGRAM.texts[path] else BOT
    assert audiences in str(settings["MANAGEMENT_AUDIENCE"]).split(",")


def refusals(main: Evaluation) -> list[str]:
    """Return the template's refusals, with each setting evaluated on its own."""
    settings = MAIN.symbols["settings"].value
    assert isinstance(settings, Object)
    messages = []
    for setting in settings.properties:
        try:
            main.value(setting.value)
        except Refused as refused:
            messages.append(str(refused))
    return messages


def required() -> list[tuple[str, str]]:
    """Return each parameter file with each variable of a required id that it reads."""
    pattern = r"readEnvironmentVariable\('(\w+)', '00000000-"
    return [(path, name) for path in FILES for name in sorted(set(re.findall(pattern, PROGRAM.texts[path])))]


@pytest.mark.parametrize(("path", "name"), required())
def test_a_parameter_file_is_refused_if_a_variable_is_unset_and_the_message_names_it(path: str, name: str) -> None:
    unset = {variable: value for variable, value in ENVIRONMENT.items() if variable != name}
    messages = refusals(of_parameters(PROGRAM, path, unset))
    assert messages
    assert [
        text for text in messages if not text.endswith(f": set {name}")
    ] == []  # Azure may evaluate any setting first


@pytest.mark.parametrize("path", [path for path, name in required() if name == "MANAGEMENT_APP_ID"])
def test_an_empty_variable_is_refused_instead_of_deploying_an_empty_audience(path: str) -> None:
    """In a workflow, an unset variable of GitHub is an empty string. Other empty ids are refused by @minLength."""
    with pytest.raises(Refused, match=r": set MANAGEMENT_APP_ID$"):
        deployed(of_parameters(PROGRAM, path, {**ENVIRONMENT, "MANAGEMENT_APP_ID": ""}))


def test_each_parameter_file_requires_the_id_of_the_bot() -> None:
    assert {path for path, name in required() if name == "GRAPH_APP_ID"} == set(FILES)


@pytest.mark.parametrize("name", ["alwaysReadyHttp", "alwaysReadyTimer"])
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("zones", [False, True], ids=["without zones", "with zones"])
def test_with_zones_one_always_ready_instance_is_refused(name: str, count: int, *, zones: bool) -> None:
    """Microsoft, flex-consumption-plan: at least two per function or group if zone redundancy is enabled."""
    given: dict[str, Value] = {"zoneRedundant": zones, name: count}
    if zones and count == 1:
        with pytest.raises(Refused, match=f"With zoneRedundant .*: set {name} to 0"):
            deployed(with_parameters(**given))
    else:
        assert deployed(with_parameters(**given))[name] == count


def test_two_always_ready_instances_are_within_the_range_of_the_params() -> None:
    for name in ("alwaysReadyHttp", "alwaysReadyTimer"):
        most = MAIN.symbols[name].decorator("maxValue")
        assert most is not None
        assert with_parameters().value(most.arguments[0]) in range(2, 101)


BOT_TARGET: dict[str, Value] = {"name": "bot", "url": "https://bot.contoso.com/api/calls", "format": "graph"}
CRM: dict[str, Value] = {"name": "crm", "url": "https://crm.contoso.com/hook", "format": "events"}
VAULT = "https://contoso.vault.azure.net/secrets/crm"


def relay(*targets: Value, **references: Value) -> dict[str, Value]:
    """Return the settings of the relay for these targets. The others of the app are in each deployment."""
    settings = deployed(with_parameters(relayTargets=list(targets), keyVaultReferences=references))["settings"]
    assert isinstance(settings, dict)
    return {name: value for name, value in settings.items() if name.startswith("RELAY_")}


def test_without_targets_the_app_gets_no_setting_of_the_relay() -> None:
    assert relay() == {}


def test_the_app_gets_the_targets_as_json() -> None:
    signed = {**CRM, "secretSetting": "CRM_SECRET"}
    settings = relay(BOT_TARGET, signed, CRM_SECRET=VAULT)
    assert json.loads(str(settings["RELAY_TARGETS"])) == [BOT_TARGET, signed]
    needed = {
        "GRAPH_APP_ID": BOT,
        "CALLS_STORAGE": "UseDevelopmentStorage=true",
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    }
    secret = {"CRM_SECRET": f"whsec_{'A' * 32}"}
    read = load_settings({name: str(value) for name, value in settings.items()} | needed | secret)
    assert read.relay_fault is None
    assert [target.name for target in read.relay_targets] == ["bot", "crm"]


def test_the_file_of_several_bots_relays_to_the_bot_of_the_environment_if_there_is_one() -> None:
    def targets(**environment: str) -> Value:
        given = of_parameters(PROGRAM, "params/several-bots.bicepparam", ENVIRONMENT | environment)
        return given.of("relayTargets")

    assert targets() == [BOT_TARGET]
    assert targets(BOT_WEBHOOK_URL="") == []


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        pytest.param([BOT_TARGET, {**CRM, "name": "bot", "audience": BOT}], "two have one name", id="one name twice"),
        pytest.param([{**BOT_TARGET, "url": "http://bot"}], "the url of bot does not begin with https://", id="http"),
        pytest.param([CRM], "crm gets events, so it needs audience or secretSetting", id="events without a proof"),
        pytest.param(
            [{**CRM, "secretSetting": "OTHER"}],
            "the secretSetting of crm is not in keyVaultReferences",
            id="a setting that is not deployed",
        ),
    ],
)
def test_targets_that_the_app_would_refuse_are_refused(targets: list[Value], fault: str) -> None:
    with pytest.raises(Refused, match=f"^relayTargets: {fault}$"):
        relay(*targets, CRM_SECRET=VAULT)


def test_a_secret_in_place_of_its_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Refused, match=r"^keyVaultReferences: CRM_SECRET has no https address") as refused:
        relay(CRM_SECRET="whsec_aGVsbG8=")
    assert "whsec" not in str(refused.value)
