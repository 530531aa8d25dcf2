"""`make` installs what is missing, and says in one line what it cannot install. Pins agree with pyproject.toml."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local.stack.stack import ROOT

pytestmark = pytest.mark.timeout(180)

NOWHERE = "http://127.0.0.1:9/"
OFFLINE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_FIND_LINKS": "",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_INDEX_URL": NOWHERE,
    "npm_config_registry": NOWHERE,
    "npm_config_cache": "npm-cache",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the repository that needs no package from the network."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "requirements-dev.txt"):
        (tmp_path / name).touch()
    (tmp_path / "here").mkdir()
    here = {"name": "here", "version": "1.0.0"}
    whole = {"name": "whole", "version": "1.0.0", "dependencies": {"here": "file:here"}}
    link = {"resolved": "here", "link": True}
    lock = {**here, "lockfileVersion": 3, "packages": {"": whole, "here": here, "node_modules/here": link}}
    for path, content in (("package.json", whole), ("here/package.json", here), ("package-lock.json", lock)):
        (tmp_path / path).write_text(json.dumps(content))
    return tmp_path


def make(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run make, and return its exit code and stderr without make's own lines."""
    ended = subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        env={**os.environ, **OFFLINE, "MAKEFLAGS": "", "MAKELEVEL": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, [line for line in ended.stderr.splitlines() if not line.startswith("make")]


def test_without_python_one_line_says_what_to_do(clone: Path) -> None:
    code, lines = make(clone, "PYTHON=/nonexistent", "demo")
    assert code
    assert lines == [
        "call-keeper: Python 3.13 is missing. Install it, or name its path: make PYTHON=/path/to/python3.13"
    ]


def test_an_interrupted_set_up_is_repeated_and_a_second_does_nothing(clone: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / ".unfinished").touch()
    python = clone / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert make(clone, "-j2", "setup") == (0, [])
    assert "Python 3.13" in subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout

    stamp = (clone / ".venv" / ".python").stat().st_mtime_ns
    assert make(clone, "setup") == (0, [])
    assert (clone / ".venv" / ".python").stat().st_mtime_ns == stamp


def test_without_a_network_one_line_says_so(clone: Path) -> None:
    (clone / "requirements-dev.txt").write_text("no-such-package==1.0\n")
    code, lines = make(clone, "setup")
    assert code
    assert lines == [
        "call-keeper: Python packages could not be installed. Can the package index be reached? See .venv/setup.log"
    ]


def _direct(*groups: str) -> list[Requirement]:
    found: list[str] = list(PROJECT["project"]["dependencies"]) if "app" in groups else []
    for group in set(groups) - {"app"}:
        found += [one for one in PROJECT["dependency-groups"][group] if isinstance(one, str)]
    return [Requirement(one) for one in found]


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(found[1]): found[2] for line in lines if (found := re.match(r"([\w.-]+)==(\S+)", line))}


@pytest.mark.parametrize(
    ("file", "groups"),
    [("requirements.txt", ("app",)), ("requirements-dev.txt", ("app", "local", "dev"))],
    ids=["app", "development"],
)
def test_every_direct_dependency_is_pinned_within_its_range(file: str, groups: tuple[str, ...]) -> None:
    pins = _pins(file)
    for wanted in _direct(*groups):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


def test_both_files_pin_the_same_versions() -> None:
    app, dev = _pins("requirements.txt"), _pins("requirements-dev.txt")
    assert {name: version for name, version in dev.items() if name in app} == app
