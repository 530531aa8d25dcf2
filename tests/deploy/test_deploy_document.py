"""`docs/deploy.md` and `azure.yaml` speak of things as they are: names, ids, commands, words that programs print."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from ruamel.yaml import YAML

from local import proof
from shared.store import SHARDS
from tests.deploy.reading import ROOT
from tests.functions.harness import ROUTES

DEPLOY = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SHELL = re.findall(r"^```bash\n(.*?)^```", DEPLOY, re.MULTILINE | re.DOTALL)
INFRA = ROOT / "infra"


def infra(name: str) -> str:
    return (INFRA / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.splitlines()[0][:40])
def test_what_is_to_be_typed_is_sound_shell(block: str) -> None:
    # SC2154, SC2034: what one block sets another uses. SC2312, SC2086 are not for a terminal's one-liners.
    command = [str(Path(sys.executable).parent / "shellcheck"), "--shell=bash", "--exclude=SC2154,SC2034,SC2312", "-"]
    done = subprocess.run(command, input=block, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_roles_that_a_pipeline_may_assign_are_those_of_the_template() -> None:
    (told,) = re.findall(r"^ROLES=\"\{(.*)\}\"", DEPLOY, re.MULTILINE)
    guid = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    assert set(told.split(",")) == set(re.findall(guid, infra("modules/roles.bicep")))


def test_each_variable_that_a_workflow_reads_is_in_the_table() -> None:
    workflows = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob(".github/workflows/*.yml"))
    read = set(re.findall(r"vars\.([A-Z_]+)", workflows))
    assert {"AZURE_CLIENT_ID", "DEPLOY"} <= read
    assert {name for name in read if f"`{name}`" not in DEPLOY} == set()


def test_the_environments_that_are_made_are_those_that_the_workflows_name() -> None:
    workflows = (ROOT / ".github" / "workflows" / "deploy.yml").read_text(encoding="utf-8")
    (made,) = re.findall(r"for environment in (.*); do", DEPLOY)
    named = re.findall(r"environment: ([\w-]+)$|^      name: (what-if)", workflows, re.MULTILINE)
    assert set(made.split()) == {first or second for first, second in named}


def test_outputs_and_parameters_have_the_names_of_the_templates() -> None:
    outputs = set(re.findall(r"^output (\w+)", infra("main.bicep"), re.MULTILINE))
    assert set(re.findall(r"\$\(output (\w+)\)", DEPLOY)) | {"webhookUrl"} <= outputs
    of_azd = set(re.findall(r"^output (\w+)", infra("main.azd.bicep"), re.MULTILINE))
    assert {"FUNCTION_APP_NAME", "IDENTITY_PRINCIPAL_ID", "AZURE_RESOURCE_GROUP"} <= of_azd
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
    assert {name for name in read if name not in DEPLOY} == {"AZURE_ENV_NAME", "AZURE_LOCATION"}  # azd asks for those
    for name in re.findall(r"infra/params/[\w-]+\.bicepparam", DEPLOY):
        assert (ROOT / name).is_file()


def test_what_the_programs_say_is_what_the_document_quotes() -> None:
    source = "".join((ROOT / "local" / f"{name}.py").read_text(encoding="utf-8") for name in ("push", "proof", "site"))
    for words in ("0 functions found", "another deployment is running", "refused the package", "functions are found"):
        assert words in DEPLOY
        assert words in source
    assert f"the {len(ROUTES) + 2} functions are found" in DEPLOY
    assert f"health was well for {proof.STEADY.seconds} s" in DEPLOY


@pytest.mark.parametrize(
    "module", ["local.publish push", "local.publish prove", "local.cost", "infra.grant_graph_permissions"]
)
def test_a_command_has_the_options_that_are_shown(module: str) -> None:
    shown = {
        option
        for line in re.sub(r"\\\n", " ", DEPLOY).splitlines()
        if f"python -m {module}" in line
        for option in re.findall(r"--[a-z-]+", line)
    }
    help_text = subprocess.run(
        [sys.executable, "-m", *module.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert shown
    assert shown <= set(re.findall(r"--[a-z-]+", help_text))


def test_azure_yaml_is_what_azd_takes() -> None:
    """By the rules of azd's schema (Azure/azure-dev, schemas/v1.0/azure.yaml.json) for what stands in it."""
    azure = YAML(typ="safe", pure=True).load(ROOT / "azure.yaml")
    assert set(azure) == {"name", "metadata", "infra", "services"}
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", azure["name"])
    assert azure["infra"] == {"provider": "bicep", "path": "infra", "module": "main.azd"}
    for ending in (".bicep", ".parameters.json"):
        assert (INFRA / f"{azure['infra']['module']}{ending}").is_file()
    ((name, service),) = cast("dict[str, dict[str, str]]", azure["services"]).items()
    assert service == {"project": ".", "host": "function", "language": "py"}
    assert f"'azd-service-name': '{name}'" in infra("main.azd.bicep"), "azd finds the app by this tag"


def test_host_json_is_what_this_workload_needs() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    known = {"version", "functionTimeout", "extensions", "extensionBundle", "logging", "telemetryMode"}
    assert set(host) <= known, "see the host.json reference: a misspelt section is ignored without a word"
    assert host["version"] == "2.0"
    assert host["functionTimeout"] == "00:05:00", "a hung sweep must end before the next tick"
    assert host["extensions"]["http"]["routePrefix"] == "api"
    assert host["extensionBundle"]["version"] == "[4.*, 5.0.0)", "the queue trigger comes with the bundle"
    queues = host["extensions"]["queues"]
    assert queues["messageEncoding"] == "base64"
    at_once = queues["batchSize"] + queues["newBatchThreshold"]
    assert 0 < queues["newBatchThreshold"] <= queues["batchSize"], "with 0 a retry waits until a shard is swept"
    assert SHARDS / at_once >= 4, "the platform scales out by messages over this: a fan-out must take some instances"
