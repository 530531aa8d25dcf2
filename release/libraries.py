"""The libraries of the package: the wheels of requirements.txt for Azure's Python, on any machine."""

import csv
import io
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

LIBRARIES_FOLDER = ".python_packages/lib/site-packages"  # where the worker looks, below host.json
PYTHON = (3, 13)
# Azure's image for Python 3.13 is Debian 12 with glibc 2.36 (Azure/azure-functions-docker, host/4/bookworm/python/
# python313). This leaves a margin. All pins also have wheels for 2.17, but projects stop building those, because they
# are built on CentOS 7.
GLIBC = (2, 28)
TAG = "manylinux_{}_{}_x86_64".format(*GLIBC)
AZURE_APP_FOLDER = "/home/site/wwwroot"  # the path that tracebacks show

_PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)
_INSTALLER_FILES = {"INSTALLER", "REQUESTED", "direct_url.json", "uv_build.json", "uv_cache.json"}


class PackageError(Exception):
    """A package cannot be built, or would not run. The message says what to do."""


def fetch_wheels(requirements: Path, folder: Path) -> None:
    """Install wheels, never sources, into a folder, without the files that differ between machines.

    Raises
    ------
    PackageError
        A wheel cannot be fetched, or requirements.txt does not pin every package.
    """
    version = "{}.{}".format(*PYTHON)
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable, "--target", str(folder)]
    command += ["--python-version", version, "--python-platform", f"x86_64-{TAG.removesuffix('_x86_64')}"]
    command += ["--only-binary", ":all:", "--link-mode", "copy", "--no-compile-bytecode", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise PackageError(f"the wheels of requirements.txt could not be fetched: {' '.join(done.stderr.split())}")
    _check_pins(requirements, folder)
    _remove_machine_files(folder)


def compile_all(folder: Path) -> None:
    """Compile all modules below a folder, because the disk of a new instance could not keep what it compiles itself.

    The compiled files name their source by its hash and are not compared with it, because the times in a zip mean
    nothing. One process compiles them in the order of their names, because the bytes that `marshal` writes depend on
    what the process did before.

    Raises
    ------
    PackageError
        A module is not valid Python 3.13, or this is not Python 3.13.
    """
    if sys.version_info[:2] != PYTHON:
        raise PackageError("the package is compiled for Python {}.{}: run make with that version".format(*PYTHON))
    command = [sys.executable, "-I", "-S", "-B", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", AZURE_APP_FOLDER, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if done.returncode:
        raise PackageError(f"a module cannot be compiled: {' '.join((done.stdout + done.stderr).split())}")


def installed_distributions(folder: Path) -> list[Distribution]:
    """Return the distributions in a folder, sorted by name."""
    return sorted(distributions(path=[str(folder)]), key=lambda found: canonicalize_name(found.name))


def _check_pins(requirements: Path, folder: Path) -> None:
    pinned = {canonicalize_name(name): pin for name, pin in _PIN.findall(requirements.read_text(encoding="utf-8"))}
    found = {canonicalize_name(each.name): each.version for each in installed_distributions(folder)}
    if found != pinned:
        differing = sorted(name for name, _ in found.items() ^ pinned.items())
        raise PackageError(f"requirements.txt does not pin what is installed ({', '.join(differing)}): run make lock")


def _remove_machine_files(folder: Path) -> None:
    """Remove scripts, and records that name this machine's Python or the installer."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    (folder / ".lock").unlink(missing_ok=True)
    for about in folder.glob("*.dist-info"):
        for name in _INSTALLER_FILES:
            (about / name).unlink(missing_ok=True)
        record = about / "RECORD"
        rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
        kept = io.StringIO()
        csv.writer(kept, lineterminator="\n").writerows(sorted(row for row in rows if (folder / row[0]).is_file()))
        record.write_text(kept.getvalue(), encoding="utf-8")
