"""Checks that the libraries of a package load on Azure's image, by the tags of wheels and by their ELF files."""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from packaging.tags import Tag, compatible_tags, cpython_tags, parse_tag

from release.libraries import GLIBC, PYTHON, PackageError, installed_distributions

# PEP 600: the glibc versions that the older names of a platform mean.
_OLDER_NAMES = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST_MINOR = 5  # manylinux1: glibc 2.5
_GLIBC_SYMBOL = re.compile(rb"GLIBC_(\d+)\.(\d+)")  # a symbol version, as .gnu.version_r names it


def check_wheels(folder: Path) -> int:
    """Check each wheel and each native file below a folder, and return the number of native files.

    Raises
    ------
    PackageError
        One is for another Python or machine, or needs a newer glibc than `GLIBC`.
    """
    distributions = installed_distributions(folder)
    if not distributions:
        raise PackageError(f"there are no libraries in {folder.name}: build the package again with make package")
    supported = _supported_tags()
    wrong = [
        f"{each.name} ({', '.join(sorted(map(str, tags)))})" for each, tags in _unsupported(distributions, supported)
    ]
    if wrong:
        raise PackageError(f"wheels that Azure's Python cannot load: {'; '.join(wrong)}")
    needs = {path: _needed_glibc(content) for path, content in _native_files(folder)}
    if newer := [f"{path.name} needs {need[0]}.{need[1]}" for path, need in needs.items() if need > GLIBC]:
        raise PackageError(f"native files for a newer glibc than {GLIBC[0]}.{GLIBC[1]}: {'; '.join(sorted(newer))}")
    return len(needs)


def _supported_tags() -> frozenset[Tag]:
    major, newest = GLIBC
    platforms = [f"manylinux_{major}_{minor}_x86_64" for minor in range(newest, _OLDEST_MINOR - 1, -1)]
    platforms += [f"{name}_x86_64" for version, name in _OLDER_NAMES.items() if version <= GLIBC]
    interpreter = "cp{}{}".format(*PYTHON)
    native = cpython_tags(PYTHON, abis=[interpreter], platforms=platforms)
    return frozenset([*native, *compatible_tags(PYTHON, interpreter, platforms)])


def _unsupported(
    distributions: list[Distribution], supported: frozenset[Tag]
) -> Iterator[tuple[Distribution, frozenset[Tag]]]:
    for each in distributions:
        lines = re.findall(r"^Tag: (\S+)", each.read_text("WHEEL") or "", re.MULTILINE)
        tags = frozenset(tag for line in lines for tag in parse_tag(line))
        if not tags & supported:
            yield each, tags


def _native_files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in {".py", ".pyc"} and (content := path.read_bytes())[:4] == b"\x7fELF":
            yield path, content


def _needed_glibc(content: bytes) -> tuple[int, int]:
    """Return the newest glibc that a native file names; (0, 0) if it names none."""
    return max(((int(major), int(minor)) for major, minor in _GLIBC_SYMBOL.findall(content)), default=(0, 0))
