"""The commands of operators need Python's standard library, `az` and `gh` only: no set-up, no virtual environment."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.operators import RUN_BY_OPERATORS

ROOT = Path(__file__).parents[2]
IMPORTED = (
    "infra.arguments",
    "infra.azure_rights",
    "infra.commands",
    "infra.directory",
    "infra.github",
    "infra.parameters",
    "release.azure",
    "release.flex",
    "release.http_requests",
    "release.proof",
    "release.push",
    "release.waiting",
)
WATCH = """
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
names = {name.partition(".")[0] for name in sys.modules}
print("STRANGE", sorted(names - sys.stdlib_module_names - {"__main__", "__mp_main__", "infra", "release"}))
sys.exit(code)
"""


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python without installed packages (-S), without its variables (-E) and with an empty PATH."""
    command = [sys.executable, "-S", "-E", "-s", *arguments]
    env = {"PATH": os.devnull, "HOME": os.devnull}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("module", RUN_BY_OPERATORS)
def test_a_command_of_operators_runs_with_the_standard_library_only(module: str) -> None:
    done = bare("-c", WATCH, module)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert "STRANGE []" in done.stdout


@pytest.mark.parametrize("module", [*RUN_BY_OPERATORS, *IMPORTED])
def test_a_module_of_operators_is_valid_for_the_oldest_python_that_they_have(module: str) -> None:
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 10))


def test_the_bare_interpreter_has_no_packages() -> None:
    """If this fails, the tests above prove nothing."""
    assert "No module named 'httpx'" in bare("-c", "import httpx").stderr


def test_without_az_the_grant_prints_one_line() -> None:
    ids = ["--bot-app-id", "11111111-0000-4000-8000-000000000001"]
    ids += ["--identity-principal-id", "22222222-0000-4000-8000-000000000001"]
    done = bare("-m", "infra.grant_graph_permissions", *ids)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "failed: token: az is not installed. See https://aka.ms/azure-cli. Run az login, in the right cloud\n"
    )
