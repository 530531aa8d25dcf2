"""The cold start: duration of the import of `function_app`, its most expensive parts, sizes of app and libraries."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import ROOT, BenchError
from release.package import copy_app

INSTALLED = ROOT / ".venv" / "deployed" / "bin" / "python"  # requirements.txt and nothing else
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( +)(\S+)")
_MAX_COSTLIEST = 12


@dataclass(frozen=True, slots=True)
class Import:
    """The import of one module.

    `own` and `whole` are milliseconds: without and with the modules that it was the first to import. `depth` is its
    nesting.
    """

    name: str
    own: float
    whole: float
    depth: int


def measure_cold_start(python: Path, runs: int) -> dict[str, object]:
    """Import the app as it is packaged, in `runs` new processes. The fastest counts, because noise only adds time."""
    with tempfile.TemporaryDirectory(prefix="call-keeper-bench-") as folder:
        app = Path(folder)
        copy_app(ROOT, app)
        attempts = [_imports(python, app) for _ in range(runs)]
        best = min(attempts, key=lambda imports: imports[-1].whole)
        return {
            "import_ms": best[-1].whole,
            "modules": len(best),
            "costliest": [[found.name, found.whole] for found in costliest(best)],
            "app_bytes": size_of(app),
            "libraries_bytes": size_of(_site_packages(python)),
        }


def parse_import_times(output: str) -> list[Import]:
    """Parse the output of `python -X importtime`. It is in the order in which imports end, so the outermost is last."""
    found = [match for line in output.splitlines() if (match := _LINE.match(line))]
    return [Import(it[4], int(it[1]) / 1000, int(it[2]) / 1000, len(it[3]) // 2) for it in found]


def costliest(imports: Sequence[Import]) -> list[Import]:
    """Return the most expensive packages from outside the project, each with all that it imports."""
    top: dict[str, Import] = {}
    for found in imports[:-1]:
        package = found.name.partition(".")[0]
        if package not in {"functions", "shared", "azure", "function_app"} or found.name.startswith("azure."):
            top.setdefault(found.name, found)
    return sorted(top.values(), key=lambda found: -found.whole)[:_MAX_COSTLIEST]


def size_of(folder: Path) -> int:
    """Return the size of all files below a folder in bytes, without compiled modules."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files)


def _imports(python: Path, app: Path) -> list[Import]:
    done = subprocess.run(  # noqa: S603 (our own interpreter)
        [str(python), "-B", "-X", "importtime", "-c", "import function_app"],
        cwd=app,
        env={"PYTHONPATH": str(app)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise BenchError(f"the package cannot be imported by {python}: {lines[-1]}")
    return parse_import_times(done.stderr)


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (as above)
    return Path(done.stdout.strip())


if __name__ == "__main__":
    print(measure_cold_start(Path(sys.executable), 3))
