"""Temporary folders are removed at the end of their run or, if it was killed, by the next run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from local.stack.folders import PREFIX, temporary_folder
from local.stack.stack import ROOT

OWNER = """
import sys, time
from pathlib import Path
from local.stack.folders import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "host.log").write_text("hello")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_removed_after_the_block(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_removes_only_the_folders_of_killed_runs(tmp_path: Path) -> None:
    starting, foreign = tmp_path / f"{PREFIX}starting", tmp_path / f"{PREFIX}foreign"
    starting.mkdir()
    (starting / "in-use-by").touch()  # a run that has not locked it yet
    foreign.mkdir()  # has no marker
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "in-use-by").write_text("1")
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        abandoned = Path(owner.stdout.readline().strip())
    with temporary_folder(tmp_path):
        assert (abandoned / "host.log").exists()  # its run is alive

    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert abandoned.exists()
    with temporary_folder(tmp_path):
        assert not abandoned.exists()
    assert (elsewhere / "in-use-by").exists()
    assert {starting, foreign, elsewhere} < set(tmp_path.iterdir())
