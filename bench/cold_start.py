"""How long a new instance imports `function_app`, what of it costs most, and how large app and libraries are."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contest import ROOT, BenchError
from release.package import copy_app

INSTALLED = ROOT / ".venv" / "deployed" / "bin" / "python"  # requirements.txt and nothing else
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|( +)(\S+)")
_COSTLIEST = 12


@dataclass(frozen=True, slots=True)
class Import:
    """A module with what its import took, in milliseconds: by itself, and with all that it was the first to import."""

    name: str
    own: float
    whole: float
    depth: int


def measure(python: Path, runs: int) -> dict[str, object]:
    """Import the app as it is packaged in so many fresh processes; the quickest counts, as noise only ever adds."""
    with tempfile.TemporaryDirectory(prefix="call-keeper-bench-") as folder:
        app = Path(folder)
        copy_app(ROOT, app)
        tried = [_imports(python, app) for _ in range(runs)]
        best = min(tried, key=lambda imports: imports[-1].whole)
        return {
            "import_ms": best[-1].whole,
            "modules": len(best),
            "costliest": [[found.name, found.whole] for found in costliest(best)],
            "app_bytes": size(app),
            "libraries_bytes": size(_site_packages(python)),
        }


def read(told: str) -> list[Import]:
    """What `python -X importtime` tells, in the order in which imports end: the one that was asked for is last."""
    found = [match for line in told.splitlines() if (match := _LINE.match(line))]
    return [Import(it[4], int(it[1]) / 1000, int(it[2]) / 1000, len(it[3]) // 2) for it in found]


def costliest(imports: Sequence[Import]) -> list[Import]:
    """The packages from outside that cost most, each with all below it."""
    top: dict[str, Import] = {}
    for found in imports[:-1]:
        package = found.name.partition(".")[0]
        if package not in {"functions", "shared", "azure", "function_app"} or found.name.startswith("azure."):
            top.setdefault(found.name, found)
    return sorted(top.values(), key=lambda found: -found.whole)[:_COSTLIEST]


def size(folder: Path) -> int:
    """The bytes of all files below, without what Python compiled."""
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
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise BenchError(f"the package cannot be imported by {python}: {said[-1]}")
    return read(done.stderr)


def _site_packages(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (as above)
    return Path(done.stdout.strip())


if __name__ == "__main__":
    print(measure(Path(sys.executable), 3))
