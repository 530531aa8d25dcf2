"""A temporary folder for a run; those of runs that were killed are removed by the next one."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "call-keeper-"
_MARKER = "in-use-by"  # it holds our process id, and is locked for as long as we live: the kernel sees to that


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for as long as the block lasts. Before that, remove what dead runs of this user have left."""
    parent = parent or Path(tempfile.gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another run removes it too, or may not be touched
            _remove_if_left(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / _MARKER).open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        marker.write(f"{os.getpid()}\n")
        marker.flush()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    """Remove it if it is ours and nobody holds its marker. An empty marker is that of a run about to begin."""
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    with (folder / _MARKER).open() as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if marker.read():
            shutil.rmtree(folder)
