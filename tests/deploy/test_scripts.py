"""What the workflows' scripts do, with a `gh` and an `az` that are scripts too."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.reading import ROOT

SCRIPTS = ROOT / ".github" / "scripts"


@dataclass(frozen=True)
class Runner:
    """A runner of GitHub: its own commands first on the path, and the files that a step writes to."""

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


def test_the_earlier_package_is_the_newest_that_was_kept_by_another_run(runner: Runner) -> None:
    runner.has(
        "gh", 'case "$*" in "run list"*) printf "33\\n32\\n31\\n30\\n";; "run download 31 "*) ;; *) exit 1;; esac'
    )
    done = runner.run("earlier-package.sh", "deployed-production", "earlier")
    assert done.returncode == 0, done.stderr
    assert runner.read("output") == "found=true\n"
    downloads = [line for line in runner.read("asked").splitlines() if "download" in line]
    assert [line.split()[3] for line in downloads] == ["32", "31"]
    assert downloads[-1].endswith("--name deployed-production --dir earlier")


def test_without_an_earlier_package_the_deployment_goes_on_and_says_so(runner: Runner) -> None:
    runner.has("gh", 'case "$*" in "run list"*) ;; *) exit 1;; esac')
    done = runner.run("earlier-package.sh", "deployed-production", "earlier")
    assert done.returncode == 0
    assert runner.read("output") == "found=false\n"
    assert "::notice::no earlier package" in done.stdout


def test_runs_that_cannot_be_listed_stop_the_deployment(runner: Runner) -> None:
    """Better no deployment than one that could not be rolled back and does not know it."""
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
    ("run", "told"),
    [
        ("12", ".github/workflows/deploy.yml pull_request main"),
        ("12", ".github/workflows/ci.yml push main"),
        ("12", ".github/workflows/deploy.yml push elsewhere"),
        ("12", ""),
        ("12; echo", ".github/workflows/deploy.yml push main"),
        ("../12", ".github/workflows/deploy.yml push main"),
    ],
)
def test_what_anybody_could_have_kept_is_not_deployed(runner: Runner, run: str, told: str) -> None:
    runner.has("gh", f'echo "{told}"')
    done = runner.run("package-of-run.sh", run, "call-keeper", "dist")
    assert done.returncode == 1
    assert "is no run of deploy.yml that deployed from main" in done.stdout
    assert "download" not in runner.read("asked")


def test_the_infrastructure_hands_on_the_name_of_the_app(runner: Runner) -> None:
    runner.has("az", "echo func-call-keeper-abc")
    done = runner.run("infrastructure.sh", RESOURCE_GROUP="rg", PARAMETERS="")
    assert done.returncode == 0, done.stderr
    assert runner.read("output") == "app=func-call-keeper-abc\n"
    assert "--resource-group rg --parameters infra/params/production.bicepparam" in runner.read("asked")


@pytest.mark.parametrize("body", ["echo 'no quota' >&2; exit 1", "true"])
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


@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 1", 1)])
def test_what_if_stands_in_the_summary_whether_it_succeeds_or_not(runner: Runner, end: str, code: int) -> None:
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
    assert push == "python -m local.publish push --app app --group rg --package earlier/call-keeper.zip"
    assert prove.endswith("prove --app app --group rg --expected earlier/call-keeper.functions.txt")
    assert "Rolled back" in runner.read("summary")


def test_a_roll_back_that_fails_does_not_say_that_it_happened(runner: Runner) -> None:
    runner.has("python", '[ "$3" = push ]')
    assert runner.run("roll-back.sh", "earlier", APP="app", RESOURCE_GROUP="rg").returncode != 0
    assert runner.read("summary") == ""
