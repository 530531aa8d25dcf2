"""The libraries of the package: the wheels of requirements.txt for Azure's Python, whatever machine fetches them."""

import csv
import io
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

PLACE = ".python_packages/lib/site-packages"  # where the worker looks, below host.json
PYTHON = (3, 13)
# Azure's image for Python 3.13 is Debian 12 with glibc 2.36 (Azure/azure-functions-docker, host/4/bookworm/python/
# python313). This leaves a margin. All pins have wheels for 2.17 too, but projects drop those: their base is CentOS 7.
GLIBC = (2, 28)
TAG = "manylinux_{}_{}_x86_64".format(*GLIBC)
RUNS_AT = "/home/site/wwwroot"  # what tracebacks show

_PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
_OF_THE_INSTALLER = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}


class PackageError(Exception):
    """No package can be made, or the one that was made would not run. The message says what to do."""


def fetch(requirements: Path, folder: Path) -> None:
    """Install wheels, no sources, into a folder. What differs from machine to machine is left out.

    Raises
    ------
    PackageError
        A wheel is not to be had, or requirements.txt does not pin all that is needed.
    """
    version = "{}.{}".format(*PYTHON)
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable, "--target", str(folder)]
    command += ["--python-version", version, "--python-platform", f"x86_64-{TAG.removesuffix('_x86_64')}"]
    command += ["--only-binary", ":all:", "--link-mode", "copy", "--no-compile-bytecode", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - all of it is ours
    if done.returncode:
        raise PackageError(f"the wheels of requirements.txt were not fetched: {' '.join(done.stderr.split())}")
    _check_pins(requirements, folder)
    _tidy(folder)


def compile_all(folder: Path) -> None:
    """Compile all modules below a folder, so that a new instance need not: its disk cannot keep what it compiles.

    The compiled files name their source by its hash and are not compared with it, as a zip keeps no useful times. One
    process compiles them in the order of names: what `marshal` writes depends on what a process did before.

    Raises
    ------
    PackageError
        A module is no Python 3.13, or this is not Python 3.13.
    """
    if sys.version_info[:2] != PYTHON:
        raise PackageError("the package is compiled for Python {}.{}: run make with it".format(*PYTHON))
    command = [sys.executable, "-I", "-S", "-B", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", RUNS_AT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - all of it is ours
    if done.returncode:
        raise PackageError(f"a module cannot be compiled: {' '.join((done.stdout + done.stderr).split())}")


def installed(folder: Path) -> list[Distribution]:
    """Tell the distributions in a folder, by name."""
    return sorted(distributions(path=[str(folder)]), key=lambda found: canonicalize_name(found.name))


def _check_pins(requirements: Path, folder: Path) -> None:
    pinned = {canonicalize_name(name): pin for name, pin in _PIN.findall(requirements.read_text(encoding="utf-8"))}
    found = {canonicalize_name(each.name): each.version for each in installed(folder)}
    if found != pinned:
        differ = sorted(name for name, _ in found.items() ^ pinned.items())
        raise PackageError(f"requirements.txt does not pin what is installed ({', '.join(differ)}): run make lock")


def _tidy(folder: Path) -> None:
    """Remove what the installer leaves: scripts and records that name this machine's Python, or the installer."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
    for about in folder.glob("*.dist-info"):
        for name in _OF_THE_INSTALLER:
            (about / name).unlink(missing_ok=True)
        record = about / "RECORD"
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        kept = io.StringIO()
        csv.writer(kept, lineterminator="\n").writerows(sorted(row for row in rows if (folder / row[0]).is_file()))
        record.write_text(kept.getvalue(), encoding="utf-8")
