"""Builds the zip that is deployed, with its libraries: `make package`. The same commit and Python give equal bytes."""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from release import libraries
from release.libraries import PackageError
from release.package_check import check_package

ROOT = Path(__file__).resolve().parent.parent
TARGET = "dist/call-keeper.zip"
APP_PARTS = {"function_app.py", "functions", "host.json", "requirements.txt", "shared"}
BUILD_FILE = "shared/build.txt"  # the id of the package; the app reads it, and health reports it
# A plain file, rw-r--r--. Azure mounts the zip, and the modes of the working folder depend on the umask.
_FILE_MODE = 0o100644 << 16
_CACHE = "__pycache__"


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that was written.

    `names` are its files. `sizes` are the bytes of each part, which is a part of the app or a distribution. `build` is
    the id that it contains.
    """

    path: Path
    names: tuple[str, ...]
    sizes: dict[str, int]
    sha256: str
    build: str


def app_files(root: Path) -> list[str]:
    """Return the files of the app that `.funcignore` leaves in the package: paths from the root, sorted.

    Raises
    ------
    PackageError
        A part of the app is missing, or a file would be deployed that is no part of it.
    """
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text(encoding="utf-8").splitlines())
    names = sorted(_unignored_files(root, ignored))
    parts = {name.split("/")[0] for name in names}
    if extra := sorted(parts - APP_PARTS):
        raise PackageError(f"{', '.join(extra)} would be deployed: name it in .funcignore, or move it away")
    if missing := sorted(APP_PARTS - parts):
        raise PackageError(f"{', '.join(missing)} would not be deployed: .funcignore excludes it, or it does not exist")
    return names


def copy_app(root: Path, folder: Path) -> None:
    """Copy the app's files, without libraries, into a folder; it raises the errors of `app_files`."""
    for name in app_files(root):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)


def build(root: Path, target: Path) -> Package:
    """Write the zip: the app and its libraries, both compiled.

    Its bytes depend on the files of the app, on the wheels, and on the Python that compiles, but not on the clock or
    the machine. It is not compressed, because compressors differ.

    Raises
    ------
    PackageError
        The package cannot be built. The message says what to do.
    """
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as folder:
        stage = Path(folder)
        copy_app(root, stage)
        libraries.fetch_wheels(stage / "requirements.txt", stage / libraries.LIBRARIES_FOLDER)
        libraries.compile_all(stage)
        build_id = _write_build_id(stage)
        names = tuple(sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()))
        _write_zip(stage, names, target)
        sizes = _sizes(stage, names)
    return Package(target, names, sizes, hashlib.sha256(target.read_bytes()).hexdigest(), build_id)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the package, list it and check it; return the exit code.

    The names of its functions and its id are written next to it, for the proof of a deployment.
    """
    args = _parser().parse_args(arguments)
    target = Path(args.output)
    version, glibc = (".".join(map(str, parts)) for parts in (libraries.PYTHON, libraries.GLIBC))
    print(
        f"package    fetching the wheels for CPython {version}, Linux x86_64, glibc {glibc}, and compiling", flush=True
    )
    try:
        package = build(Path(args.root).resolve(), target)
        checked = check_package(target)
    except PackageError as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    names = target.with_suffix(".functions.txt")
    names.write_text("".join(f"{name}\n" for name in checked.functions), encoding="utf-8")
    target.with_suffix(".build.txt").write_text(f"{package.build}\n", encoding="utf-8")
    _print_contents(package, names)
    print(f"proved     {checked}")
    return 0


def _unignored_files(root: Path, ignored: GitIgnoreSpec) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        for name in files:
            path = (here / name).as_posix()
            if not ignored.match_file(path):
                yield path


def _write_build_id(stage: Path) -> str:
    """Write an id into the package, so that health can report which package runs: a hash of all its other files."""
    path = stage / BUILD_FILE
    path.unlink(missing_ok=True)  # it exists in a working folder into which a package was unpacked
    content = hashlib.sha256()
    for file in sorted(file for file in stage.rglob("*") if file.is_file()):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        content.update(f"{digest} {file.relative_to(stage).as_posix()}\n".encode())
    build_id = content.hexdigest()[:16]
    path.write_text(f"{build_id}\n", encoding="ascii", newline="\n")
    return build_id


def _write_zip(stage: Path, names: Sequence[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)  # its time is the earliest that a zip can store, 1980-01-01
            entry.create_system = 3  # Unix, also on Windows
            entry.external_attr = _FILE_MODE
            archive.writestr(entry, (stage / name).read_bytes())
    unfinished.replace(target)


def _sizes(stage: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each part of the app and of each distribution. Compiled files count with their sources."""
    site = stage / libraries.LIBRARIES_FOLDER
    owners = {
        f"{libraries.LIBRARIES_FOLDER}/{file.as_posix()}": _title(each)
        for each in libraries.installed_distributions(site)
        for file in each.files or ()
    }
    sizes: Counter[str] = Counter()
    for name in names:
        source = _source(name)
        sizes[owners.get(source, source.split("/")[0])] += (stage / name).stat().st_size
    return dict(sorted(sizes.items()))


def _source(name: str) -> str:
    """Return the source of a compiled file; of another file, itself."""
    path = PurePosixPath(name)
    if path.parent.name != _CACHE:
        return name
    return (path.parent.parent / f"{path.name.partition('.')[0]}.py").as_posix()


def _title(distribution: Distribution) -> str:
    return f"{distribution.name} {distribution.version}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release.package", description="Build the zip that is deployed.")
    parser.add_argument("--root", default=str(ROOT), metavar="DIR", help="the folder of the app (default: this one)")
    parser.add_argument("--output", default=TARGET, metavar="ZIP", help="where to write it (default: %(default)s)")
    return parser


def _print_contents(package: Package, names: Path) -> None:
    for part, size in package.sizes.items():
        print(f"{size:>12,}  {part}")
    print(f"{sum(package.sizes.values()):>12,}  in {len(package.names):,} files")
    print(f"package    {package.path}, {package.path.stat().st_size:,} bytes")
    print(f"sha256     {package.sha256}")
    print(f"build      {package.build}, which health reports where it runs")
    print(f"functions  named in {names}")


if __name__ == "__main__":
    sys.exit(main())
