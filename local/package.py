"""The zip that is deployed: `make package`, or `python -m local.package`. The same files give the same bytes."""

import argparse
import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from local.package_check import PackageError, functions_of

ROOT = Path(__file__).resolve().parent.parent
TARGET = "dist/call-keeper.zip"
PARTS = {"function_app.py", "functions", "host.json", "requirements.txt", "shared"}
_MODE = 0o100644 << 16  # a plain file, rw-r--r--: what stands in the working folder depends on the umask


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that was written: what is in it, in the order of names, with sizes in bytes."""

    path: Path
    sizes: dict[str, int]
    sha256: str


def chosen(root: Path) -> list[str]:
    """Tell the files that `.funcignore` leaves in the package: paths from the root, sorted.

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


def build(root: Path, target: Path) -> Package:
    """Write the zip. Nothing of it depends on the clock, the machine, or the version of a compressor."""
    sizes: dict[str, int] = {}
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in chosen(root):
            content = (root / name).read_bytes()
            archive.writestr(_entry(name), content)
            sizes[name] = len(content)
    unfinished.replace(target)
    return Package(target, sizes, hashlib.sha256(target.read_bytes()).hexdigest())


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the package, list it, load it, and write the names of its functions beside it; the exit code."""
    args = _parser().parse_args(arguments)
    target = Path(args.output)
    try:
        package = build(Path(args.root).resolve(), target)
        functions = functions_of(target)
    except PackageError as error:
        print(f"package: failed: {error}", file=sys.stderr)
        return 1
    names = target.with_suffix(".functions.txt")
    names.write_text("".join(f"{name}\n" for name in functions), encoding="utf-8")
    _tell(package, functions, names)
    return 0


def _walk(root: Path, ignored: GitIgnoreSpec) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        for name in files:
            path = (here / name).as_posix()
            if not ignored.match_file(path):
                yield path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # its time is the first that a zip can tell, 1980-01-01
    entry.create_system = 3  # Unix, also on Windows
    entry.external_attr = _MODE
    return entry


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.package", description="Build the zip that is deployed.")
    parser.add_argument("--root", default=str(ROOT), metavar="DIR", help="the folder of the app (default: this one)")
    parser.add_argument("--output", default=TARGET, metavar="ZIP", help="where to write it (default: %(default)s)")
    return parser


def _tell(package: Package, functions: Sequence[str], names: Path) -> None:
    for name, size in package.sizes.items():
        print(f"{size:>8}  {name}")
    print(f"{sum(package.sizes.values()):>8}  in {len(package.sizes)} files")
    print(f"package    {package.path}, {package.path.stat().st_size:,} bytes")
    print(f"sha256     {package.sha256}")
    print(f"functions  {len(functions)}, named in {names}")


if __name__ == "__main__":
    sys.exit(main())
