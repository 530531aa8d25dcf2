"""The workflows are valid for GitHub, pass zizmor and actionlint, and call only what exists."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from pathspec import GitIgnoreSpec
from ruamel.yaml import YAML

from infra.directory import CLOUDS
from tests.release.reading import ROOT

type Tree = dict[str, "Tree | list[Tree] | str | int"]  # YAML, as far as these tests read it

FOLDER = ROOT / ".github"
BIN = Path(sys.executable).parent
WORKFLOWS = sorted(FOLDER.glob("workflows/*.yml"))
SCRIPTS = sorted(FOLDER.glob("scripts/*.sh"))
USES = re.compile(r"^\s*(?:- )?uses: (\S+)(.*)$", re.MULTILINE)
# All permissions of each job. A change of permissions must change this list too.
PERMISSIONS = {
    "ci.yml test": {"contents"},
    "ci.yml package": {"contents"},
    "ci.yml func": {"contents"},
    "ci.yml bicep": {"contents"},
    "ci.yml dependencies": {"contents"},
    "ci.yml workflows": {"contents"},
    "deploy.yml what-if": {"contents", "id-token"},
    "deploy.yml build": {"contents", "actions"},
    "deploy.yml staging": {"contents", "actions", "id-token"},
    "deploy.yml production": {"contents", "actions", "id-token"},
    "deploy-to.yml deploy": {"contents", "actions", "id-token"},
}

ROLLED_BACK = (
    "failure() && (steps.code.outcome == 'failure' || steps.proof.outcome == 'failure') "
    "&& steps.earlier.outputs.found == 'true'"
)
# All conditions of jobs and steps. A step without a condition runs only if all steps before it succeeded.
CONDITIONS = {
    "deploy.yml what-if": "github.event_name == 'pull_request' && contains(vars.DEPLOY, 'what-if') && "
    "github.event.pull_request.head.repo.full_name == github.repository",
    "deploy.yml build": "github.event_name != 'pull_request' && vars.DEPLOY != ''",
    "deploy.yml build: actions/setup-python": "inputs.run == ''",
    "deploy.yml build: make package-check": "inputs.run == ''",
    "deploy.yml build: Fetch the package of an earlier run instead": "inputs.run != ''",
    "deploy.yml staging": "contains(vars.DEPLOY, 'staging')",
    "deploy.yml production": "!cancelled() && needs.build.result == 'success' && "
    """contains(fromJSON('["success", "skipped"]'), needs.staging.result) && contains(vars.DEPLOY, 'production')""",
    "deploy-to.yml deploy: Log in again, because the first token may expire soon": ROLLED_BACK,
    "deploy-to.yml deploy: Roll back to the earlier package": ROLLED_BACK,
}


def name_of(path: Path) -> str:
    return path.name


def run(*command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def tree(path: Path) -> Tree:
    return cast("Tree", YAML(typ="safe", pure=True).load(path))  # YAML 1.2: `on` is a word, as GitHub reads it


def jobs() -> dict[str, Tree]:
    found = {f"{path.name} {name}": job for path in WORKFLOWS for name, job in cast("Tree", tree(path)["jobs"]).items()}
    return cast("dict[str, Tree]", found)


def steps(job: Tree) -> list[Tree]:
    return cast("list[Tree]", job.get("steps", []))


def shells() -> dict[str, str]:
    """Return every `run:` block by job and number."""
    return {
        f"{place} {number}": str(step["run"])
        for place, job in jobs().items()
        for number, step in enumerate(steps(job), 1)
        if "run" in step
    }


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        *(("github-workflows", path) for path in WORKFLOWS),
        ("dependabot", FOLDER / "dependabot.yml"),
    ],
    ids=lambda given: given.name if isinstance(given, Path) else given,
)
def test_a_file_is_valid_for_github(schema: str, file: Path) -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)


def test_zizmor_finds_nothing() -> None:
    found = run(BIN / "zizmor", "--offline", "--pedantic", "--no-progress", "--format=plain", ".")
    assert "No findings to report" in found.stdout + found.stderr


def test_zizmor_finds_careless_workflows(tmp_path: Path) -> None:
    """The audit above can fail."""
    workflow = tmp_path / ".github" / "workflows" / "careless.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(
        "on: pull_request_target\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n"
        "      - uses: actions/checkout@v6\n      - run: echo ${{ github.event.pull_request.title }}\n",
        encoding="utf-8",
    )
    done = subprocess.run([BIN / "zizmor", "--offline", tmp_path], capture_output=True, text=True, check=False)
    for finding in ("dangerous-triggers", "template-injection", "unpinned-uses", "excessive-permissions"):
        assert finding in done.stdout


def actionlint(*paths: Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run actionlint, which checks expressions and contexts, and shell in run blocks by shellcheck."""
    command: list[str | Path] = [BIN / "actionlint", "-no-color", "-shellcheck", BIN / "shellcheck", *paths]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_actionlint_finds_nothing() -> None:
    done = actionlint(*WORKFLOWS)
    assert (done.returncode, done.stdout) == (0, "")


def test_actionlint_finds_careless_workflows(tmp_path: Path) -> None:
    """The audit above can fail, by its own rules and by those of shellcheck."""
    workflow = tmp_path / "careless.yml"
    workflow.write_text(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo $UNQUOTED\n"
        "      - run: echo ${{ vras.NAME }}\n",
        encoding="utf-8",
    )
    done = actionlint(workflow, folder=tmp_path)
    for finding in ('undefined variable "vras"', "SC2086"):
        assert finding in done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_a_script_is_sound_shell(path: Path) -> None:
    run(BIN / "shellcheck", "--enable=quote-safe-variables", path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "set -euo pipefail" in text
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize("place", shells())
def test_a_run_block_is_short_sound_shell(place: str) -> None:
    text = shells()[place]
    assert "${{" not in text, "values of GitHub may contain quotes: pass them by env"
    assert len(text.splitlines()) <= 3, "longer blocks must be scripts"
    run(BIN / "shellcheck", "--shell=bash", "--exclude=SC2154", "-", text=text)  # variables are passed by env


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(path: Path) -> None:
    found = USES.findall(path.read_text(encoding="utf-8"))
    assert found
    for action, comment in found:
        assert not action.startswith("$/"), "GitHub Enterprise Server and actionlint do not support it"
        if action.startswith("./"):  # this repository, at the commit that runs
            assert (ROOT / action).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}{comment}"


def test_one_action_has_one_pin() -> None:
    pins = {use for path in WORKFLOWS for use in USES.findall(path.read_text(encoding="utf-8")) if "@" in use[0]}
    assert len(pins) == len({action.partition("@")[0] for action, _ in pins})


def test_the_permissions_are_those_of_this_list() -> None:
    actual = {place: job.get("permissions") for place, job in jobs().items()}
    assert {place: set(cast("Tree", may)) for place, may in actual.items()} == PERMISSIONS
    writes = {(key, value) for may in actual.values() for key, value in cast("Tree", may).items() if value != "read"}
    assert writes == {("id-token", "write")}
    assert [path.name for path in WORKFLOWS if tree(path)["permissions"] != {}] == []


def test_no_workflow_holds_a_secret() -> None:
    for path in WORKFLOWS:
        assert "secrets." not in path.read_text(encoding="utf-8")
        assert "secrets: inherit" not in path.read_text(encoding="utf-8")


def test_no_checkout_leaves_its_token_behind() -> None:
    checkouts = [
        step
        for job in jobs().values()
        for step in steps(job)
        if str(step.get("uses", "")).startswith("actions/checkout@")
    ]
    assert checkouts
    assert all(cast("Tree", step["with"])["persist-credentials"] is False for step in checkouts)


def test_every_job_has_a_timeout_and_a_named_runner() -> None:
    for place, job in jobs().items():
        if "uses" not in job:
            assert isinstance(job["timeout-minutes"], int), place
            assert job["runs-on"] == "ubuntu-24.04", place


def test_deployments_to_one_place_follow_one_another() -> None:
    concurrency = cast("Tree", jobs()["deploy-to.yml deploy"]["concurrency"])
    assert concurrency == {"group": "deploy-to-${{ inputs.environment }}", "cancel-in-progress": False}
    assert all("concurrency" in tree(path) for path in WORKFLOWS if path.name != "deploy-to.yml")


def test_what_the_workflows_call_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shell = "\n".join([*shells().values(), *(path.read_text(encoding="utf-8") for path in SCRIPTS)])
    made = set(re.findall(r"^\s*make ([a-z-]+)", shell, re.MULTILINE))
    assert {"package-check", "smoke"} <= made <= targets
    called = set(re.findall(r"\.(?:github/scripts|ci)/[\w.-]+", "\n".join(shells().values())))
    assert {ROOT / path for path in called} == {*SCRIPTS, ROOT / ".ci" / "run"}, "every script is used"
    for module in re.findall(r"python -m ([\w.]+)", shell):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_a_pull_request_of_a_fork_gets_no_token_of_azure() -> None:
    for place, job in jobs().items():
        if "id-token" in cast("Tree", job["permissions"]) and place.startswith("deploy.yml"):
            condition = str(job.get("if", ""))
            if "build" in str(job.get("needs", "")):
                continue  # no pull request runs it
            assert "head.repo.full_name == github.repository" in condition, place
    assert "github.event_name != 'pull_request'" in str(jobs()["deploy.yml build"]["if"])


def test_nothing_is_deployed_without_the_variable_deploy() -> None:
    for place, job in jobs().items():
        if place.startswith("deploy.yml"):
            assert "vars.DEPLOY" in str(job["if"]), place


def test_a_deployment_is_proved_and_what_is_proved_is_kept() -> None:
    names = [str(step.get("name") or step.get("uses")) for step in steps(jobs()["deploy-to.yml deploy"])]
    order = [
        *(
            "Fetch the package that runs now, for a rollback",
            "Deploy the infrastructure",
            "Deploy the code",
            "Prove that it runs",
        ),
        *("Store the package for a later rollback", "Roll back to the earlier package"),
    ]
    assert [name for name in names if name in order] == order


def test_only_code_that_was_not_deployed_or_not_proved_is_rolled_back() -> None:
    """The condition names only the steps `code` and `proof`, so proved code stays if a later step fails."""
    named = {step["id"]: step.get("run") for step in steps(jobs()["deploy-to.yml deploy"]) if "id" in step}
    where = '--app "$APP" --group "$RESOURCE_GROUP"'
    assert named == {
        "earlier": '.github/scripts/earlier-package.sh "deployed-$ENVIRONMENT" earlier',
        "infrastructure": ".github/scripts/infrastructure.sh",
        # A run by hand may deploy a package without libraries.
        "code": f"python -m release.publish push {where} --remote-build-if-needed",
        "proof": f"python -m release.publish prove {where}",
    }


def test_the_conditions_are_those_of_this_list() -> None:
    actual: list[tuple[str, str]] = []
    for place, job in jobs().items():
        if place.startswith("deploy"):
            actual += [(place, str(job["if"]))] if "if" in job else []
            named = [(str(step.get("name") or step.get("run") or step["uses"]), step) for step in steps(job)]
            actual += [(f"{place}: {name.partition('@')[0]}", str(step["if"])) for name, step in named if "if" in step]
    assert sorted((place, " ".join(condition.split())) for place, condition in actual) == sorted(CONDITIONS.items())


def test_no_failure_is_ignored() -> None:
    """With continue-on-error a failed step or job would not start the rollback."""
    for place, job in jobs().items():
        assert "continue-on-error" not in job, place
        assert [step for step in steps(job) if "continue-on-error" in step] == [], place
    for path in [*WORKFLOWS, *SCRIPTS]:
        assert "continue-on-error" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["package", "package-check"])
def test_the_package_is_built_without_node(tmp_path: Path, target: str) -> None:
    """A machine that deploys needs PyPI, but neither the npm registry nor Azurite."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "package-lock.json"):
        shutil.copy(ROOT / name, tmp_path)

    def would_run(goal: str) -> str:
        command = ["make", "--dry-run", goal]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert re.search(r"\bnpm\b.*azurite", would_run("smoke"), re.DOTALL | re.IGNORECASE), (
        "the search below can find something"
    )
    actual = would_run(target)
    assert "-m release.package" in actual
    assert re.findall(r"\bnpm\b|node_modules|azurite", actual, re.IGNORECASE) == []


@pytest.mark.parametrize("place", ["deploy.yml what-if", "deploy-to.yml deploy"])
def test_the_parameter_files_get_the_variables_that_they_read(place: str) -> None:
    read = {
        found
        for path in (ROOT / "infra" / "params").glob("*.bicepparam")
        for found in re.findall(r"readEnvironmentVariable\('(\w+)'", path.read_text(encoding="utf-8"))
    }
    assert read
    given = cast("Tree", jobs()[place]["env"])
    assert {name: f"${{{{ vars.{name} }}}}" for name in read}.items() <= given.items()
    assert given["PARAMETERS"] == "${{ vars.BICEP_PARAMETERS }}"
    assert given["RESOURCE_GROUP"] == "${{ vars.AZURE_RESOURCE_GROUP }}"


def test_the_deployment_passes_its_cloud_to_its_script() -> None:
    """Otherwise the command of the summary would ask the global Graph for an app of the government cloud."""
    given = cast("Tree", jobs()["deploy-to.yml deploy"]["env"])
    script = (FOLDER / "scripts" / "infrastructure.sh").read_text(encoding="utf-8")
    assert "AZURE_CLOUD" in script
    assert given["AZURE_CLOUD"] == "${{ vars.AZURE_CLOUD }}"


def logins() -> list[Tree]:
    every = [step for job in jobs().values() for step in steps(job)]
    return [cast("Tree", step["with"]) for step in every if str(step.get("uses", "")).startswith("azure/login@")]


def test_each_login_asks_for_the_audience_of_the_cloud_that_it_logs_in_to() -> None:
    assert len(logins()) == 3
    for login in logins():
        assert login["environment"] == "${{ vars.AZURE_CLOUD || 'azurecloud' }}"
        chosen = re.fullmatch(
            r"\$\{\{ vars\.AZURE_CLOUD == '(\w+)' && '(\S+)' \|\| '(\S+)' \}\}", str(login["audience"]).strip()
        )
        assert chosen is not None
        assert chosen.groups() == ("AzureUSGovernment", CLOUDS["usgov-l4"].audience, CLOUDS["global"].audience)


def test_missing_variables_are_named_before_the_login() -> None:
    for place in ("deploy.yml what-if", "deploy-to.yml deploy"):
        order = [str(step.get("run") or step.get("uses")).partition("@")[0] for step in steps(jobs()[place])]
        assert order.index(".github/scripts/check-variables.sh") < order.index("azure/login")
        assert order.index(".github/scripts/check-variables.sh") == 1, "right after the checkout"


def test_bicep_is_pinned_wherever_az_compiles_it() -> None:
    """`az deployment` compiles with the compiler of the runner, unless another is installed before."""
    scripts = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS}
    compiling = {name for name, text in scripts.items() if "az deployment" in text}
    assert {"infrastructure.sh", "what-if.sh"} <= compiling
    for job in jobs().values():
        called = [Path(str(step.get("run", ""))).name for step in steps(job)]
        for name in compiling & set(called):
            assert "install-bicep.sh" in called[: called.index(name)], name
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", (FOLDER / "scripts" / "bicep-version").read_text(encoding="utf-8"))
    assert 'az bicep install --version "v$version"' in scripts["install-bicep.sh"]


def read_by_what_if() -> set[str]:
    """Return the files that the what-if reads: templates with loaded files, parameters, workflows, scripts, pin."""
    files = {"bicepconfig.json", ".github/scripts/bicep-version", ".github/workflows/deploy.yml"}
    workflow = (FOLDER / "workflows" / "deploy.yml").read_text(encoding="utf-8")
    files |= {path.removeprefix("./") for path in re.findall(r"uses: (\./\S+)", workflow)}
    files |= set(re.findall(r"\.github/scripts/[\w.-]+", "\n".join(shells().values())))
    waiting = sorted((ROOT / "infra" / "params").glob("*.bicepparam"))
    while waiting:
        path = waiting.pop()
        name = str(path.relative_to(ROOT))
        if name not in files:
            files.add(name)
            text = path.read_text(encoding="utf-8")
            loaded = re.findall(r"^(?:using|module \w+) '(.*?)'|load\w+Content\('(.*?)'\)", text, re.MULTILINE)
            waiting += [(path.parent / (first or second)).resolve() for first, second in loaded]
    return files


def test_a_pull_request_that_changes_what_if_runs_it() -> None:
    triggers = cast("dict[str, Tree]", tree(FOLDER / "workflows" / "deploy.yml")["on"])
    watched = GitIgnoreSpec.from_lines([f"/{path}" for path in cast("list[str]", triggers["pull_request"]["paths"])])
    files = read_by_what_if()
    assert {"infra/main.bicep", "infra/queries/no-sweep.kql", ".github/workflows/deploy-to.yml"} <= files
    assert {name for name in files if not watched.match_file(name)} == set()


def test_the_outputs_that_are_read_of_a_deployment_exist() -> None:
    script = (FOLDER / "scripts" / "infrastructure.sh").read_text(encoding="utf-8")
    outputs = re.findall(r"(\w+)\.value\b", script)
    actual = re.findall(r"^output (\w+)", (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8"), re.MULTILINE)
    assert outputs
    assert set(outputs) <= set(actual)


def test_a_new_release_cools_down_before_it_is_proposed() -> None:
    updates = cast("list[Tree]", tree(FOLDER / "dependabot.yml")["updates"])
    assert {str(update["package-ecosystem"]) for update in updates} == {"pip", "npm", "github-actions"}
    assert all(int(str(cast("Tree", update["cooldown"])["default-days"])) >= 7 for update in updates)


def test_the_audits_of_the_workflows_are_those_that_are_pinned_here() -> None:
    audits = [re.findall(r"--extended-regexp '(.*?)'", shells()[f"ci.yml workflows {number}"]) for number in (3, 4)]
    for (pattern,) in audits:
        assert re.search(pattern, (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
