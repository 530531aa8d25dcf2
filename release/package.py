"""The zip that is deployed, libraries included: `make package`. The same commit and Python give the same bytes."""

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
from release.package_check import prove

ROOT = Path(__file__).resolve().parent.parent
TARGET = "dist/call-keeper.zip"
PARTS = {"function_app.py", "functions", "host.json", "requirements.txt", "shared"}
BUILD = "shared/build.txt"  # the package's id, which the app reads and health tells
# A plain file, rw-r--r--: Azure mounts the zip, and what stands in the working folder depends on the umask.
_MODE = 0o100644 << 16
_CACHE = "__pycache__"


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that was written.

    `sizes` are the bytes of each part: a part of the app, or a distribution. `build` is the id that it carries.
    """

    path: Path
    names: tuple[str, ...]
    sizes: dict[str, int]
    sha256: str
    build: str


def chosen(root: Path) -> list[str]:
    """Tell the files of the app that `.funcignore` leaves in the package: paths from the root, sorted.

    Raises
    ------
    PackageError
        A part of the app is missing, or something is left in that is no part of it.
    """
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text(encoding="utf-8").splitlines())
    names = sorted(_walk(root, ignored))
    parts = {name.split("/")[0] for name in names}
    if strange := sorted(parts - PARTS):
        raise PackageError(f"{', '.join(strange)} would be deployed: name it in .funcignore, or put it away")
    if missing := sorted(PARTS - parts):
        raise PackageError(f"{', '.join(missing)} would not be deployed: .funcignore leaves it out, or it is not there")
    return names


def copy_app(root: Path, folder: Path) -> None:
    """Copy the app's files, without libraries, into a folder; errors are those of `chosen`."""
    for name in chosen(root):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)


def build(root: Path, target: Path) -> Package:
    """Write the zip: the app, its libraries, and both compiled.

    It depends on the files of the app, on the wheels, and on the Python that compiles; not on the clock or the machine.
    It is stored, not compressed, as compressors differ.

    Raises
    ------
    PackageError
        There is no package to be made. The message says what to do.
    """
    with tempfile.TemporaryDirectory(prefix="call-keeper-package-") as made:
        stage = Path(made)
        copy_app(root, stage)
        libraries.fetch(stage / "requirements.txt", stage / libraries.PLACE)
        libraries.compile_all(stage)
        identity = _identify(stage)
        names = tuple(sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()))
        _write(stage, names, target)
        sizes = _sizes(stage, names)
    return Package(target, names, sizes, hashlib.sha256(target.read_bytes()).hexdigest(), identity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the package, list it and prove it; the exit code.

    The names of its functions and its id are written beside it, for the proof of a deployment.
    """
    args = _parser().parse_args(arguments)
    target = Path(args.output)
    version, glibc = (".".join(map(str, parts)) for parts in (libraries.PYTHON, libraries.GLIBC))
    print(
        f"package    fetching the wheels for CPython {version}, Linux x86_64, glibc {glibc}, and compiling", flush=True
    )
    try:
        package = build(Path(args.root).resolve(), target)
        proved = prove(target)
    except PackageError as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    names = target.with_suffix(".functions.txt")
    names.write_text("".join(f"{name}\n" for name in proved.functions), encoding="utf-8")
    target.with_suffix(".build.txt").write_text(f"{package.build}\n", encoding="utf-8")
    _tell(package, names)
    print(f"proved     {proved}")
    return 0


def _walk(root: Path, ignored: GitIgnoreSpec) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        for name in files:
            path = (here / name).as_posix()
            if not ignored.match_file(path):
                yield path


def _identify(stage: Path) -> str:
    """Write an id into the package, a hash of all else in it, so that health can tell which package answers."""
    place = stage / BUILD
    place.unlink(missing_ok=True)  # a working folder into which a package was unpacked has one
    content = hashlib.sha256()
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        file = hashlib.sha256(path.read_bytes()).hexdigest()
        content.update(f"{file} {path.relative_to(stage).as_posix()}\n".encode())
    identity = content.hexdigest()[:16]
    place.write_text(f"{identity}\n", encoding="ascii", newline="\n")
    return identity


def _write(stage: Path, names: Sequence[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)  # its time is the first that a zip can tell, 1980-01-01
            entry.create_system = 3  # Unix, also on Windows
            entry.external_attr = _MODE
            archive.writestr(entry, (stage / name).read_bytes())
    unfinished.replace(target)


def _sizes(stage: Path, names: Sequence[str]) -> dict[str, int]:
    """Add up the bytes of each part of the app and of each distribution, compiled files with their sources."""
    site = stage / libraries.PLACE
    owners = {
        f"{libraries.PLACE}/{file.as_posix()}": _title(each)
        for each in libraries.installed(site)
        for file in each.files or ()
    }
    sizes: Counter[str] = Counter()
    for name in names:
        source = _source(name)
        sizes[owners.get(source, source.split("/")[0])] += (stage / name).stat().st_size
    return dict(sorted(sizes.items()))


def _source(name: str) -> str:
    """Tell what a compiled file was compiled from; of another file, itself."""
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


def _tell(package: Package, names: Path) -> None:
    for part, size in package.sizes.items():
        print(f"{size:>12,}  {part}")
    print(f"{sum(package.sizes.values()):>12,}  in {len(package.names):,} files")
    print(f"package    {package.path}, {package.path.stat().st_size:,} bytes")
    print(f"sha256     {package.sha256}")
    print(f"build      {package.build}, which health tells where it runs")
    print(f"functions  named in {names}")


if __name__ == "__main__":
    sys.exit(main())
