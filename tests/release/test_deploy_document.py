"""The deployment pages, `docs/cost.md` and `azure.yaml` agree with the code: names, ids, commands, printed text."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from infra import azure_rights, parameters, set_up_pipeline
from infra.azd import HOOKS
from shared.storage.store import SHARDS
from tests.docs.documents import rows, section
from tests.functions.harness import ROUTES
from tests.release.reading import ROOT

DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
GITHUB = (ROOT / "docs" / "deploy-github.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "deploy-troubleshooting.md").read_text(encoding="utf-8")
COST = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
PAGES = DEPLOY + GITHUB + ERRORS + COST
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = BLOCK.findall(PAGES)
INFRA = ROOT / "infra"


def infra(name: str) -> str:
    return (INFRA / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.splitlines()[0][:40])
def test_the_shell_blocks_pass_shellcheck(block: str) -> None:
    # SC2154, SC2034: one block uses variables that another sets. SC2312 does not matter in a terminal.
    command = [str(Path(sys.executable).parent / "shellcheck"), "--shell=bash", "--exclude=SC2154,SC2034,SC2312", "-"]
    done = subprocess.run(command, input=block, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def shell(text: str, heading: str) -> str:
    """Return the shell blocks under a heading, up to the next heading of any level."""
    (part,) = re.findall(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    return "".join(BLOCK.findall(part))


def commands(text: str, heading: str) -> list[str]:
    """Return the commands under a heading, one for each logical line."""
    lines = shell(text, heading).replace("\\\n", " ").replace("|\n", "| ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


WAYS = {
    "[one command](#one-command)": (DEPLOY, "One command"),
    "[azd](#azd)": (DEPLOY, "azd"),
    "[GitHub Actions](deploy-github.md)": (GITHUB, "Set it up, once"),
    "[by hand](#by-hand-az-and-func)": (DEPLOY, "By hand: az and func"),
}


def of_each_way() -> dict[str, tuple[int, int]]:
    """Return the number of commands of each way, and the number from the beginning to a first call."""
    around = len(commands(DEPLOY, "What Graph itself asks for")) + len(commands(DEPLOY, "A first call"))
    counted = {name: len(commands(*place)) for name, place in WAYS.items()}
    return {name: (count, count + around) for name, count in counted.items()}


def test_the_commands_of_each_way_are_counted() -> None:
    stated = {row[0]: (int(row[3]), int(row[4])) for row in rows(section(DEPLOY, "Deploy"))}
    assert stated == of_each_way()
    asked, first_call = commands(DEPLOY, "What Graph itself asks for"), commands(DEPLOY, "A first call")
    assert (len(asked), len(first_call)) == (2, 5), "as the sentence below the table says"
    assert [line.split()[:2] for line in asked] == [["az", "login"], ["az", "ad"]]


def test_no_way_is_longer_than_it_was_made() -> None:
    """Each further command is one that a person can mistype. azd once needed 21 up to a first call."""
    totals = {name: total for name, (_, total) in of_each_way().items()}
    assert max(totals.values()) <= 17
    assert totals["[azd](#azd)"] <= 11


def test_what_the_commands_use_was_set_before() -> None:
    """The page must set each variable before it uses it."""
    for way in WAYS.values():
        lines = [*commands(DEPLOY, "What Graph itself asks for"), *commands(*way), *commands(DEPLOY, "A first call")]
        known = {"PATH"}
        for line in lines:
            for name, use in re.findall(r"(?<![\w-])([A-Z_]{2,})=|\$\{?([A-Z_]+)", line):
                assert not use or use in known, f"{use} in: {line}"
                known |= {name} - {""}


def test_no_command_needs_gnu() -> None:
    """`xargs --no-run-if-empty` exists only in GNU's xargs."""
    assert [block for block in SHELL if "xargs" in block or "sed -i" in block] == []


def test_the_teardown_deletes_the_workspace_permanently() -> None:
    """Otherwise a deployment within 14 days restores its rows, and the alert no-sweep fires before there is code."""
    typed = shell(DEPLOY, "Teardown")
    assert "az monitor log-analytics workspace delete --force" in typed
    assert "azd down --purge" in DEPLOY
    assert typed.index("workspace delete") < typed.index("az group delete"), (
        "deleting the group deletes its workspace without --force"
    )


def test_the_alerts_of_a_first_deployment_are_described() -> None:
    stated = section(DEPLOY, "Alerts before and after the first code")
    for words in ("more than two days", "look the same", "Are calls safe now?", "availability"):
        assert words in stated
    tested = {path.name for path in INFRA.glob("params/*") if "param healthTestLocations" in path.read_text()}
    assert tested == set(re.findall(r"[\w-]+\.bicepparam", stated))


def test_each_variable_that_a_workflow_reads_is_in_the_table() -> None:
    workflows = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob(".github/workflows/*.yml"))
    read = set(re.findall(r"vars\.([A-Z_]+)", workflows))
    stated = {name for row in rows(section(GITHUB, "Variables")) for name in re.findall(r"`([A-Z_]+)`", row[0])}
    assert {"AZURE_CLIENT_ID", "DEPLOY"} <= read
    assert stated == read


def test_the_pages_that_scripts_name_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github").rglob("*") if path.is_file()]
    texts += [path.read_text(encoding="utf-8") for path in INFRA.glob("*.py")]
    named = {found for text in texts for found in re.findall(r"docs/[\w-]+\.md", text)}
    assert "docs/deploy-github.md" in named
    assert {name for name in named if not (ROOT / name).is_file()} == set()
    assert "## Before you begin" in DEPLOY, "infra/commands.py names this section"


def test_the_pipeline_is_described_as_it_is_set_up() -> None:
    for words in (set_up_pipeline.GROUP, parameters.MANAGEMENT, *azure_rights.CUSTOM_ROLES):
        assert f"`{words}`" in GITHUB
        assert f"`{words}`" in PAGES
    assert all(f"`{name}`" in GITHUB for name in set_up_pipeline.ENVIRONMENTS)
    for audience in azure_rights.AUDIENCES.values():
        assert f"`{audience}`" in GITHUB
    assert f"`{parameters.PARAMETERS}` if not set" in GITHUB


def test_the_subject_of_githubs_token_is_explained_where_its_error_is() -> None:
    assert "AADSTS700213" in ERRORS
    explained = section(GITHUB, "The subject of GitHub's token")
    for words in (
        "AADSTS700213",
        "repo:<owner>@<owner id>/<repository>@<repository id>:environment:",
        "sub_claim_prefix",
    ):
        assert words in explained


def test_the_page_names_what_github_enterprise_server_does_not_support() -> None:
    """Each line that the page changes is in the workflows, and the page names every use of artifacts."""
    places = [ROOT / ".github" / "workflows" / name for name in ("deploy.yml", "deploy-to.yml")]
    workflows = "\n".join(path.read_text(encoding="utf-8") for path in places)
    stated = section(GITHUB, "Other clouds and servers")
    lines = {name for row in rows(stated) for name in re.findall(r"`([^`]+)`", row[0])}
    assert {name for name in lines if name not in workflows} == set()
    assert set(re.findall(r"actions/\w+-artifact", workflows)) <= lines
    assert {f"runs-on: {label}" for label in re.findall(r"runs-on: (\S+)", workflows)} <= lines
    assert {"deployment: false"} <= lines
    assert "GHESNotSupportedError" in stated


def test_outputs_and_parameters_have_the_names_of_the_templates() -> None:
    outputs = set(re.findall(r"^output (\w+)", infra("main.bicep"), re.MULTILINE))
    assert set(re.findall(r'="<(\w+)>"$', DEPLOY, re.MULTILINE)) == {"functionAppName", "identityPrincipalId"}
    assert {"functionAppName", "identityPrincipalId", "webhookUrl"} <= outputs
    of_azd = set(re.findall(r"^output (\w+)", infra("main.azd.bicep"), re.MULTILINE))
    assert {"FUNCTION_APP_NAME", "AZURE_RESOURCE_GROUP", "API_BASE_URL"} <= of_azd & set(re.findall(r"[A-Z_]+", DEPLOY))
    parameters = json.loads(infra("main.azd.parameters.json"))["parameters"]
    read = {found for value in parameters.values() for found in re.findall(r"\$\{(\w+)", value["value"])}
    assert read == {
        "AZURE_ENV_NAME",
        "AZURE_LOCATION",
        "GRAPH_APP_ID",
        "GRAPH_TENANT_ID",
        "ALERT_EMAIL",
        "PRIVATE_NETWORK",
    }
    assert {name for name in read if name not in DEPLOY} == {
        "AZURE_ENV_NAME",
        "AZURE_LOCATION",
    }  # azd prompts for these
    for name in re.findall(r"infra/params/[\w-]+\.bicepparam", PAGES):
        assert (ROOT / name).is_file()


def test_the_page_quotes_the_output_of_the_programs() -> None:
    places = [*(ROOT / "release").glob("*.py"), *INFRA.glob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in places if path.name != "audit.py")
    of_release = (
        *("0 functions found", "another deployment is running", "refused the package", "functions are found"),
        *(
            "took no package within",
            "carries no libraries",
            "another build answers",
            "refuses to report its deployment",
        ),
        *("the host accepts its function key", "health was well for"),
    )
    of_infra = ("ok: it is deployed and proved", "(the bot's callbackUri)", "calls are not kept alive yet")
    text = " ".join((DEPLOY + ERRORS).split())  # a line may end anywhere
    for words in (*of_release, *of_infra, "takes some minutes", "which takes minutes"):
        assert words in text
        assert words in source
    assert f"the {len(ROUTES) + 2} functions are found" in DEPLOY
    assert "ok: the next push to main deploys to production" in " ".join(GITHUB.split())


@pytest.mark.parametrize(
    "module",
    [
        *("release.publish push", "release.publish prove", "release.cost"),
        *("infra.deploy", "infra.grant_graph_permissions", "infra.set_up_pipeline"),
    ],
)
def test_a_command_has_the_options_that_are_shown(module: str) -> None:
    shown = {
        option
        for line in re.sub(r"\\\n", " ", PAGES).splitlines()
        if re.search(rf"python3? -m {module}", line)
        for option in re.findall(r"--[a-z-]+", line)
    }
    help_text = subprocess.run(
        [sys.executable, "-m", *module.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert shown
    assert shown <= set(re.findall(r"--[a-z-]+", help_text))


def test_azure_yaml_is_valid_for_azd() -> None:
    """The rules are those of azd's schema (Azure/azure-dev, schemas/v1.0/azure.yaml.json)."""
    azure = YAML(typ="safe", pure=True).load(ROOT / "azure.yaml")
    assert set(azure) == {"name", "metadata", "infra", "workflows", "hooks"}
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", azure["name"])
    assert azure["infra"] == {"provider": "bicep", "path": "infra", "module": "main.azd"}
    for ending in (".bicep", ".parameters.json"):
        assert (INFRA / f"{azure['infra']['module']}{ending}").is_file()
    assert azure["workflows"]["up"]["steps"] == [{"azd": "provision"}, {"azd": "deploy --all"}]


def test_azd_uploads_nothing_by_itself() -> None:
    """azd would zip a service of a Python app from its sources, and Azure would install its requirements."""
    assert "services" not in YAML(typ="safe", pure=True).load(ROOT / "azure.yaml")


def test_each_hook_of_azd_runs_here_on_every_system() -> None:
    hooks = YAML(typ="safe", pure=True).load(ROOT / "azure.yaml")["hooks"]
    assert set(hooks) == set(HOOKS)
    for name, hook in hooks.items():
        assert hook == {
            "posix": {"shell": "sh", "run": f"python3 -m infra.azd {name}", "interactive": True},
            "windows": {"shell": "pwsh", "run": f"python -m infra.azd {name}", "interactive": True},
        }


def test_host_json_is_what_this_workload_needs() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    known = {"version", "functionTimeout", "extensions", "extensionBundle", "logging", "telemetryMode"}
    assert set(host) <= known, "see the host.json reference: the host silently ignores a misspelt section"
    assert host["version"] == "2.0"
    assert host["functionTimeout"] == "00:05:00", "a hung sweep must end before the next tick"
    assert host["extensions"]["http"]["routePrefix"] == "api"
    assert host["extensionBundle"]["version"] == "[4.*, 5.0.0)", "the queue trigger comes with the bundle"
    queues = host["extensions"]["queues"]
    assert queues["messageEncoding"] == "base64"
    at_once = queues["batchSize"] + queues["newBatchThreshold"]
    assert 0 < queues["newBatchThreshold"] <= queues["batchSize"], "with 0 a retry would wait until a shard is swept"
    assert SHARDS / at_once >= 4, (
        "the platform scales out by messages over this, and a fan-out must use at least four instances"
    )
