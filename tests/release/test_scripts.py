"""The scripts of the workflows, with a fake `gh` and a fake `az`."""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import deploy, grant_graph_permissions
from release.libraries import LIBRARIES_FOLDER
from tests.release.fake_azure import NAMES, Site
from tests.release.reading import ROOT

SCRIPTS = ROOT / ".github" / "scripts"
BOT, MANAGEMENT = "11111111-0000-4000-8000-000000000001", "11111111-0000-4000-8000-000000000002"
IDENTITY = "22222222-0000-4000-8000-000000000001"
API, WEBHOOK = "https://app.example/api", "https://app.example/api/notifications"
DEPLOYED = f"printf 'func-call-keeper-abc\\n{IDENTITY}\\n{API}\\n{WEBHOOK}\\n'"
AZURE = {
    "ENVIRONMENT": "production",
    "AZURE_CLIENT_ID": "id",
    "AZURE_TENANT_ID": "id",
    "AZURE_SUBSCRIPTION_ID": "id",
    "RESOURCE_GROUP": "rg",
}


@dataclass(frozen=True)
class Runner:
    """A fake runner of GitHub: its commands are first on the PATH, and it has the files that a step writes."""

    folder: Path

    def has(self, name: str, body: str) -> None:
        command = self.folder / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >>"{self.folder}/asked"\n{body}\n', encoding="utf-8")
        command.chmod(0o755)

    def run(self, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_REPOSITORY": "someone/call-keeper",
            "GITHUB_REF_NAME": "main",
            "GITHUB_RUN_ID": "33",
            "GITHUB_RUN_ATTEMPT": "1",
            "GRAPH_APP_ID": BOT,
        }
        command = ["bash", str(SCRIPTS / script), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=given | env, capture_output=True, text=True, check=False, timeout=30
        )

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


GITHUB = """case "$*" in
  "run list"*) printf "33\\n32\\n31\\n30\\n" ;;
  "api "*"/runs/32/artifacts?"*) printf "call-keeper\\ndeployed-production-2\\n" ;;
  "api "*"/runs/31/artifacts?"*) printf "call-keeper\\ndeployed-production\\n" ;;
  "run download 31 "*) ;;
  *) exit 1 ;;
esac"""


def test_the_earlier_package_is_the_newest_that_was_kept_by_another_run(runner: Runner) -> None:
    runner.has("gh", GITHUB)
    done = runner.run("earlier-package.sh", "deployed-production", "earlier")
    assert done.returncode == 0, done.stderr
    assert runner.read("output") == "found=true\n"
    asked = runner.read("asked").splitlines()
    lists = [line for line in asked if "/artifacts?" in line]
    assert [re.findall(r"repos/someone/call-keeper/actions/runs/(\d+)/", line) for line in lists] == [["32"], ["31"]]
    assert all("select(.expired | not)" in line for line in lists), "an expired artifact has only a name"
    (download,) = [line for line in asked if "download" in line]
    assert download == "gh run download 31 --repo someone/call-keeper --name deployed-production --dir earlier"


@pytest.mark.parametrize("broken", ["api ", "run download"], ids=["list fails", "download fails"])
def test_a_package_that_cannot_be_fetched_stops_the_deployment(runner: Runner, broken: str) -> None:
    """The package may exist. Without it the deployment could not be rolled back."""
    runner.has("gh", f'[[ $* != "{broken}"* ]] || {{ echo "HTTP 502" >&2; exit 1; }}\n{GITHUB}')
    done = runner.run("earlier-package.sh", "deployed-production", "earlier")
    assert done.returncode != 0
    assert "HTTP 502" in done.stderr
    assert runner.read("output") == ""


@pytest.mark.parametrize("kept", ["true", "echo call-keeper"], ids=["no artifact", "another artifact"])
def test_runs_without_a_package_are_no_error(runner: Runner, kept: str) -> None:
    runner.has("gh", f'case "$*" in "run list"*) echo 32;; "api "*) {kept};; *) exit 1;; esac')
    assert runner.run("earlier-package.sh", "deployed-production", "earlier").returncode == 0
    assert runner.read("output") == "found=false\n"


def test_without_an_earlier_package_the_deployment_goes_on_and_says_so(runner: Runner) -> None:
    runner.has("gh", 'case "$*" in "run list"*) ;; *) exit 1;; esac')
    done = runner.run("earlier-package.sh", "deployed-production", "earlier")
    assert done.returncode == 0
    assert runner.read("output") == "found=false\n"
    assert "::notice::no earlier package" in done.stdout


def test_runs_that_cannot_be_listed_stop_the_deployment(runner: Runner) -> None:
    """An unknown earlier package would make a rollback impossible."""
    runner.has("gh", "exit 1")
    assert runner.run("earlier-package.sh", "deployed-production", "earlier").returncode != 0
    assert runner.read("output") == ""


@pytest.mark.parametrize("event", ["push", "workflow_dispatch"])
@pytest.mark.parametrize("path", [".github/workflows/deploy.yml", ".github/workflows/deploy.yml@main"])
def test_the_package_of_a_deployment_is_fetched(runner: Runner, event: str, path: str) -> None:
    runner.has("gh", f'[ "$1" = run ] || echo "{path} {event} main"')
    done = runner.run("package-of-run.sh", "12", "call-keeper", "dist")
    assert done.returncode == 0, done.stdout
    assert "gh run download 12 --repo someone/call-keeper --name call-keeper --dir dist" in runner.read("asked")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("12", ".github/workflows/deploy.yml pull_request main"),
        ("12", ".github/workflows/ci.yml push main"),
        ("12", ".github/workflows/deploy.yml push elsewhere"),
        ("12", ""),
        ("12; echo", ".github/workflows/deploy.yml push main"),
        ("../12", ".github/workflows/deploy.yml push main"),
    ],
    ids=[
        "of a pull request",
        "of another workflow",
        "of another branch",
        "unknown run",
        "id with a command",
        "id with a path",
    ],
)
def test_a_package_that_is_not_of_a_deployment_is_refused(runner: Runner, run: str, message: str) -> None:
    runner.has("gh", f'echo "{message}"')
    done = runner.run("package-of-run.sh", run, "call-keeper", "dist")
    assert done.returncode == 1
    assert "is not a run of deploy.yml that deployed from main" in done.stdout
    assert "download" not in runner.read("asked")


def test_the_infrastructure_hands_on_the_name_of_the_app(runner: Runner) -> None:
    runner.has("az", DEPLOYED)
    done = runner.run("infrastructure.sh", RESOURCE_GROUP="rg", PARAMETERS="")
    assert done.returncode == 0, done.stderr
    assert runner.read("output") == "app=func-call-keeper-abc\n"
    assert "--resource-group rg --parameters infra/params/minimal.bicepparam" in runner.read("asked")


def test_the_summary_has_the_addresses_that_a_bot_needs(runner: Runner) -> None:
    runner.has("az", DEPLOYED)
    runner.run("infrastructure.sh", RESOURCE_GROUP="rg")
    assert f"API: {API}  \nWebhook, the bot's callbackUri: {WEBHOOK}\n" in runner.read("summary")


@pytest.mark.parametrize("management", ["", MANAGEMENT], ids=["bot's registration", "registration of management"])
def test_the_summary_has_the_command_that_an_administrator_runs(runner: Runner, management: str) -> None:
    runner.has("az", DEPLOYED)
    runner.run("infrastructure.sh", RESOURCE_GROUP="rg", MANAGEMENT_APP_ID=management)
    (block,) = re.findall(r"```bash\n(.*?)```", runner.read("summary"), re.DOTALL)
    words = block.replace("\\\n", " ").split()
    assert words[:3] == ["python3", "-m", "infra.grant_graph_permissions"]
    asked = grant_graph_permissions.parse_arguments(words[3:])
    assert (asked.bot_app_id, asked.identity_principal_id, asked.grant_to) == (BOT, IDENTITY, "bot")
    assert asked.management_app_id == (management or None)
    assert asked.cloud == "global"


@pytest.mark.parametrize(
    "cloud",
    ["", "azurecloud", "AzureCloud", "AzureUSGovernment", "azureusgovernment"],
    ids=["cloud not set", "azurecloud", "AzureCloud", "AzureUSGovernment", "azureusgovernment"],
)
@pytest.mark.parametrize(
    "graph_cloud", ["", "param graphCloud = 'usgov-l5'\n"], ids=["default Graph", "Graph in the parameter file"]
)
def test_the_command_names_the_graph_of_the_apps_cloud(runner: Runner, cloud: str, graph_cloud: str) -> None:
    parameters = f"using 'main.bicep'\n{graph_cloud}param name = 'gov'\n"
    (runner.folder / "mine.bicepparam").write_text(parameters, encoding="utf-8")
    runner.has("az", DEPLOYED)
    runner.run("infrastructure.sh", RESOURCE_GROUP="rg", PARAMETERS="mine.bicepparam", AZURE_CLOUD=cloud)
    (block,) = re.findall(r"```bash\n(.*?)```", runner.read("summary"), re.DOTALL)
    words = block.replace("\\\n", " ").split()
    option = deploy.cloud_options("AzureUSGovernment" if "government" in cloud.lower() else "AzureCloud", parameters)
    assert grant_graph_permissions.parse_arguments(words[3:]).cloud == (option[1] if option else "global")


@pytest.mark.parametrize(
    "body",
    ["echo 'no quota' >&2; exit 1", "true", "echo func-call-keeper-abc", "printf 'app\\nidentity\\nhttps://api\\n'"],
    ids=["az fails", "no outputs", "one output", "one output missing"],
)
def test_an_infrastructure_that_fails_stops_the_deployment(runner: Runner, body: str) -> None:
    runner.has("az", body)
    assert runner.run("infrastructure.sh", RESOURCE_GROUP="rg").returncode != 0
    assert runner.read("output") == ""


@pytest.mark.parametrize("script", ["infrastructure.sh", "what-if.sh"])
def test_a_variable_that_is_not_set_is_named(runner: Runner, script: str) -> None:
    runner.has("az", "true")
    done = runner.run(script, RESOURCE_GROUP="")
    assert done.returncode != 0
    assert "AZURE_RESOURCE_GROUP" in done.stderr
    assert runner.read("asked") == ""


@pytest.mark.parametrize("script", ["infrastructure.sh", "what-if.sh"])
def test_the_default_parameters_are_those_of_a_trial(runner: Runner, script: str) -> None:
    """They need one variable besides those of the login. Production needs an app registration and locks."""
    runner.has("az", DEPLOYED)
    assert runner.run(script, RESOURCE_GROUP="rg", PARAMETERS="").returncode == 0
    assert "--parameters infra/params/minimal.bicepparam" in runner.read("asked")


@pytest.mark.parametrize(
    ("parameters", "given", "missing"),
    [
        ("", {}, "GRAPH_APP_ID"),
        (
            "",
            {"GRAPH_APP_ID": BOT, "AZURE_TENANT_ID": "", "RESOURCE_GROUP": ""},
            "AZURE_TENANT_ID AZURE_RESOURCE_GROUP",
        ),
        (
            "infra/params/production.bicepparam",
            {"GRAPH_APP_ID": BOT},
            "MANAGEMENT_APP_ID MANAGEMENT_TENANT_ID",
        ),
        (
            "infra/params/several-bots.bicepparam",
            {"GRAPH_APP_ID": BOT, "MANAGEMENT_APP_ID": MANAGEMENT, "MANAGEMENT_TENANT_ID": "id", "BOT_NAME": ""},
            "BOT_NAME",
        ),
    ],
    ids=["of the default parameter file", "of the login", "of production", "of several bots"],
)
def test_every_variable_that_an_environment_lacks_is_named(
    runner: Runner, parameters: str, given: dict[str, str], missing: str
) -> None:
    (runner.folder / "infra").symlink_to(ROOT / "infra")
    done = runner.run("check-variables.sh", **{**AZURE, "GRAPH_APP_ID": "", "PARAMETERS": parameters, **given})
    assert done.returncode == 1
    assert done.stdout == (
        f"::error::the environment production lacks the variables {missing}: see docs/deploy-github.md\n"
    )


def test_an_environment_that_has_all_goes_on(runner: Runner) -> None:
    (runner.folder / "infra").symlink_to(ROOT / "infra")
    done = runner.run("check-variables.sh", **AZURE)
    assert done.returncode == 0, done.stdout


def test_a_parameter_file_that_reads_no_variable_is_enough_for_itself(runner: Runner) -> None:
    (runner.folder / "mine.bicepparam").write_text("using 'main.bicep'\n", encoding="utf-8")
    done = runner.run("check-variables.sh", **AZURE, PARAMETERS="mine.bicepparam")
    assert (done.returncode, done.stdout) == (0, "the environment production has what mine.bicepparam needs\n")


def test_a_parameter_file_that_is_not_there_is_named(runner: Runner) -> None:
    done = runner.run("check-variables.sh", **AZURE, PARAMETERS="infra/params/prod.bicepparam")
    assert done.returncode == 1
    assert "BICEP_PARAMETERS names infra/params/prod.bicepparam, which is not in the repository" in done.stdout


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 1", 1)], ids=["success", "failure"])
def test_the_summary_shows_the_what_if_after_success_and_failure(runner: Runner, end: str, code: int) -> None:
    runner.has("az", f"echo '  + Microsoft.Web/sites/new'; {end}")
    done = runner.run("what-if.sh", RESOURCE_GROUP="rg", PARAMETERS="infra/params/minimal.bicepparam")
    assert done.returncode == code, done.stderr
    assert "```text\n  + Microsoft.Web/sites/new\n```" in runner.read("summary")
    assert "--validation-level ProviderNoRbac" in runner.read("asked")
    assert "deployment group what-if" in runner.read("asked")


def test_rolling_back_deploys_and_proves_the_earlier_package(runner: Runner) -> None:
    runner.has("python", "true")
    assert runner.run("roll-back.sh", "earlier", APP="app", RESOURCE_GROUP="rg").returncode == 0
    push, prove = runner.read("asked").splitlines()
    assert push == (
        "python -m release.publish push --app app --group rg --package earlier/call-keeper.zip --remote-build-if-needed"
    )
    assert prove.endswith("prove --app app --group rg --expected earlier/call-keeper.functions.txt")
    assert "Rolled back" in runner.read("summary")


# `python -m release.publish` as in the workflow's step, but with the address of the fake site, and without the minute.
PUBLISH = """import sys
sys.path.insert(0, {root!r})
from release import azure, publish
azure.find_app = lambda name, group: azure.App(name, group, {address!r}, {address!r})
sys.exit(publish.main([*sys.argv[1:], *(["--steady", "0"] if sys.argv[1] == "prove" else [])]))
"""


@pytest.mark.parametrize(
    ("libraries", "built"),
    [((), "true"), ((f"{LIBRARIES_FOLDER}/httpx.py",), "false")],
    ids=["without libraries", "with libraries"],
)
@pytest.mark.usefixtures("az")
def test_an_old_package_without_libraries_can_be_rolled_back_to(
    runner: Runner, site: Site, libraries: tuple[str, ...], built: str
) -> None:
    """Packages before decision 0027 had no libraries and no id. One of them may run before the next release."""
    earlier = runner.folder / "earlier"
    earlier.mkdir()
    with zipfile.ZipFile(earlier / "call-keeper.zip", "w") as archive:
        for name in ("function_app.py", "host.json", "requirements.txt", *libraries):
            archive.writestr(name, "")
    (earlier / "call-keeper.functions.txt").write_text("\n".join(NAMES), encoding="utf-8")
    script = runner.folder / "publish.py"
    script.write_text(PUBLISH.format(root=str(ROOT), address=site.app.address), encoding="utf-8")
    runner.has("python", f'exec {sys.executable} {script} "${{@:3}}"')
    done = runner.run("roll-back.sh", "earlier", APP="app", RESOURCE_GROUP="rg")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.asked[0] == f"POST /api/publish?RemoteBuild={built}&Deployer=call-keeper"
    assert site.uploaded == [(earlier / "call-keeper.zip").read_bytes()]
    assert "Rolled back" in runner.read("summary")


def test_a_roll_back_that_fails_does_not_say_that_it_happened(runner: Runner) -> None:
    runner.has("python", '[ "$3" = push ]')
    assert runner.run("roll-back.sh", "earlier", APP="app", RESOURCE_GROUP="rg").returncode != 0
    assert runner.read("summary") == ""
