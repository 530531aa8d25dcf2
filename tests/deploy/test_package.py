"""The package that is deployed: what is in it, that it is always the same, and that the worker can load it."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from local import package, package_check
from local.package import PARTS, Package
from tests.deploy.reading import ROOT, RULES, Reading, as_core_tools, as_git
from tests.functions.harness import ROUTES

READINGS = {
    "git": as_git(RULES),
    "func": as_core_tools(RULES),
    "func of earlier versions": as_core_tools(RULES, whole_words=False),
}
JUNK = [  # what a working folder holds that git does not track
    *("scratch_env/bin/python", "a_env/lib/x.py"),
    *(".venv/bin/python", ".git/HEAD", ".coverage", ".azure/dev/.env", ".mypy_cache/3.13/cache.db", ".vscode/a.json"),
    *("node_modules/.azurite", "node_modules/.bin/azurite", "node_modules/@azure/core/a.js", "node_modules/a/b.py"),
    *("local.settings.json", "dist/call-keeper.zip", "htmlcov/index.html", "build/lib/x.py", "venv/bin/python"),
    *("__pycache__/function_app.cpython-313.pyc", "functions/__pycache__/calls.cpython-313.pyc"),
    *("shared/deeper/__pycache__/x.pyc", ".python_packages/lib/site-packages/a.py", ".funcignore"),
]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return package.build(ROOT, tmp_path_factory.mktemp("package") / "call-keeper.zip")


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_each_tool_leaves_out_all_but_the_app(reading: Reading) -> None:
    """What is tracked is in by being a part of the app, or out by a rule: nothing is in by accident."""
    assert [name for name in tracked() if reading(name) == (name.split("/")[0] in PARTS)] == []


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
@pytest.mark.parametrize("name", JUNK)
def test_each_tool_leaves_out_what_lies_about_in_a_working_folder(reading: Reading, name: str) -> None:
    assert reading(name)


def test_the_readings_differ_where_the_rules_are_careless() -> None:
    """Why the rules are written as they are: these, which git obeys, would have `func` ship the files."""
    careless = "/node_modules/\n__pycache__/\n"
    func, git = as_core_tools(careless), as_git(careless)
    for name in ("node_modules/.bin/azurite", "node_modules/@azure/core/a.js", "functions/__pycache__/calls.pyc"):
        assert git(name)
        assert not func(name)
    assert as_core_tools("shared", whole_words=False)("shared/calls.py")


def test_the_package_is_the_tracked_app(built: Package) -> None:
    tests_and_such = {"tests", "simulator", "local", "docs", "infra", "bench", ".github"}
    assert {name for name in tracked() if name.split("/")[0] in PARTS and (ROOT / name).exists()} <= set(built.sizes)
    assert {name.split("/")[0] for name in built.sizes} == PARTS
    assert {part for name in built.sizes for part in name.split("/")}.isdisjoint(tests_and_such)
    with zipfile.ZipFile(built.path) as archive:
        assert archive.namelist() == sorted(built.sizes)
        assert archive.testzip() is None


def a_copy_of_the_app(folder: Path) -> Path:
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    (folder / ".funcignore").write_text(RULES, encoding="utf-8")
    return folder


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    first = package.build(app, tmp_path / "dist" / "first.zip")
    for path in app.rglob("*.py"):  # another time, other modes: another machine
        os.utime(path, (1, 1))
        path.chmod(0o755)
    second = package.build(app, tmp_path / "dist" / "second.zip")
    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()
    (app / "host.json").write_text("{}", encoding="utf-8")
    assert package.build(app, tmp_path / "dist" / "third.zip").sha256 != first.sha256


def test_what_is_no_part_of_the_app_is_not_deployed_by_accident(tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    (app / "notes.txt").write_text("to do", encoding="utf-8")
    with pytest.raises(package_check.PackageError, match=r"notes\.txt would be deployed: name it in \.funcignore"):
        package.chosen(app)


def test_a_rule_that_drops_a_part_of_the_app_is_refused(tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    (app / ".funcignore").write_text(RULES + "\nshared\n", encoding="utf-8")
    with pytest.raises(package_check.PackageError, match=r"shared would not be deployed"):
        package.chosen(app)


def pinned() -> set[str]:
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([\w.-]+)==", pins, re.MULTILINE))


@pytest.fixture(scope="module")
def requirements_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that sees the distributions of requirements.txt and the worker, and no other: links, no downloads.

    `make package-check` does the same with pip.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in pinned() | {"azure-functions-runtime", "azurefunctions-extensions-base"}:
        for file in importlib.metadata.files(name) or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                link = site / file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.locate())
    return folder / "bin" / "python"


def test_the_worker_finds_all_functions_with_the_requirements_alone(built: Package, requirements_alone: Path) -> None:
    expected = {route.name for route in ROUTES} | {"keep_alive_timer", "keep_alive_queue"}
    assert set(package_check.functions_of(built.path, requirements_alone)) == expected


def test_a_package_that_lacks_a_module_is_refused_though_the_repository_has_it(
    built: Package, requirements_alone: Path, tmp_path: Path
) -> None:
    poor = tmp_path / "poor.zip"
    with zipfile.ZipFile(built.path) as whole, zipfile.ZipFile(poor, "w") as part:
        for name in whole.namelist():
            if name != "shared/calls.py":
                part.writestr(name, whole.read(name))
    with pytest.raises(package_check.PackageError, match=r"does not load.*shared\.calls"):
        package_check.functions_of(poor, requirements_alone)


def test_what_requirements_do_not_name_is_not_there(requirements_alone: Path) -> None:
    done = subprocess.run([requirements_alone, "-c", "import starlette"], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_the_worker_library_that_is_deployed_is_the_one_that_runs_the_tests() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert pins["azure-functions-runtime"] == importlib.metadata.version("azure-functions-runtime")


def test_nothing_else_of_the_platforms_worker_is_deployed() -> None:
    assert pinned().isdisjoint({"azure-functions-runtime-v1", "azure-functions-worker", "grpcio", "protobuf"})


def test_the_command_writes_the_names_of_the_functions_beside_the_zip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert package.main(["--output", str(tmp_path / "app.zip")]) == 0
    names = (tmp_path / "app.functions.txt").read_text(encoding="utf-8").split()
    assert names == sorted(names)
    assert {"health", "keep_alive_timer"} <= set(names)
    told = capsys.readouterr().out
    assert "  host.json\n" in told
    assert re.search(r"^sha256     [0-9a-f]{64}$", told, re.MULTILINE)
