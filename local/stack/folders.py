"""Temporary folders for a run. The next run removes the folders of runs that were killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "call-keeper-"
_MARKER = "in-use-by"  # a file with our process id; the kernel holds its lock until this process ends


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder for the block. First remove the folders of this user's killed runs."""
    parent = parent or Path(tempfile.gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another run removes it at the same time, or still uses it
            _remove_if_abandoned(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / _MARKER).open("w") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        marker.write(f"{os.getpid()}\n")
        marker.flush()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder of this user if its marker is not locked. An empty marker belongs to a run that is starting."""
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return
    with (folder / _MARKER).open() as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if marker.read():
            shutil.rmtree(folder)
