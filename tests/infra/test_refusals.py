"""Parameters that the templates refuse themselves, before Azure does. The templates are evaluated without Azure."""

import re
from pathlib import Path

import pytest

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
}
FILES = PROGRAM.names(".bicepparam")


def deployed(main: Evaluation) -> dict[str, Value]:
    """Return the settings and the numbers of always-ready instances that the template passes to the function app."""
    body = MAIN.symbols["functionApp"].body
    names = ("settings", "alwaysReadyHttp", "alwaysReadyTimer")
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
