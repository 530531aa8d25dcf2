"""Mutations of the templates: each removal or change of something that matters must make a check fail."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release.flex import HARMFUL_SETTINGS
from tests.infra.app_settings import app_settings, check_settings
from tests.infra.facts import MUSTS, NEWEST_VERSIONS, OLD_VERSIONS, ROLES
from tests.infra.flex import FLEX_REFUSES
from tests.infra.policy import check_policy, deployed, templates, value_at
from tools.bicep_check.check import check
from tools.bicep_check.program import Program
from tools.bicep_check.tokens import BicepSyntaxError

PROGRAM = Program.of_folder(Path(__file__).parents[2] / "infra")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of one file: its new text, and what was changed."""

    path: str
    text: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def is_noticed(mutation: Mutation) -> bool:
    """Return True if a check reports anything in the changed templates."""
    assert mutation.text != PROGRAM.texts[mutation.path], "the mutation changes nothing"
    program = PROGRAM.changed(mutation.path, mutation.text)
    try:
        return bool(check(program).findings or check_policy(program) or check_settings(program))
    except BicepSyntaxError:
        return True


def without(path: str, line: int, key: str) -> Mutation:
    """Return a file without the property that begins on a line, with all lines of the property."""
    lines = PROGRAM.texts[path].splitlines(keepends=True)
    own = lines[line - 1]
    if re.match(rf"\s*'?{re.escape(key)}'?:", own):
        indent = len(own) - len(own.lstrip())
        opens = own.rstrip().endswith(("{", "[", "("))
        end = next(below for below in range(line, len(lines)) if _closes(lines[below], indent)) + 1 if opens else line
        lines[line - 1 : end] = []
    else:  # beside other properties on one line
        lines[line - 1] = re.sub(rf"{key}:\s*(\{{[^}}]*\}}|[^,}}\n]+?)(,\s*|\s*(?=\}}))", "", own)
    return Mutation(path, "".join(lines), f"without {key}, line {line}")


def _closes(line: str, indent: int) -> bool:
    return len(line) - len(line.lstrip()) == indent and line.strip()[:1] in ("}", "]", ")")


def properties_that_matter() -> Iterator[Mutation]:
    for must in MUSTS:
        for template, declared in deployed(PROGRAM, must.resource):
            node = value_at(template, declared.body, must.path)
            assert node is not None, must
            yield without(template.path, node.line, must.path.rpartition(".")[2])


def settings() -> Iterator[Mutation]:
    for setting in app_settings(PROGRAM):
        yield without(setting.template.path, setting.given.line, setting.name)


def roles() -> Iterator[Mutation]:
    """Remove each role from its list, and the role that has its own resource from the file."""
    path = "modules/roles.bicep"
    text = PROGRAM.texts[path]
    for found in re.finditer(r"^var \w+Roles = \[(.+)\]$", text, re.MULTILINE):
        names = found[1].split(", ")
        for name in names:
            rest = ", ".join(other for other in names if other != name)
            yield Mutation(path, text.replace(found[1], rest), f"without the role {name}")
    single = re.search(r"^resource telemetryAssignment .*?^}\n", text, re.MULTILINE | re.DOTALL)
    assert single is not None
    yield Mutation(path, text.replace(single[0], ""), "without the role that has its own resource")


def publishing() -> Iterator[Mutation]:
    path = "modules/function-app.bicep"
    text = PROGRAM.texts[path]
    for found in re.finditer(r"^  resource \w+ 'basicPublishing.*?^  }\n", text, re.MULTILINE | re.DOTALL):
        yield Mutation(path, text.replace(found[0], ""), found[0].splitlines()[0].strip())


def outputs_and_params() -> Iterator[Mutation]:
    """Rename each param, and each output of a module, without renaming its uses."""
    for path in PROGRAM.names(".bicep"):
        text, template = PROGRAM.texts[path], PROGRAM.template(path)
        for declared in (*template.of("param"), *(template.of("output") if path.startswith("modules/") else ())):
            old = f"{declared.keyword} {declared.name}"
            yield Mutation(path, re.sub(rf"^{old}\b", f"{old}X", text, flags=re.MULTILINE), f"{old} renamed")


def swap(path: str, old: str, new: str) -> Mutation:
    text = PROGRAM.texts[path]
    assert re.search(old, text), f"{old} is not in {path}"
    return Mutation(path, re.sub(old, new, text, count=1), f"{new or 'nothing'} instead of {old}")


MODULES = ("function-app", "storage", "monitoring", "network")
APP, STORAGE, MONITORING, NETWORK = (f"modules/{name}.bicep" for name in MODULES)
CHANGES = (
    swap(APP, "httpsOnly:", "httpOnly:"),
    swap(APP, "httpsOnly: true", "httpsOnly: 'true'"),
    swap(APP, "httpsOnly: true", "httpsOnly: false"),
    swap(APP, "'UserAssigned'", "'SystemAssigned'"),
    swap(APP, "'FC1'", "'Y1'"),
    swap(APP, "type: 'blobContainer'", "type: 'blobStorage'"),
    swap(APP, "'1.2'", "'1.0'"),
    swap(APP, "'3.13'", "3.13"),
    swap(APP, "perInstanceConcurrency: httpConcurrency", "perInstanceConcurrency: '16'"),
    swap(APP, "perInstanceConcurrency", "perInstanceConcurency"),
    swap(APP, "maximumInstanceCount: maximumInstanceCount", "maximumInstanceCount: planName"),
    swap(APP, "serverFarmId: plan.id", "serverFarmId: plans.id"),
    swap(APP, "defaultHostName", "hostName"),
    swap(APP, "Microsoft.Web/sites@2025-03-01", "Microsoft.Web/sites@2023-12-01"),
    swap(APP, r"union\(settings, ", "union("),
    swap(APP, "GRAPH|AZURE_CLIENT_ID:", "FUNCTIONS_WORKER_RUNTIME: 'python'\n  AZURE_CLIENT_ID:"),
    swap(STORAGE, "allowSharedKeyAccess: false", "allowSharedKeyAccess: true"),
    swap(STORAGE, "'StorageV2'", "'StorageV3'"),
    swap(STORAGE, "'TLS1_2'", "'TLS1_1'"),
    swap(STORAGE, r"  sku: \{ name: sku \}\n", ""),
    swap(STORAGE, "parent: account\n", "parent: containers\n"),
    swap(STORAGE, "days: 7", "days: 700"),
    swap(STORAGE, "param containers string", "param containers int"),
    swap(MONITORING, "severity: rule.severity", "severity: 'high'"),
    swap(MONITORING, "rule.query", "rule.querry"),
    swap(MONITORING, "queries/no-sweep.kql", "queries/no-sweeps.kql"),
    swap(MONITORING, "'GreaterThan'", "'More'"),
    swap(MONITORING, "#disable-next-line use-recent-api-versions\n", ""),
    swap(MONITORING, "#disable-next-line use-recent-api-versions\n", r"\g<0>\n"),
    swap(STORAGE, "resource lock", "// Because.\n#disable-next-line use-recent-api-versions\nresource lock"),
    swap(STORAGE, "#disable-next-line use-recent-api-versions", "#disable-next-line use-recent-api-version"),
    swap("main.bicep", "params: {\n    name: identityName\n", "params: {\n"),
    swap("main.bicep", "identity.outputs.clientId", "identity.outputs.clientID"),
    swap("main.bicep", "uniqueString", "uniqueText"),
    swap("main.bicep", r"@maxLength\(13\)", "@maxLength(23)"),
    swap("main.bicep", "'sthost", "'storagehost-of-the-app"),
    swap("main.azd.bicep", "graphAppId: graphAppId\n", ""),
    swap("main.azd.bicep", "  scope: group\n", ""),
    swap("modules/roles.bicep", "974c5e8b", "974c5e8c"),
    swap("modules/roles.bicep", r"name: guid\(component.id", "name: guid(component.properties.AppId"),
    swap("params/minimal.bicepparam", "param name", "param nane"),
    swap("params/government.bicepparam", "'usgov-l4'", "'usgov-l3'"),
    swap("params/several-bots.bicepparam", "format: 'graph'", "format: 'graphs'"),
    swap("params/several-bots.bicepparam", "url: read", "uri: read"),
    swap("main.bicep", r"secretSetting: string\?", "secretSettings: string?"),
    swap(APP, "secretSettings, hostSettings", "secretSetting, hostSettings"),
)


@pytest.mark.parametrize(
    "mutation",
    [*properties_that_matter(), *settings(), *roles(), *publishing(), *outputs_and_params()],
    ids=str,
)
def test_a_removal_is_noticed(mutation: Mutation) -> None:
    assert is_noticed(mutation)


@pytest.mark.parametrize("mutation", CHANGES, ids=str)
def test_a_change_is_noticed(mutation: Mutation) -> None:
    assert is_noticed(mutation)


def added(before: str, line: str) -> Program:
    """Return the program with one more line in the function app's template, above another line."""
    text = PROGRAM.texts[APP]
    assert text.count(before) == 1, f"{before} is not in the file exactly once"
    return PROGRAM.changed(APP, text.replace(before, f"{line}\n{before}"))


@pytest.mark.parametrize("path", FLEX_REFUSES)
@pytest.mark.parametrize("spelling", [str, str.upper], ids=["as documented", "in upper case"])
def test_a_property_that_flex_consumption_refuses_is_named(path: str, spelling: Callable[[str], str]) -> None:
    parent, _, name = path.rpartition(".")
    before = {"properties": "    httpsOnly: true", "properties.siteConfig": "      minTlsVersion: '1.2'"}[parent]
    found = [str(finding) for finding in check_policy(added(before, f"{spelling(name)}: null"))]
    assert any(f"{spelling(name)} is refused by Flex Consumption" in finding for finding in found), found


@pytest.mark.parametrize(
    ("before", "line", "expected"),
    [
        pytest.param(
            "      minTlsVersion: '1.2'",
            "autoHealEnabled: true",
            "autoHealEnabled is not in FLEX_ACCEPTS",
            id="a property of siteConfig",
        ),
        pytest.param(
            "      minTlsVersion: '1.2'",
            "...settings",
            "write out app.properties.siteConfig",
            id="a spread in siteConfig",
        ),
        pytest.param("    httpsOnly: true", "...settings", "write out app.properties,", id="a spread in properties"),
    ],
)
def test_a_property_without_a_known_answer_of_flex_consumption_is_named(before: str, line: str, expected: str) -> None:
    assert any(expected in finding.message for finding in check_policy(added(before, line)))


@pytest.mark.parametrize("name", HARMFUL_SETTINGS)
@pytest.mark.parametrize("spelling", [str, str.lower], ids=["as documented", "in lower case"])
def test_a_setting_that_flex_consumption_refuses_is_named(name: str, spelling: Callable[[str], str]) -> None:
    found = check_settings(added("  AZURE_CLIENT_ID: identityClientId", f"{spelling(name)}: 'x'"))
    assert any(f"'{spelling(name)}' is harmful on Flex Consumption" in finding.message for finding in found)


@pytest.mark.parametrize(
    "mutation",
    [
        swap(NETWORK, "networkSecurityGroups@2025-05-01", "networkSecurityGroups@2024-06-01"),
        swap(MONITORING, "scheduledQueryRules@2023-12-01", "scheduledQueryRules@2024-01-01-preview"),
        swap(STORAGE, "locks@2020-05-01", "locks@2021-05-01"),
    ],
    ids=str,
)
def test_an_old_version_that_is_not_accepted_is_named(mutation: Mutation) -> None:
    """The compiler does not fail for it: use-recent-api-versions is set to info."""
    found = [finding.message for finding in check_policy(PROGRAM.changed(mutation.path, mutation.text))]
    assert [message for message in found if "is old, and neither the newest nor accepted" in message], found


def test_each_accepted_old_version_is_used() -> None:
    used = {template.resource_type(found) for template in templates(PROGRAM) for found in template.resources}
    accepted = {f"{resource}@{old.version}" for resource, old in OLD_VERSIONS.items()}
    assert accepted | {f"{resource}@{version}" for resource, version in NEWEST_VERSIONS.items()} <= used


def test_there_is_one_mutation_for_each_role() -> None:
    assert len(list(roles())) == len(ROLES)
