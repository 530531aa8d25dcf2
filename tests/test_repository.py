"""Rules of the repository: who imports whom, what importing costs, what no file may hold."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from shared import VERSION
from tests.support.case_ids import unreadable_parts

ROOT = Path(__file__).parents[1]
# Top to bottom: a part of `shared` may import only those after it. The product's version, in `shared`, is for all.
LAYERS = (
    *("services", "health", "api", "keeping", "relay", "auth", "graph", "storage", "config", "telemetry", "domain"),
    *("untrusted_json", "http_client", "model", "identifiers", "addresses", "urls", "clock", "errors"),
)
DOES_IO = {
    *("aiohttp", "asyncio", "azure", "http", "httpx", "os", "queue", "requests", "socket", "sqlite3", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "urllib.request"),
}
HEAVY = (
    *("aiohttp", "azure.core", "azure.data.tables", "azure.identity", "azure.monitor", "azure.storage", "cryptography"),
    *("httpx", "jwt", "msal", "opentelemetry.sdk"),
)
OUTSIDE = {
    *("function_app", "simulator", "local", "doctor", "release", "tools", "bench", "soak", "infra", "examples"),
    "tests",
}
APP = {"shared", "functions", "function_app"}
ARROWS = [  # folder, what it must not import
    ("shared", {"azure.functions", "functions", *OUTSIDE}),
    ("functions", OUTSIDE),
    ("simulator", {*APP, *OUTSIDE} - {"simulator"}),
    ("local", {*APP, *OUTSIDE} - {"local", "simulator"}),
    ("local/host", {*APP, *OUTSIDE} - {"local"}),
    ("release", {*APP, "simulator", "soak", "bench", "doctor", "tests"}),
    ("doctor", {"functions", "function_app", "simulator", "soak", "bench", "tests"}),
    ("soak", {"functions", "function_app", "simulator", "local", "doctor", "release", "bench", "tests"}),
    ("soak/real", {"functions", "function_app", "doctor", "release", "bench", "tests"}),
    ("bench", {"soak", "doctor"}),
    ("tools", {"functions", "function_app", "soak"}),
    ("tools/bicep_check", {*APP, *OUTSIDE} - {"tools"}),
    ("examples", {*APP, *OUTSIDE}),
]
OPENINGS = re.compile(r"(?:Whether|What|Who|Where|That|How)\b")  # no docstring begins so: CONTRIBUTING, "How we write"
PACKAGES = ["shared", "functions", "simulator", "local", "doctor", "release", "soak", "bench", "tools", "examples"]
OF_A_MACHINE = re.compile(  # written so that this line is none of what it finds
    r"(?<![\w.])/(?:ro[o]t|wor[k])/|(?<![\w.])/ho[m]e/(?!site/)\w+/|/Us[e]rs/\w+/|[A-Z]:\\\\?Us[e]rs"
    r'|"resol[v]ed": "http|registry\.npm[j]s\.org|files\.python[h]osted\.org'
    r"|pypi\.org/sim[p]le|--(?:extra-)?index-[u]rl"
)


def _imports(path: Path, *, at_runtime: bool = False) -> set[str]:
    """Return the names that a module imports, also inside functions. `at_runtime` omits those for type checkers."""
    return set(_imported(ast.parse(path.read_text(encoding="utf-8")), at_runtime=at_runtime))


def _imported(tree: ast.AST, *, at_runtime: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if at_runtime and isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node, at_runtime=at_runtime)


def _below(name: str, roots: set[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize(("folder", "forbidden"), ARROWS, ids=[folder for folder, _ in ARROWS])
def test_imports_point_one_way(folder: str, forbidden: set[str]) -> None:
    inner = [name for name, _ in ARROWS if name.startswith(f"{folder}/")]  # these have rules of their own
    modules = [
        path
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / name) for name in inner)
    ]
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules
        for name in _imports(path)
        if _below(name, forbidden)
    }
    assert modules
    assert wrong == set()


def test_a_part_of_the_product_imports_only_parts_below_it() -> None:
    for path in (ROOT / "shared").rglob("*.py"):
        part = path.relative_to(ROOT / "shared").with_suffix("").parts[0]
        if part == "__init__":
            continue
        above = {f"shared.{name}" for name in LAYERS[: LAYERS.index(part)]}
        wrong = {name for name in _imports(path) if _below(name, above)}
        assert wrong == set(), f"{path.relative_to(ROOT)} imports from a layer above {part}"


def test_the_domain_does_no_io() -> None:
    for path in (ROOT / "shared" / "domain").glob("*.py"):
        assert {name for name in _imports(path, at_runtime=True) if _below(name, DOES_IO)} == set(), path.name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_has_an_import_cycle(package: str) -> None:
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / package).rglob("*.py")}
    imports = {
        name: {module for imported in _imports(path) if (module := _module_of(imported, paths)) not in {None, name}}
        for name, path in paths.items()
    }
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules of a cycle


def _module_of(imported: str, paths: Mapping[str, Path]) -> str | None:
    """Return the module that an import loads: `a.b` for both `import a.b` and `from a.b import name`."""
    return imported if imported in paths else (parent if (parent := imported.rpartition(".")[0]) in paths else None)


@pytest.mark.parametrize("name", ["functions", "shared"])
def test_a_package_with_a_common_name_is_the_repositorys(name: str) -> None:
    """The app's folder is last on the path of the worker: a dependency with such a package would win."""
    path = [entry for entry in sys.path if entry not in {"", str(ROOT)}]
    assert importlib.util.find_spec(name) is not None
    assert importlib.machinery.PathFinder.find_spec(name, path) is None


def _import_app(script: str) -> list[str]:
    """Return the output of a fresh process with an empty environment that imports only the app."""
    run = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    printed: list[str] = json.loads(run.stdout)
    return printed


def test_the_app_is_imported_without_settings_and_without_heavy_libraries() -> None:
    loaded = _import_app("import function_app, json, sys; print(json.dumps(sorted(sys.modules)))")
    assert "functions.calls" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_the_app_is_imported_without_the_relay() -> None:
    loaded = _import_app("import function_app, json, sys; print(json.dumps(sorted(sys.modules)))")
    found = {name for name in loaded if name.startswith("shared.relay.")}
    assert found == {"shared.relay.exchange"}, "each cold start without RELAY_TARGETS would load the relay for nothing"
    assert "shared.http_client" not in loaded


def test_the_app_is_imported_without_network_loop_and_threads() -> None:
    watched = """
import json, sys
seen = []
outside = ("socket.", "subprocess.", "os.system")
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(outside) else None)
import function_app, asyncio, threading
seen += [thread.name for thread in threading.enumerate()][1:]
try:
    asyncio.get_running_loop()
    seen.append("a running loop")
except RuntimeError:
    pass
print(json.dumps(seen))
"""
    assert _import_app(watched) == []


@pytest.mark.parametrize(
    "line",
    [
        "cd /ro" + "ot/project",
        "see /ho" + "me/ada/keys",
        '"resol' + 'ved": "https://registry.example.com/a.tgz"',
        "https://files.python" + "hosted.org/packages/a.whl",
        "pip install --index-" + "url https://mirror.example.com",
    ],
)
def test_a_place_of_a_machine_is_told_from_other_words(line: str) -> None:
    assert OF_A_MACHINE.search(line)
    assert not OF_A_MACHINE.search("/ho" + "me/site/wwwroot is where Azure runs an app; --no-emit-index-url")


def test_no_tracked_file_holds_a_place_of_a_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _tracked()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if OF_A_MACHINE.search(line)
    ]
    assert found == []


def test_no_tracked_file_is_a_secret_or_rubbish() -> None:
    wrong = re.compile(
        r"(^|/)(local\.settings\.json|\.env|__pycache__|\.DS_Store|node_modules|\.venv)(/|$)|\.(pem|pfx|key)$"
    )
    assert [name for path in _tracked() if wrong.search(name := str(path.relative_to(ROOT)))] == []


def test_the_version_is_one() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == VERSION


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_module_begins_with_what_it_is_for(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    heads = {path.relative_to(ROOT): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in modules}
    assert heads
    assert [str(path) for path, head in heads.items() if not head] == []


@pytest.mark.parametrize("folder", [*PACKAGES, "infra", "tests"])
def test_docstrings_begin_with_a_verb_or_the_content(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {docstring.splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for docstring in _docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if OPENINGS.match(docstring)
    ]
    assert wrong == []


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    ("case_id", "value", "expected"),
    [
        ("case0", object(), ["case0"]),
        ("first-case12", [], ["case12"]),
        ("<lambda>3", len, ["<lambda>3"]),
        ("an empty list", [], []),
        ("case1", "case1", []),
    ],
    ids=["object", "second argument", "lambda", "explicit id", "text"],
)
def test_an_id_that_pytest_numbered_is_found(case_id: str, value: object, expected: list[str]) -> None:
    assert unreadable_parts(case_id, {"case": value}) == expected
