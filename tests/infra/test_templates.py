"""Checks of our templates against published types, the app, the project's rules and the documents."""

import json
import re
from pathlib import Path

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Parser

from shared.services import TABLE_NAME
from shared.storage.relay_queue import RELAY_QUEUE_NAME
from shared.storage.wakeup_queue import QUEUE_NAME
from tests.infra.evaluate import Evaluation
from tests.infra.facts import SUPPRESSED
from tests.infra.policy import check_policy, deployed, literal_value, templates, value_at
from tools.bicep_check.check import check
from tools.bicep_check.program import Program
from tools.bicep_check.tree import Condition, Declaration, Name, Node, Object, PropertyAccess, String, walk

ROOT = Path(__file__).parents[2]
PROGRAM = Program.of_folder(ROOT / "infra")
MAIN = PROGRAM.template("main.bicep")
PARAMS = ("government", "minimal", "production", "several-bots")


def test_the_bicep_checker_finds_nothing() -> None:
    assert [str(found) for found in check(PROGRAM).findings] == []


def test_only_documented_properties_without_a_published_type_are_suppressed() -> None:
    suppressed = {
        (found.path, name) for found in check(PROGRAM).suppressed for name in re.findall("'(.+?)'", found.message)
    }
    assert suppressed == SUPPRESSED


def test_the_templates_follow_the_projects_rules() -> None:
    assert [str(found) for found in check_policy(PROGRAM)] == []


@pytest.mark.parametrize("path", PROGRAM.names(".bicep"))
def test_a_second_parser_finds_the_same_declarations(path: str) -> None:
    """tree-sitter accepts more than the compiler, but it shows that our parser reads the same Bicep as others do."""
    root = Parser(Language(tree_sitter_bicep.language())).parse(PROGRAM.texts[path].encode()).root_node
    assert not root.has_error
    found = [
        (child.type.partition("_")[0], next(part.text for part in child.children if part.type == "identifier"))
        for child in root.children
        if child.type in {f"{kind}_declaration" for kind in ("parameter", "variable", "resource", "module", "output")}
    ]
    kinds = {"param": "parameter", "var": "variable"}
    ours = [
        (kinds.get(declared.keyword, declared.keyword), declared.name.encode())
        for declared in PROGRAM.template(path).declarations
        if declared.keyword in ("param", "var", "resource", "module", "output")
    ]
    assert found == ours


def test_the_parameter_files_are_those_that_the_tests_know() -> None:
    assert PROGRAM.names(".bicepparam") == [f"params/{name}.bicepparam" for name in PARAMS]


def test_each_module_is_called_and_each_of_its_outputs_is_used() -> None:
    called, read = {"main.bicep", "main.azd.bicep"}, set()
    for template in templates(PROGRAM):
        modules = {module.name: PROGRAM.resolve(template.path, module.path) for module in template.of("module")}
        called |= set(modules.values())
        read |= {(modules[name], output) for node in template.nodes for name, output in _outputs_read(node, modules)}
    given = {(t.path, output.name) for t in templates(PROGRAM) for output in t.of("output") if "/" in t.path}
    assert called == set(PROGRAM.names(".bicep"))
    assert given - read == set()


def _outputs_read(node: Node, modules: dict[str, str]) -> list[tuple[str, str]]:
    match node:
        case PropertyAccess(name=output, target=PropertyAccess(name="outputs", target=Name(name=name))) if (
            name in modules
        ):
            return [(name, output)]
        case _:
            return []


def test_each_output_of_the_deployment_is_documented() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert [output.name for output in MAIN.of("output") if output.name not in text] == []


def test_the_azd_template_returns_the_outputs_of_the_main_template() -> None:
    entry = PROGRAM.template("main.azd.bicep")
    read = {
        node.name for output in entry.of("output") for node in walk(output.value) if isinstance(node, PropertyAccess)
    }
    assert {output.name for output in MAIN.of("output")} <= read


def test_the_azd_template_passes_on_each_of_its_params() -> None:
    entry = PROGRAM.template("main.azd.bicep")
    (module,) = entry.of("module")
    passed = {node.name for node in walk(value_at(entry, module.body, "params")) if isinstance(node, Name)}
    assert {param.name for param in entry.of("param")} <= passed


def test_the_azd_parameter_file_sets_each_param_of_the_azd_template() -> None:
    given = json.loads(PROGRAM.texts["main.azd.parameters.json"])["parameters"]
    assert given.keys() == {param.name for param in PROGRAM.template("main.azd.bicep").of("param")}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        pytest.param("ab", "ab", id="short"),
        pytest.param("my_dev.(2)", "my-dev--2-", id="other characters"),
        pytest.param("production-of-the-bots", "production-of", id="too long"),
    ],
)
def test_the_name_of_an_azd_environment_becomes_a_valid_name_of_a_function_app(environment: str, name: str) -> None:
    """azd allows letters, digits, hyphens and four other characters in the name of an environment."""
    entry = PROGRAM.template("main.azd.bicep")
    (module,) = entry.of("module")
    given = value_at(entry, module.body, "params.name")
    assert Evaluation(entry, {"environmentName": environment}).value(given) == name


def test_private_dns_zones_have_fixed_names_so_each_deployment_needs_its_own_resource_group() -> None:
    assert "'privatelink.${service}.${environment().suffixes.storage}'" in PROGRAM.texts["modules/network.bicep"]
    assert "with privateNetwork in a resource group each" in PROGRAM.texts["params/several-bots.bicepparam"]


def _module(name: str) -> Declaration:
    return MAIN.symbols[name]


def test_the_tables_and_queues_of_the_app_are_deployed() -> None:
    queues = {queue for name in (QUEUE_NAME, RELAY_QUEUE_NAME) for queue in (name, f"{name}-poison")}
    for param, expected in (("tables", {TABLE_NAME}), ("queues", queues)):
        deployed_names = value_at(MAIN, _module("callsStorage").body, f"params.{param}")
        assert {literal_value(item) for item in walk(deployed_names) if isinstance(item, String)} == expected


def test_the_always_ready_function_exists() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "functions").glob("*.py")]
    names = {name for source in sources for name in re.findall(r"^async def (\w+)", source, re.MULTILINE)}
    texts = [
        node.literal or "" for template in templates(PROGRAM) for node in template.nodes if isinstance(node, String)
    ]
    ready = {text.partition(":")[2] for text in texts if text.startswith("function:")}
    assert ready == {"keep_alive_timer"}
    assert ready <= names


def test_the_site_has_a_diagnostic_setting_only_on_request() -> None:
    """Microsoft, flex-consumption-plan, Considerations: diagnostic settings are not supported."""
    given = value_at(MAIN, _module("functionApp").body, "params.diagnostics")
    assert isinstance(given, Name)
    assert literal_value(MAIN.symbols[given.name].value) is False
    scopes = {}
    for template, declared in deployed(PROGRAM, "Microsoft.Insights/diagnosticSettings"):
        scope = value_at(template, declared.body, "scope")
        assert isinstance(scope, Name)
        scopes[template.symbols[scope.name].path.partition("@")[0]] = declared.value
    assert scopes.keys() == {"Microsoft.Web/sites", "Microsoft.Storage/storageAccounts"}
    condition = scopes["Microsoft.Web/sites"]
    assert isinstance(condition, Condition)
    assert isinstance(condition.condition, Name)
    assert condition.condition.name == "diagnostics"
    assert isinstance(scopes["Microsoft.Storage/storageAccounts"], Object)  # supported there, so without a condition
