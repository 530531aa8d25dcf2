"""Checks that a package loads with its own libraries: `make package-check`, `python -m release.package_check ZIP`.

Microsoft's worker library is one of them. It loads the package in a process that has only Python's standard library
from this machine. Then it finds the functions of the package, and invokes one.
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
from release.libraries import GLIBC, LIBRARIES_FOLDER, PackageError

INVOKED = "openapi"  # a function that needs no setting and no storage, but most modules of the app
_ROOT = Path(__file__).resolve().parents[1]
_PROBE_PACKAGES = ("local", "release")  # the host that loads the package, and the probe
# The order of the platform's worker: the app's libraries first, and the app's folder last, which the probe adds.
_PROBE = (
    "import sys; site, host, root, invoked = sys.argv[1:]; sys.path[:] = [*filter(None, [site]), *sys.path, host];"
    "from release.package_probe import probe; probe(root, invoked)"
)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check: names of the functions, sorted; number of native files; True if only its libraries ran."""

    functions: tuple[str, ...]
    native: int
    isolated: bool

    def __str__(self) -> str:
        """Return one line for the terminal."""
        found = f"{len(self.functions)} functions are found and {INVOKED} answers"
        if self.isolated:
            return f"{found}, with the package's own libraries alone; its {self.native} native files load"
        return f"{found}, with THIS MACHINE's libraries: the package's need Linux x86_64; only their tags were checked"


class _Report(BaseModel):
    functions: list[str]
    status: int


def check_package(package: Path) -> CheckResult:
    """Unpack a package, and check it.

    Raises
    ------
    PackageError
        Azure's Python could not load it, or the worker would not find its functions.
    """
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as folder:
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)
        return check_unpacked(Path(folder))


def check_unpacked(app: Path) -> CheckResult:
    """Check the wheels of a package, load it with the worker library, and invoke a function; errors are as above."""
    native = wheel_check.check_wheels(app / LIBRARIES_FOLDER)
    isolated = runs_here()
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as host:
        # The probe runs from copies, because in the repository Python would find modules that the package lacks.
        for folder in _PROBE_PACKAGES:
            shutil.copytree(_ROOT / folder, Path(host, folder), ignore=shutil.ignore_patterns("__pycache__"))
        report = _run_probe(app, Path(host), isolated=isolated)
    if report.status != http.client.OK:
        raise PackageError(f"the package loads, and {INVOKED} answers {report.status}")
    return CheckResult(tuple(sorted(report.functions)), native, isolated)


def runs_here() -> bool:
    """True if this machine can load the libraries of a package: Linux x86_64 with a glibc of at least `GLIBC`."""
    name, version = platform.libc_ver()
    if (sys.platform, platform.machine(), name) != ("linux", "x86_64", "glibc"):
        return False
    return tuple(map(int, version.split(".")[:2])) >= GLIBC


def _run_probe(app: Path, host: Path, *, isolated: bool) -> _Report:
    options = ["-I", "-S", "-B"] if isolated else ["-I", "-B"]
    site = str(app / LIBRARIES_FOLDER) if isolated else ""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, *options, "-c", _PROBE, site, str(host), str(app), INVOKED],
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
    lines = done.stderr.strip().splitlines() or ["it printed no reason"]
    raise PackageError(f"the package does not load: {lines[-1]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the package that the argument names, and return the exit code."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        checked = check_package(Path(name))
    except (PackageError, OSError, zipfile.BadZipFile) as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    print(f"package: {name}: {checked}")
    print("".join(f"  {function}\n" for function in checked.functions), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
