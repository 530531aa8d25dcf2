"""Proves a package: in an empty folder, with its requirements alone, the worker library finds its functions."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

_LOCAL = Path(__file__).resolve().parent
_PINS = _LOCAL.parent / "requirements-dev.txt"
_WORKER = "azure-functions-runtime"  # in Azure it is part of the platform, so requirements.txt has no business with it


class PackageError(Exception):
    """No package can be made, or the one that was made would not run. The message says what to do."""


def functions_of(package: Path, python: Path | str = sys.executable) -> list[str]:
    """Load a package by the real worker library under this interpreter; the names of its functions, sorted.

    Raises
    ------
    PackageError
        The worker would find no functions in it.
    """
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as folder:
        app, host = Path(folder, "app"), Path(folder, "host")
        with zipfile.ZipFile(package) as archive:
            archive.extractall(app)
        # A copy of `local` alone: from the repository itself, what the package lacks would be found after all.
        shutil.copytree(_LOCAL, host / "local", ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(  # noqa: S603 - the command is ours, the interpreter the caller's
            [str(python), "-B", "-m", "local.host", "--list", "--root", str(app)],
            cwd=app,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(host)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise PackageError(f"the package does not load: {done.stderr.strip()}")
    listed: list[dict[str, str]] = json.loads(done.stdout)
    return sorted(function["name"] for function in listed)


def environment(folder: Path, package: Path) -> Path:
    """Make a virtual environment of the package's own requirements.txt and the worker; the path of its interpreter.

    Raises
    ------
    PackageError
        They could not be installed.
    """
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    requirements = folder / "requirements.txt"
    with zipfile.ZipFile(package) as archive:
        requirements.write_bytes(archive.read("requirements.txt"))
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    command = [*install, "-r", str(requirements), worker_pin()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - all of it is ours
    if done.returncode:
        raise PackageError(f"its requirements.txt could not be installed: {done.stderr.strip()}")
    return python


def worker_pin() -> str:
    """Tell the pinned worker library, as pip takes it."""
    found = re.search(rf"^{_WORKER}==\S+", _PINS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise PackageError(f"{_PINS.name} has no pin of {_WORKER}")
    return found[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove the package that is named, by an installation of its requirements; the exit code."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        with tempfile.TemporaryDirectory(prefix="call-keeper-venv-") as folder:
            functions = functions_of(Path(name), environment(Path(folder), Path(name)))
    except PackageError as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    print(f"package: {name} loads with its requirements.txt alone: {len(functions)} functions")
    print("".join(f"  {function}\n" for function in functions), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
