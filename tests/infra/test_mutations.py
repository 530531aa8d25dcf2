"""The checks are worth something: what matters, taken out of the templates or bent, makes them fail."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.flex import HARMFUL_SETTINGS
from tests.infra.app_settings import app_settings, check_settings
from tests.infra.facts import MUSTS, NEWEST_VERSIONS, OLD_VERSIONS, ROLES
from tests.infra.flex import FLEX_REFUSES
from tests.infra.house import at, deployed, inspect, templates
from tools.bicep_check.check import check
from tools.bicep_check.program import Program
from tools.bicep_check.tokens import BicepSyntaxError

PROGRAM = Program.of_folder(Path(__file__).parents[2] / "infra")


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of one file."""

    path: str
    text: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def noticed(mutation: Mutation) -> bool:
    """Whether any check speaks of the changed program."""
    assert mutation.text != PROGRAM.texts[mutation.path], "the mutation changes nothing"
    program = PROGRAM.changed(mutation.path, mutation.text)
    try:
        return bool(check(program).findings or inspect(program) or check_settings(program))
    except BicepSyntaxError:
        return True


def without(path: str, line: int, key: str) -> Mutation:
    """A file without the property that begins on a line: all its lines if it has several."""
    lines = PROGRAM.texts[path].splitlines(keepends=True)
    own = lines[line - 1]
    if re.match(rf"\s*'?{re.escape(key)}'?:", own):
        indent = len(own) - len(own.lstrip())
        opens = own.rstrip().endswith(("{", "[", "("))
        end = next(at for at in range(line, len(lines)) if _closes(lines[at], indent)) + 1 if opens else line
        lines[line - 1 : end] = []
    else:  # among others on its line
        lines[line - 1] = re.sub(rf"{key}:\s*(\{{[^}}]*\}}|[^,}}\n]+?)(,\s*|\s*(?=\}}))", "", own)
    return Mutation(path, "".join(lines), f"without {key}, line {line}")


def _closes(line: str, indent: int) -> bool:
    return len(line) - len(line.lstrip()) == indent and line.strip()[:1] in ("}", "]", ")")


def properties_that_matter() -> Iterator[Mutation]:
    for must in MUSTS:
        for template, declared in deployed(PROGRAM, must.resource):
            node = at(template, declared.body, must.path)
            assert node is not None, must
            yield without(template.path, node.line, must.path.rpartition(".")[2])


def settings() -> Iterator[Mutation]:
    for setting in app_settings(PROGRAM):
        yield without(setting.template.path, setting.given.line, setting.name)


def roles() -> Iterator[Mutation]:
    """Each role out of its list, and the one that has a resource of its own out of the file."""
    path = "modules/roles.bicep"
    text = PROGRAM.texts[path]
    for found in re.finditer(r"^var \w+Roles = \[(.+)\]$", text, re.MULTILINE):
        names = found[1].split(", ")
        for name in names:
            rest = ", ".join(other for other in names if other != name)
            yield Mutation(path, text.replace(found[1], rest), f"without the role {name}")
    single = re.search(r"^resource telemetryAssignment .*?^}\n", text, re.MULTILINE | re.DOTALL)
    assert single is not None
    yield Mutation(path, text.replace(single[0], ""), "without the role that has a resource of its own")


def publishing() -> Iterator[Mutation]:
    path = "modules/function-app.bicep"
    text = PROGRAM.texts[path]
    for found in re.finditer(r"^  resource \w+ 'basicPublishing.*?^  }\n", text, re.MULTILINE | re.DOTALL):
        yield Mutation(path, text.replace(found[0], ""), found[0].splitlines()[0].strip())


def outputs_and_params() -> Iterator[Mutation]:
    """Each param and module output that something else needs, under another name."""
    for path in PROGRAM.names(".bicep"):
        text, template = PROGRAM.texts[path], PROGRAM.template(path)
        for declared in (*template.of("param"), *(template.of("output") if path.startswith("modules/") else ())):
            old = f"{declared.keyword} {declared.name}"
            yield Mutation(path, re.sub(rf"^{old}\b", f"{old}X", text, flags=re.MULTILINE), f"{old} renamed")


def swap(path: str, old: str, new: str) -> Mutation:
    text = PROGRAM.texts[path]
    assert re.search(old, text), f"{old} is not in {path}"
    return Mutation(path, re.sub(old, new, text, count=1), f"{new or 'nothing'} for {old}")


MODULES = ("function-app", "storage", "monitoring", "network")
APP, STORAGE, MONITORING, NETWORK = (f"modules/{name}.bicep" for name in MODULES)
BENT = (
    lambda: swap(APP, "httpsOnly:", "httpOnly:"),
    lambda: swap(APP, "httpsOnly: true", "httpsOnly: 'true'"),
    lambda: swap(APP, "httpsOnly: true", "httpsOnly: false"),
    lambda: swap(APP, "'UserAssigned'", "'SystemAssigned'"),
    lambda: swap(APP, "'FC1'", "'Y1'"),
    lambda: swap(APP, "type: 'blobContainer'", "type: 'blobStorage'"),
    lambda: swap(APP, "'1.2'", "'1.0'"),
    lambda: swap(APP, "'3.13'", "3.13"),
    lambda: swap(APP, "perInstanceConcurrency: httpConcurrency", "perInstanceConcurrency: '16'"),
    lambda: swap(APP, "perInstanceConcurrency", "perInstanceConcurency"),
    lambda: swap(APP, "maximumInstanceCount: maximumInstanceCount", "maximumInstanceCount: planName"),
    lambda: swap(APP, "serverFarmId: plan.id", "serverFarmId: plans.id"),
    lambda: swap(APP, "defaultHostName", "hostName"),
    lambda: swap(APP, "Microsoft.Web/sites@2025-03-01", "Microsoft.Web/sites@2023-12-01"),
    lambda: swap(APP, r"union\(settings, ", "union("),
    lambda: swap(APP, "GRAPH|AZURE_CLIENT_ID:", "FUNCTIONS_WORKER_RUNTIME: 'python'\n  AZURE_CLIENT_ID:"),
    lambda: swap(STORAGE, "allowSharedKeyAccess: false", "allowSharedKeyAccess: true"),
    lambda: swap(STORAGE, "'StorageV2'", "'StorageV3'"),
    lambda: swap(STORAGE, "'TLS1_2'", "'TLS1_1'"),
    lambda: swap(STORAGE, r"  sku: \{ name: sku \}\n", ""),
    lambda: swap(STORAGE, "parent: account\n", "parent: containers\n"),
    lambda: swap(STORAGE, "days: 7", "days: 700"),
    lambda: swap(STORAGE, "param containers string", "param containers int"),
    lambda: swap(MONITORING, "severity: rule.severity", "severity: 'high'"),
    lambda: swap(MONITORING, "rule.query", "rule.querry"),
    lambda: swap(MONITORING, "queries/no-sweep.kql", "queries/no-sweeps.kql"),
    lambda: swap(MONITORING, "'GreaterThan'", "'More'"),
    lambda: swap(MONITORING, "#disable-next-line use-recent-api-versions\n", ""),
    lambda: swap(MONITORING, "#disable-next-line use-recent-api-versions\n", r"\g<0>\n"),
    lambda: swap(STORAGE, "resource lock", "// Because.\n#disable-next-line use-recent-api-versions\nresource lock"),
    lambda: swap(STORAGE, "#disable-next-line use-recent-api-versions", "#disable-next-line use-recent-api-version"),
    lambda: swap("main.bicep", "params: {\n    name: identityName\n", "params: {\n"),
    lambda: swap("main.bicep", "identity.outputs.clientId", "identity.outputs.clientID"),
    lambda: swap("main.bicep", "uniqueString", "uniqueText"),
    lambda: swap("main.bicep", r"@maxLength\(13\)", "@maxLength(23)"),
    lambda: swap("main.bicep", "'sthost", "'storagehost-of-the-app"),
    lambda: swap("main.azd.bicep", "graphAppId: graphAppId\n", ""),
    lambda: swap("main.azd.bicep", "  scope: group\n", ""),
    lambda: swap("modules/roles.bicep", "974c5e8b", "974c5e8c"),
    lambda: swap("modules/roles.bicep", r"name: guid\(component.id", "name: guid(component.properties.AppId"),
    lambda: swap("params/minimal.bicepparam", "param name", "param nane"),
    lambda: swap("params/government.bicepparam", "'usgov-l4'", "'usgov-l3'"),
)


@pytest.mark.parametrize(
    "mutation",
    [*properties_that_matter(), *settings(), *roles(), *publishing(), *outputs_and_params()],
    ids=str,
)
def test_what_is_taken_out_is_missed(mutation: Mutation) -> None:
    assert noticed(mutation)


@pytest.mark.parametrize("bend", BENT)
def test_what_is_bent_is_noticed(bend: object) -> None:
    assert callable(bend)
    assert noticed(bend())


def added(before: str, line: str) -> Program:
    """The program with one more line above another one of the function app."""
    text = PROGRAM.texts[APP]
    assert text.count(before) == 1, f"{before} is not there once"
    return PROGRAM.changed(APP, text.replace(before, f"{line}\n{before}"))


@pytest.mark.parametrize("path", FLEX_REFUSES)
@pytest.mark.parametrize("spelling", [str, str.upper], ids=["as documented", "in capitals"])
def test_what_flex_consumption_refuses_of_a_site_is_named(path: str, spelling: Callable[[str], str]) -> None:
    parent, _, name = path.rpartition(".")
    before = {"properties": "    httpsOnly: true", "properties.siteConfig": "      minTlsVersion: '1.2'"}[parent]
    found = [str(finding) for finding in inspect(added(before, f"{spelling(name)}: null"))]
    assert any(f"{spelling(name)} is refused by Flex Consumption" in finding for finding in found), found


@pytest.mark.parametrize(
    ("before", "line", "told"),
    [
        ("      minTlsVersion: '1.2'", "autoHealEnabled: true", "autoHealEnabled is not in FLEX_TAKES"),
        ("      minTlsVersion: '1.2'", "...settings", "write app.properties.siteConfig out"),
        ("    httpsOnly: true", "...settings", "write app.properties out"),
    ],
)
def test_a_property_that_nobody_looked_up_is_named(before: str, line: str, told: str) -> None:
    assert any(told in finding.message for finding in inspect(added(before, line)))


@pytest.mark.parametrize("name", HARMFUL_SETTINGS)
@pytest.mark.parametrize("spelling", [str, str.lower], ids=["as documented", "in small letters"])
def test_a_setting_that_flex_consumption_refuses_is_named(name: str, spelling: Callable[[str], str]) -> None:
    found = check_settings(added("  AZURE_CLIENT_ID: identityClientId", f"{spelling(name)}: 'x'"))
    assert any(f"'{spelling(name)}' is harmful on Flex Consumption" in finding.message for finding in found)


@pytest.mark.parametrize(
    "bent",
    [
        swap(NETWORK, "networkSecurityGroups@2025-05-01", "networkSecurityGroups@2024-06-01"),
        swap(MONITORING, "scheduledQueryRules@2023-12-01", "scheduledQueryRules@2024-01-01-preview"),
        swap(STORAGE, "locks@2020-05-01", "locks@2021-05-01"),
    ],
    ids=str,
)
def test_an_old_version_that_nobody_accepted_is_named(bent: Mutation) -> None:
    """The compiler only mentions it: use-recent-api-versions is at info."""
    found = [finding.message for finding in inspect(PROGRAM.changed(bent.path, bent.text))]
    assert [message for message in found if "is old, and neither the newest nor accepted" in message], found


def test_each_version_that_may_be_old_is_one_of_the_templates() -> None:
    used = {template.resource_type(found) for template in templates(PROGRAM) for found in template.resources}
    accepted = {f"{resource}@{old.version}" for resource, old in OLD_VERSIONS.items()}
    assert accepted | {f"{resource}@{version}" for resource, version in NEWEST_VERSIONS.items()} <= used


def test_each_role_is_taken_out_once() -> None:
    assert len(list(roles())) == len(ROLES)
