"""The workflows are what GitHub takes, safe as zizmor sees it, and call only what exists."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from ruamel.yaml import YAML

from tests.deploy.reading import ROOT

type Tree = dict[str, "Tree | list[Tree] | str | int"]  # YAML as far as these tests look

FOLDER = ROOT / ".github"
BIN = Path(sys.executable).parent
WORKFLOWS = sorted(FOLDER.glob("workflows/*.yml"))
SCRIPTS = sorted(FOLDER.glob("scripts/*.sh"))
USES = re.compile(r"^\s*(?:- )?uses: (\S+)(.*)$", re.MULTILINE)
# Each job's permissions, in full. What a job may do is decided here, not in passing.
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
    """Every `run:` block, by its place."""
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
def test_a_file_is_what_github_takes(schema: str, file: Path) -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)


def test_zizmor_has_nothing_to_say() -> None:
    found = run(BIN / "zizmor", "--offline", "--pedantic", "--no-progress", "--format=plain", ".")
    assert "No findings to report" in found.stdout + found.stderr


def test_zizmor_would_have_something_to_say(tmp_path: Path) -> None:
    """The audit that passes above is one that can fail."""
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
    assert "${{" not in text, "what GitHub fills in may hold quotes: hand it over by env"
    assert len(text.splitlines()) <= 3, "longer ones are scripts of their own"
    run(BIN / "shellcheck", "--shell=bash", "--exclude=SC2154", "-", text=text)  # variables come by env


@pytest.mark.parametrize("path", WORKFLOWS, ids=name_of)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(path: Path) -> None:
    found = USES.findall(path.read_text(encoding="utf-8"))
    assert found
    for action, comment in found:
        if action.startswith("$/"):  # this repository, at the commit that runs
            assert (ROOT / action.removeprefix("$/")).is_file()
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}{comment}"


def test_one_action_has_one_pin() -> None:
    pins = {use for path in WORKFLOWS for use in USES.findall(path.read_text(encoding="utf-8")) if "@" in use[0]}
    assert len(pins) == len({action.partition("@")[0] for action, _ in pins})


def test_each_job_may_do_what_is_written_here_and_no_more() -> None:
    told = {place: job.get("permissions") for place, job in jobs().items()}
    assert {place: set(cast("Tree", may)) for place, may in told.items()} == PERMISSIONS
    writes = {(key, value) for may in told.values() for key, value in cast("Tree", may).items() if value != "read"}
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


def test_every_job_ends_in_time_on_a_runner_that_is_named() -> None:
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
    assert {ROOT / path for path in called} == {*SCRIPTS, ROOT / ".ci" / "run"}, "and no script is left over"
    for module in re.findall(r"python -m ([\w.]+)", shell):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_a_pull_request_of_a_fork_gets_no_token_of_azure() -> None:
    for place, job in jobs().items():
        if "id-token" in cast("Tree", job["permissions"]) and place.startswith("deploy.yml"):
            condition = str(job.get("if", ""))
            if "build" in str(job.get("needs", "")):
                continue  # which no pull request runs
            assert "head.repo.full_name == github.repository" in condition, place
    assert "github.event_name != 'pull_request'" in str(jobs()["deploy.yml build"]["if"])


def test_nothing_is_deployed_where_nobody_asked_for_it() -> None:
    for place, job in jobs().items():
        if place.startswith("deploy.yml"):
            assert "vars.DEPLOY" in str(job["if"]), place


def test_a_deployment_is_proved_and_what_is_proved_is_kept() -> None:
    names = [str(step.get("name") or step.get("uses")) for step in steps(jobs()["deploy-to.yml deploy"])]
    order = [
        *(
            "Fetch the package that runs now, to roll back to",
            "Deploy the infrastructure",
            "Deploy the code",
            "Prove it",
        ),
        *("Keep the package as the one to roll back to", "Roll back to the earlier package"),
    ]
    assert [name for name in names if name in order] == order


def test_the_parameter_files_get_the_variables_that_they_read() -> None:
    read = {
        found
        for path in (ROOT / "infra" / "params").glob("*.bicepparam")
        for found in re.findall(r"readEnvironmentVariable\('(\w+)'", path.read_text(encoding="utf-8"))
    }
    assert read
    for place in ("deploy.yml what-if", "deploy-to.yml deploy"):
        (given,) = [cast("Tree", step["env"]) for step in steps(jobs()[place]) if "PARAMETERS" in str(step.get("env"))]
        assert {name: f"${{{{ vars.{name} }}}}" for name in read}.items() <= given.items()


def test_the_outputs_that_are_read_of_a_deployment_exist() -> None:
    script = (FOLDER / "scripts" / "infrastructure.sh").read_text(encoding="utf-8")
    outputs = re.findall(r"properties\.outputs\.(\w+)\.value", script)
    told = re.findall(r"^output (\w+)", (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8"), re.MULTILINE)
    assert outputs
    assert set(outputs) <= set(told)


def test_a_new_release_cools_down_before_it_is_proposed() -> None:
    updates = cast("list[Tree]", tree(FOLDER / "dependabot.yml")["updates"])
    assert {str(update["package-ecosystem"]) for update in updates} == {"pip", "npm", "github-actions"}
    assert all(int(str(cast("Tree", update["cooldown"])["default-days"])) >= 7 for update in updates)


def test_the_audit_of_the_workflow_is_the_one_that_is_pinned_here() -> None:
    (pattern,) = re.findall(r"--extended-regexp '(.*?)'", shells()["ci.yml workflows 3"])
    assert re.search(pattern, (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
