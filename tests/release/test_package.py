"""The package: its content, equal bytes for each build, and that it runs with its own libraries."""

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import distribution, distributions, version
from pathlib import Path

import pytest

import shared
from release import libraries, package, package_check, push, smoke
from release.libraries import LIBRARIES_FOLDER, PackageError
from release.package import APP_PARTS
from tests.functions.harness import ROUTES
from tests.release.reading import ROOT, RULES, Reading, as_core_tools, as_git

NAMES = sorted([*(route.name for route in ROUTES), "keep_alive_timer", "keep_alive_queue"])
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
READINGS = {
    "git": as_git(RULES),
    "func": as_core_tools(RULES),
    "func of earlier versions": as_core_tools(RULES, whole_words=False),
}
JUNK = [  # files of a working folder that git does not track
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
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The path that `make package` writes, and its output."""
    target = tmp_path_factory.mktemp("package") / "call-keeper.zip"
    with redirect_stdout(io.StringIO()) as printed:
        assert package.main(["--output", str(target)]) == 0
    return target, printed.getvalue()


@pytest.fixture(scope="module")
def built(made: tuple[Path, str]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def site(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libraries of the package."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    return folder / LIBRARIES_FOLDER


@contextmanager
def changed(path: Path, content: bytes | None = None) -> Iterator[None]:
    """Remove or replace a file or folder of the unpacked package inside a `with` block."""
    away = path.rename(path.with_name(f"{path.name}.away"))
    try:
        if content is not None:
            path.write_bytes(content)
        yield
    finally:
        path.unlink(missing_ok=True)
        away.rename(path)


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_each_tool_excludes_all_but_the_app(reading: Reading) -> None:
    """Each tracked file is a part of the app or is excluded by a rule, so nothing is deployed by accident."""
    assert [name for name in tracked() if reading(name) == (name.split("/")[0] in APP_PARTS)] == []


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
@pytest.mark.parametrize("name", JUNK)
def test_each_tool_excludes_untracked_files_of_a_working_folder(reading: Reading, name: str) -> None:
    assert reading(name)


def test_the_readings_differ_where_the_rules_are_careless() -> None:
    """With these careless rules git would exclude the files, but `func` would deploy them."""
    careless = "/node_modules/\n__pycache__/\n"
    func, git = as_core_tools(careless), as_git(careless)
    for name in ("node_modules/.bin/azurite", "node_modules/@azure/core/a.js", "functions/__pycache__/calls.pyc"):
        assert git(name)
        assert not func(name)
    assert as_core_tools("shared", whole_words=False)("shared/domain/calls.py")


def test_the_package_is_the_tracked_app_with_its_libraries(built: Path, site: Path) -> None:
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names == sorted(names)
    assert {name for name in tracked() if name.split("/")[0] in APP_PARTS and (ROOT / name).exists()} <= set(names)
    assert {name.split("/")[0] for name in names} == APP_PARTS | {".python_packages", "__pycache__"}
    ours = {part for name in names if not name.startswith(LIBRARIES_FOLDER) for part in name.split("/")}
    assert ours.isdisjoint({"tests", "simulator", "local", "docs", "infra", "bench", ".github"})
    assert {each.name.lower().replace("_", "-"): each.version for each in distributions(path=[str(site)])} == PINS


def test_every_file_can_be_read_where_the_zip_is_mounted(built: Path) -> None:
    """Azure mounts the zip as a file system. Without Unix modes the host can read nothing, and finds 0 functions."""
    with zipfile.ZipFile(built) as archive:
        assert {(entry.create_system, entry.external_attr >> 16) for entry in archive.infolist()} == {(3, 0o100644)}


def test_every_module_is_compiled_and_not_compared_with_its_source(site: Path) -> None:
    app = site.parents[2]
    modules = {path.relative_to(app) for path in app.rglob("*.py")}
    compiled = list(app.rglob("*.pyc"))
    assert len(compiled) == len(modules)
    assert {path.read_bytes()[4] for path in compiled} == {1}, "PEP 552: by hash, unchecked"


def test_entry_points_are_kept(site: Path) -> None:
    """OpenTelemetry finds its plug-ins by entry points."""
    kept = {each.name: set(each.entry_points.names) for each in distributions(path=[str(site)])}
    assert kept["opentelemetry-sdk"]
    assert {name for name in kept if kept[name] != set(distribution(name).entry_points.names)} == set()


def test_nothing_in_it_names_this_machine_or_the_installer(site: Path) -> None:
    app = site.parents[2]
    assert not (site / "bin").exists()
    assert {path.name for path in app.rglob("*")}.isdisjoint({"INSTALLER", "REQUESTED", "direct_url.json", ".lock"})
    places = [str(place).encode() for place in (ROOT, sys.prefix, tempfile.gettempdir() + "/call-keeper")]
    assert [path for path in app.rglob("*") if path.is_file() and any(at in path.read_bytes() for at in places)] == []
    for about in site.glob("*.dist-info/RECORD"):
        lines = about.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not (site / line.rpartition(",")[0].rpartition(",")[0]).is_file()] == []


def a_copy_of_the_app(folder: Path) -> Path:
    for name in APP_PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    (folder / ".funcignore").write_text(RULES, encoding="utf-8")
    return folder


def test_the_same_files_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    for path in app.rglob("*.py"):  # other times, modes and folder, as on another machine
        os.utime(path, (1, 1))
        path.chmod(0o755)
    again = package.build(app, tmp_path / "dist" / "again.zip")
    assert again.path.read_bytes() == built.read_bytes()


def test_it_carries_an_id_that_changes_with_its_content(built: Path, site: Path, tmp_path: Path) -> None:
    identity = built.with_suffix(".build.txt").read_text(encoding="utf-8").strip()
    assert re.fullmatch(r"[0-9a-f]{16}", identity)
    assert (site.parents[2] / package.BUILD_FILE).read_text(encoding="ascii").strip() == identity
    stage = shutil.copytree(site.parents[2], tmp_path / "stage")
    assert package._write_build_id(stage) == identity, "the id does not include itself"
    changed_file = stage / "functions" / "service.py"
    changed_file.write_bytes(changed_file.read_bytes() + b"\n")
    other = package._write_build_id(stage)
    assert other != identity
    changed_file.rename(changed_file.with_name("renamed.py"))
    assert package._write_build_id(stage) not in {identity, other}


def test_a_working_copy_has_no_id() -> None:
    assert not (ROOT / package.BUILD_FILE).exists()
    assert shared.BUILD is None


def test_a_file_that_is_no_part_of_the_app_is_refused(tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    (app / "notes.txt").write_text("to do", encoding="utf-8")
    with pytest.raises(PackageError, match=r"notes\.txt would be deployed: name it in \.funcignore"):
        package.app_files(app)


def test_a_rule_that_drops_a_part_of_the_app_is_refused(tmp_path: Path) -> None:
    app = a_copy_of_the_app(tmp_path)
    (app / ".funcignore").write_text(RULES + "\nshared\n", encoding="utf-8")
    with pytest.raises(PackageError, match=r"shared would not be deployed"):
        package.app_files(app)


class TestLibraries:
    def test_a_library_that_is_not_pinned_is_refused(self, site: Path, tmp_path: Path) -> None:
        pins = tmp_path / "requirements.txt"
        pins.write_text("".join(f"{name}=={pin}\n" for name, pin in PINS.items() if name != "frozenlist"), "utf-8")
        with pytest.raises(PackageError, match=r"does not pin what is installed \(frozenlist\): run make lock"):
            libraries._check_pins(pins, site)

    def test_a_missing_wheel_is_an_error(self, tmp_path: Path) -> None:
        pins = tmp_path / "requirements.txt"
        pins.write_text(f"nowhere @ {(tmp_path / 'nowhere-1.0-py3-none-any.whl').as_uri()}\n", encoding="utf-8")
        with pytest.raises(PackageError, match=r"could not be fetched: .*nowhere"):
            libraries.fetch_wheels(pins, tmp_path / "site")

    def test_a_module_that_does_not_compile_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "wrong.py").write_text("def (:\n", encoding="utf-8")
        with pytest.raises(PackageError, match=r"cannot be compiled: .*wrong\.py"):
            libraries.compile_all(tmp_path)

    def test_another_python_does_not_compile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(libraries, "PYTHON", (3, 14))
        with pytest.raises(PackageError, match=r"compiled for Python 3\.14"):
            libraries.compile_all(tmp_path)

    def test_the_platform_is_the_one_of_the_infrastructure(self) -> None:
        bicep = (ROOT / "infra" / "modules" / "function-app.bicep").read_text(encoding="utf-8")
        assert "version: '{}.{}'".format(*libraries.PYTHON) in bicep

    def test_the_worker_library_that_is_deployed_is_the_one_that_runs_the_tests(self) -> None:
        assert PINS["azure-functions-runtime"] == version("azure-functions-runtime")

    def test_nothing_else_of_the_platforms_worker_is_deployed(self) -> None:
        assert PINS.keys().isdisjoint({"azure-functions-runtime-v1", "azure-functions-worker", "grpcio", "protobuf"})


needs_linux = pytest.mark.skipif(
    not package_check.runs_here(), reason="this machine cannot load the package's libraries"
)


class TestProof:
    def test_a_package_that_exists_is_proved_by_its_own_libraries(
        self, built: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert package_check.main([str(built)]) == 0
        printed, *names = capsys.readouterr().out.splitlines()
        assert [name.strip() for name in names] == NAMES
        assert f"{len(NAMES)} functions are found and openapi answers" in printed
        assert ("with the package's own libraries alone" in printed) == package_check.runs_here()

    def test_a_package_that_does_not_exist_is_an_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert package_check.main(["none.zip"]) == 1
        assert "package: failed: " in capsys.readouterr().err

    def test_another_machine_says_that_it_used_its_own(self, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "arm64")
        proved = package_check.check_unpacked(site.parents[2])
        assert list(proved.functions) == NAMES
        assert "with THIS MACHINE's libraries" in str(proved)

    def test_an_older_glibc_is_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.17"))
        assert not package_check.runs_here()

    @needs_linux
    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("shared/domain/calls.py", r"does not load: .*shared\.domain\.calls"),  # the repository has it
            (f"{LIBRARIES_FOLDER}/pydantic_settings", r"does not load: .*pydantic_settings"),  # this environment has it
        ],
        ids=["module of the app", "library"],
    )
    def test_a_missing_module_is_not_found_elsewhere(self, site: Path, missing: str, message: str) -> None:
        app = site.parents[2]
        with changed(app / missing), pytest.raises(PackageError, match=message):
            package_check.check_unpacked(app)

    @needs_linux
    def test_a_native_file_that_does_not_load_is_an_error(self, site: Path) -> None:
        (native,) = site.glob("psutil/_psutil_linux*.so")
        with changed(native, b"\x7fELF and no more"), pytest.raises(PackageError, match=r"does not load: .*_psutil"):
            package_check.check_unpacked(site.parents[2])

    def test_a_function_that_fails_fails_the_proof(self, site: Path) -> None:
        app = site.parents[2]
        (compiled,) = app.glob("functions/__pycache__/openapi.*.pyc")
        with (
            changed(app / "functions" / "openapi.py", b"raise RuntimeError('broken')"),
            changed(compiled),
            pytest.raises(PackageError, match="openapi answers 500"),
        ):
            package_check.check_unpacked(app)

    def test_a_package_without_libraries_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"there are no libraries in site-packages"):
            package_check.check_unpacked(tmp_path)


def test_the_command_lists_parts_and_writes_the_names_of_the_functions(made: tuple[Path, str]) -> None:
    target, printed = made
    assert (target.with_suffix(".functions.txt")).read_text(encoding="utf-8").split() == NAMES
    listed = re.findall(r"^ +([\d,]+)  (\S.*)$", printed, re.MULTILINE)
    *parts, (whole, files) = listed
    assert {*APP_PARTS, f"aiohttp {PINS['aiohttp']}"} <= {name for _, name in parts}
    assert len(parts) == len(APP_PARTS) + len(PINS), "each file belongs to a part"
    assert sum(int(size.replace(",", "")) for size, _ in parts) == int(whole.replace(",", ""))
    assert re.fullmatch(r"in [\d,]+ files", files)
    assert re.search(r"^sha256     [0-9a-f]{64}$", printed, re.MULTILINE)
    assert re.search(r"^build      [0-9a-f]{16}, which health reports", printed, re.MULTILINE)
    assert printed.index("fetching the wheels") < printed.index("sha256"), "the slow step is announced before it runs"
    assert f"proved     {len(NAMES)} functions are found" in printed


def test_a_host_runs_the_package(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = built.with_suffix(".functions.txt")
    assert smoke.main(["--package", str(built), "--expected", str(names)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert f"smoke: ok: {len(NAMES)} functions" in printed
    identity = built.with_suffix(".build.txt").read_text(encoding="utf-8").strip()
    assert f'"build":"{identity}"' in printed, "health reports which package runs"


@needs_linux
def test_a_host_runs_neither_the_repositorys_app_nor_this_environments_libraries(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("host.json", (ROOT / "host.json").read_text(encoding="utf-8"))
        archive.writestr("function_app.py", "import msal\nraise RuntimeError(msal.WHOSE)\n")
        archive.writestr(f"{LIBRARIES_FOLDER}/msal.py", "WHOSE = 'of this package'\n")
    assert smoke.main(["--package", str(other), "--expected", str(built.with_suffix(".functions.txt"))]) == 1
    assert "of this package" in capsys.readouterr().err


def test_a_package_that_cannot_be_built_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (a_copy_of_the_app(tmp_path) / "notes.txt").touch()
    assert package.main(["--root", str(tmp_path), "--output", str(tmp_path / "dist" / "app.zip")]) == 1
    assert "package: failed: notes.txt would be deployed" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


def test_the_upload_knows_where_the_libraries_are() -> None:
    assert f"{LIBRARIES_FOLDER}/" == push.LIBRARIES_FOLDER
