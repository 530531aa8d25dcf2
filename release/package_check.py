"""Proves a package that exists, by its own libraries: `make package-check`, or `python -m release.package_check ZIP`.

Microsoft's worker library is one of them. It loads the package in a process that sees Python's own library and nothing
else of this machine, finds its functions, and invokes one.
"""

import http.client
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from release import wheel_check
from release.libraries import GLIBC, PLACE, PackageError

INVOKED = "openapi"  # a function that needs no setting and no storage, and most of what the app imports
_ROOT = Path(__file__).resolve().parents[1]
_NEEDED = ("local", "release")  # the host that loads the package, and the probe
# As the platform's worker orders it: the app's libraries first, and the app's folder last, which the probe adds.
_PROBE = (
    "import sys; site, host, root, invoked = sys.argv[1:]; sys.path[:] = [*filter(None, [site]), *sys.path, host];"
    "from release.package_probe import probe; probe(root, invoked)"
)


@dataclass(frozen=True, slots=True)
class Proved:
    """What was proved of a package: the names of its functions, sorted, and whether it ran by its own libraries."""

    functions: tuple[str, ...]
    native: int
    alone: bool

    def __str__(self) -> str:
        """One line for the terminal."""
        found = f"{len(self.functions)} functions are found and {INVOKED} answers"
        if self.alone:
            return f"{found}, by the package's own libraries alone; its {self.native} native files load"
        return f"{found}, by THIS MACHINE's libraries: the package's are for Linux x86_64, only their tags were checked"


class _Report(BaseModel):
    functions: list[str]
    status: int


def prove(package: Path) -> Proved:
    """Unpack a package, and prove what is in it.

    Raises
    ------
    PackageError
        Azure's Python could not load it, or the worker would find no functions in it.
    """
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as folder:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        return prove_unpacked(Path(folder))


def prove_unpacked(app: Path) -> Proved:
    """Check the wheels of a package, load it by the worker library, and invoke a function; errors are as above."""
    native = wheel_check.check(app / PLACE)
    alone = runs_here()
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as host:
        # Copies: in the repository itself, Python would find the modules that the package lacks.
        for folder in _NEEDED:
            shutil.copytree(_ROOT / folder, Path(host, folder), ignore=shutil.ignore_patterns("__pycache__"))
        report = _probed(app, Path(host), alone=alone)
    if report.status != http.client.OK:
        raise PackageError(f"the package loads, and {INVOKED} answers {report.status}")
    return Proved(tuple(sorted(report.functions)), native, alone)


def runs_here() -> bool:
    """Tell whether this machine can load the libraries of a package: it is Linux x86_64 with a glibc new enough."""
    name, version = platform.libc_ver()
    if (sys.platform, platform.machine(), name) != ("linux", "x86_64", "glibc"):
        return False
    return tuple(map(int, version.split(".")[:2])) >= GLIBC


def _probed(app: Path, host: Path, *, alone: bool) -> _Report:
    isolation = ["-I", "-S", "-B"] if alone else ["-I", "-B"]
    done = subprocess.run(  # noqa: S603 - the command is ours
        [sys.executable, *isolation, "-c", _PROBE, str(app / PLACE) if alone else "", str(host), str(app), INVOKED],
        cwd=app,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode == 0:
            return _Report.model_validate(json.loads(done.stdout))
    except (ValueError, ValidationError) as error:
        raise PackageError(f"the package printed while it was loaded: {done.stdout[:200]!r}") from error
    said = done.stderr.strip().splitlines() or ["it did not say why"]
    raise PackageError(f"the package does not load: {said[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the package that is named; the exit code."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        proved = prove(Path(name))
    except (PackageError, OSError, zipfile.BadZipFile) as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    print(f"package: {name}: {proved}")
    print("".join(f"  {function}\n" for function in proved.functions), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
