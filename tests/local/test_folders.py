"""Temporary folders: gone with their run, and if that was killed, with the next one."""

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


def test_a_folder_is_gone_after_the_block(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_one_and_nothing_else_is(tmp_path: Path) -> None:
    (begun, others) = tmp_path / f"{PREFIX}begun", tmp_path / f"{PREFIX}others"
    begun.mkdir()
    (begun / "in-use-by").touch()  # a run that has not come to lock it yet
    others.mkdir()  # no marker: not ours
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "in-use-by").write_text("1")
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        left = Path(owner.stdout.readline().strip())
    with temporary_folder(tmp_path):
        assert (left / "host.log").exists()  # it lives

    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert left.exists()
    with temporary_folder(tmp_path):
        assert not left.exists()
    assert (elsewhere / "in-use-by").exists()
    assert {begun, others, elsewhere} < set(tmp_path.iterdir())
