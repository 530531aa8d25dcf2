"""Rules of the repository: who imports whom, what importing costs, what no file may hold."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import VERSION

ROOT = Path(__file__).parents[1]
PURE = ("explaining", "lifecycle", "merging", "notifications", "termination")
DOES_IO = {
    *("aiohttp", "asyncio", "azure", "http", "httpx", "os", "queue", "requests", "socket", "sqlite3", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "urllib.request"),
}
HEAVY = (
    *("aiohttp", "azure.core", "azure.data.tables", "azure.identity", "azure.monitor", "azure.storage", "cryptography"),
    *("httpx", "jwt", "msal", "opentelemetry.sdk"),
)
OUTSIDE = {"function_app", "simulator", "local", "bench", "soak", "infra", "tools", "tests"}
# Inside `shared`: modules, and what they must not reach by any way.
DOMAIN = {"calls", "leases", "lifecycle", "merging", "notifications", "payload", "termination"}
STORAGE = {
    "store",
    "rows",
    "cells",
    "columns",
    "carrying",
    "entities",
    "paging",
    "table",
    "table_store",
    "memory_store",
}
GRAPH = {"graph", "graph_errors", "pace", "credentials", "entra_errors", "http_client"}
KEEPING = {"keeper", "shard", "sweep", "line", "slots", "tenants", "renewal"}
API = {"management", "records", "idempotency", "seals", "webhook"}
COMPOSED = {"services", "health"}
INSIDE = [
    (DOMAIN, STORAGE | GRAPH | KEEPING | API | COMPOSED),
    (STORAGE, GRAPH | KEEPING | API | COMPOSED),
    (GRAPH, STORAGE | KEEPING | API | COMPOSED),
    (KEEPING, API | COMPOSED),
    (API, COMPOSED),
]
ARROWS = [  # folder, what it must not import
    ("shared", {"azure.functions", "functions", *OUTSIDE}),
    ("functions", OUTSIDE),
    ("simulator", {"shared", "functions", "function_app", "local", "tests"}),
    ("local", {"shared", "functions", "function_app", "tests"}),
    ("local/host", {"shared", "functions", "function_app", "simulator", "tests"}),
    ("soak", {"functions", "function_app", "simulator", "local", "tests"}),
    ("local/doctor", {"functions", "function_app", "simulator", "tests"}),
    ("tools", {"tests"}),
    ("tools/bicep_check", {"shared", "functions", *(OUTSIDE - {"tools"})}),
]
OF_A_MACHINE = re.compile(  # written so that this line is none of what it finds
    r"(?<![\w.])/(?:ro[o]t|wor[k])/|(?<![\w.])/ho[m]e/(?!site/)\w+/|/Us[e]rs/\w+/|[A-Z]:\\\\?Us[e]rs"
    r'|"resol[v]ed": "http|registry\.npm[j]s\.org|files\.python[h]osted\.org'
    r"|pypi\.org/sim[p]le|--(?:extra-)?index-[u]rl"
)


def _imports(path: Path, *, at_runtime: bool = False) -> set[str]:
    """What a module imports, also inside functions; `at_runtime` leaves out what only type checkers see."""
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


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_reaches_nothing_that_does_io(name: str) -> None:
    _, others = _reached(name)
    assert "shared" not in others
    assert {imported for imported in others if _below(imported, DOES_IO)} == set()


def test_no_module_of_shared_reaches_itself_or_what_is_above_it() -> None:
    reached = {path.stem: _reached(path.stem)[0] for path in sorted((ROOT / "shared").glob("*.py"))}
    assert {name for name, found in reached.items() if name in found} == set()
    wrong = {
        f"shared.{name} reaches shared.{other}"
        for names, forbidden in INSIDE
        for name in names
        for other in reached[name] & forbidden
    }
    assert wrong == set()


def _reached(name: str) -> tuple[set[str], set[str]]:
    """What a module of `shared` imports at runtime, directly or not: modules of `shared`, and others."""
    seen: set[str] = set()
    others: set[str] = set()
    waiting = [name]
    while waiting:
        for imported in _imports(ROOT / "shared" / f"{waiting.pop()}.py", at_runtime=True):
            module = imported.split(".")[1] if imported.startswith("shared.") else ""
            if not (ROOT / "shared" / f"{module}.py").is_file():
                others.add(imported)
            elif module not in seen:
                seen.add(module)
                waiting.append(module)
    return seen, others


@pytest.mark.parametrize("name", ["functions", "shared"])
def test_a_package_with_a_common_name_is_the_repositorys(name: str) -> None:
    """The app's folder is last on the path of the worker: a dependency with such a package would win."""
    path = [entry for entry in sys.path if entry not in {"", str(ROOT)}]
    assert importlib.util.find_spec(name) is not None
    assert importlib.machinery.PathFinder.find_spec(name, path) is None


def _import_app(script: str) -> list[str]:
    """What a fresh process with an empty environment prints that imports the app and nothing else."""
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


@pytest.mark.parametrize("folder", ["functions", "shared", "simulator", "local", "soak", "bench", "tools"])
def test_every_module_begins_with_what_it_is_for(folder: str) -> None:
    modules = sorted((ROOT / folder).rglob("*.py"))
    heads = {path.relative_to(ROOT): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in modules}
    assert heads
    assert [str(path) for path, head in heads.items() if not head] == []
