"""The templates give the app the settings that it needs, with its own defaults."""

import re
from pathlib import Path

import pytest

from release.flex import HARMFUL_SETTINGS
from shared.config.settings import Settings, load_settings, setting_name
from tests.infra.app_settings import app_settings, check_settings
from tests.infra.facts import NOT_DEPLOYED, PLATFORM_SETTINGS
from tests.infra.policy import literal_value
from tools.bicep_check.program import Program
from tools.bicep_check.tree import Array, Name, Node, String, walk

ROOT = Path(__file__).parents[2]
PROGRAM = Program.of_folder(ROOT / "infra")
MAIN = PROGRAM.template("main.bicep")
NEEDED = {
    "GRAPH_APP_ID": "00000000-0000-0000-0000-000000000000",
    "CALLS_STORAGE": "UseDevelopmentStorage=true",
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
}


def test_the_app_gets_its_settings_and_those_of_the_platform_and_no_others() -> None:
    assert [str(found) for found in check_settings(PROGRAM)] == []


def test_the_tables_of_settings_do_not_contradict_each_other() -> None:
    own = {setting_name(field) for field in Settings.model_fields}
    assert NOT_DEPLOYED.keys() <= own
    assert not PLATFORM_SETTINGS.keys() & own
    assert not PLATFORM_SETTINGS.keys() & HARMFUL_SETTINGS.keys()


def test_the_settings_that_bindings_name_are_deployed() -> None:
    given = {setting.name for setting in app_settings(PROGRAM)}
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "functions").glob("*.py"))
    named = set(re.findall(r'"%(\w+)%"', sources))
    connections = set(re.findall(r'connection="(\w+)"', sources))
    assert named == {"KEEP_ALIVE_SCHEDULE"}
    assert connections == {"CALLS_STORAGE"}
    assert named <= given
    parts = ("credential", "clientId", "queueServiceUri")
    assert {f"{connection}__{part}" for connection in connections for part in parts} <= given


def _default(name: str) -> Node | None:
    return next((param.value for param in MAIN.of("param") if param.name == name), None)


def _as_setting(node: Node | None) -> str | None:
    """Return the text of a setting if its param has a literal default, else None."""
    for inner in walk(node):
        if isinstance(inner, Name):
            default = _default(inner.name)
            if isinstance(default, Array) and not default.items:
                return ""
            return None if literal_value(default) is None else str(literal_value(default))
    return None


def test_the_defaults_of_the_template_are_those_of_the_app() -> None:
    """Except GRAPH_CREDENTIAL: on a laptop no bot trusts the identity."""
    values = {setting.name: _as_setting(setting.given.value) for setting in app_settings(PROGRAM)}
    fields = {setting_name(field): field for field in Settings.model_fields}
    given = {
        name: value
        for name, value in values.items()
        if value is not None and name in fields.keys() - {"GRAPH_CREDENTIAL"}
    }
    deployed, default = load_settings({**NEEDED, **given}), load_settings(NEEDED)
    assert len(given) > 10
    for name in given:
        assert getattr(deployed, fields[name]) == getattr(default, fields[name]), name


@pytest.mark.parametrize("name", ["GRAPH_CLOUD", "GRAPH_CREDENTIAL", "GRAPH_RECORD_API"])
def test_the_app_accepts_each_value_that_a_param_allows(name: str) -> None:
    (setting,) = [setting for setting in app_settings(PROGRAM) if setting.name == name]
    assert isinstance(setting.given.value, Name)
    allowed = MAIN.symbols[setting.given.value.name].decorator("allowed")
    assert allowed is not None
    values = [literal_value(item) for item in walk(allowed.arguments[0]) if isinstance(item, String)]
    assert len(values) > 1
    for value in values:
        load_settings({**NEEDED, name: str(value)})


def test_an_unset_variable_has_no_real_address_or_id_as_default() -> None:
    for path in PROGRAM.names(".bicepparam"):
        text = PROGRAM.texts[path]
        assert "@example" not in text
        assert len(re.findall(r"readEnvironmentVariable\('ALERT_EMAIL', ''\)", text)) in {0, 2}
        assert "alertEmails" not in text or "param alertEmails = empty(" in text
        unset = set(re.findall(r"readEnvironmentVariable\('(?:GRAPH_APP|MANAGEMENT)\w*', '([^']*)'\)", text))
        assert unset <= {"00000000-0000-0000-0000-000000000000", ""}
