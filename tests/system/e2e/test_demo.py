"""`make demo`: its output, its errors, and the end of all its processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from local.demo.console import MAX_WIDTH
from local.demo.report import Json
from local.stack.processes import Child, Children
from local.stack.stack import ROOT
from soak.real.world import alive, command_of, descendants

pytestmark = pytest.mark.timeout(240)  # one demo takes about 60 s; four times as long on a loaded machine

DEMO = (sys.executable, "-u", "-m", "local.demo")
STARTED = "Two calls begin"
RESTARTED = "is started again"  # bot C
PROGRAMS = re.compile(r"-m (local\.host|local\.demo\.bot|simulator)\b|(azurite\.js)")
LEASE_MINUTES = 45
MAX_END_WAIT = timedelta(seconds=10)  # for the kernel to end processes whose parent was killed


@contextmanager
def demo(*arguments: str | Path) -> Iterator[tuple[Child, Callable[[], set[int]]]]:
    """Run the demo. Yield it after its start, with a function that returns the ids of its living processes."""
    with Children() as children:
        child = children.start("demo", [*DEMO, *arguments], cwd=ROOT)
        child.wait_for(STARTED)
        family = descendants(child.pid)
        assert {"local.host", "simulator", "azurite.js"} <= {_program(pid) for pid in family}
        yield child, lambda: {pid for pid in family if alive(pid)}


def test_the_timer_keeps_one_call_and_another_one_lapses(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with demo("--report", path) as (child, living):
        child.wait_for(RESTARTED, 120)
        (bot,) = (pid for pid in descendants(child.pid) if _program(pid) == "local.demo.bot")
        assert child.wait(120) == 0, child.output
        assert living() == set()
        assert not alive(bot)
    lines = child.output.splitlines()
    assert lines[-1] == "demo: ok"
    assert "\x1b" not in child.output
    assert max(map(len, lines)) <= MAX_WIDTH

    report = json.loads(path.read_text())
    kept, unkept = report["calls"]
    assert report["ok"]
    assert kept["outlivedLease"]
    assert _minutes(kept["startedAt"], kept["keepAliveTimes"][-1]) > LEASE_MINUTES
    assert kept["keepAlives"] == len(kept["keepAliveTimes"]) == report["sweeps"]["renewedByTimer"] >= 45 // 15
    assert report["sweeps"]["renewedByOthers"] == 0
    assert (kept["code"], kept["subcode"], kept["source"]) == (200, 5001, "notification")
    assert kept["reason"]
    assert (unkept["keepAlives"], unkept["code"], unkept["subcode"]) == (0, 408, 8537)
    assert unkept["reason"]
    assert (report["recording"]["status"], report["recording"]["callId"]) == ("completed", kept["id"])
    assert report["recording"]["id"]
    assert report["tokenKinds"] == ["legacy", "entra"]
    _check_relay(report["relay"], child.output)


def _check_relay(relay: Json, output: str) -> None:
    """Check that the bot missed nothing: it got all in order, and what was late with its own token."""
    deliveries = relay["deliveries"]
    ids = [each["id"] for each in deliveries]
    notifications = [each for each in deliveries if each["type"] == "notification"]
    late = [each for each in notifications if each["id"] in relay["missed"]]
    assert ids == sorted(set(ids))
    assert len(notifications) >= relay["notifications"] >= 3 + 3 + 1  # before, during and after the outage
    assert len(late) == 3
    assert {each["token"] for each in late} == {"own"}
    assert late[0]["attempts"] >= 3
    assert all(each["lateSeconds"] > 0 for each in late)
    assert {"call.established", "call.ended"} < {each["type"] for each in deliveries}
    assert relay["dead"] == 0
    assert relay["event"].startswith(f"call {relay['callId']} ended (1): ")
    assert relay["event"] in output
    assert all(f"{each['id']}  key " in output for each in late)
    assert "eyJ" not in output  # no token begins so


def test_a_demo_whose_host_dies_reports_it_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with demo("--report", path) as (child, living):
        host = next(pid for pid in living() if _program(pid) == "local.host")
        os.kill(host, signal.SIGKILL)
        assert child.wait(60) == 1
        assert living() == set()
    assert child.output.splitlines()[-1] == "demo: failed: host has ended (-9)"
    assert json.loads(path.read_text()) == {"ok": False, "reason": "host has ended (-9)"}


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 128 + signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGHUP, 128 + signal.SIGHUP, id="SIGHUP"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_an_interrupted_demo_leaves_no_process_behind(number: signal.Signals, code: int) -> None:
    with demo() as (child, living):
        os.kill(child.pid, number)
        assert child.wait(60) == code
        assert not _lasting(living)
    assert "Traceback" not in child.output


def test_an_unwritable_report_fails_before_the_story(tmp_path: Path) -> None:
    ended = _run("--report", str(tmp_path / "no-such-folder" / "report.json"))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"demo: failed: the report \S+ cannot be written: No such file or directory\n", ended.stderr)


def test_without_azurite_one_line_says_what_to_do(tmp_path: Path) -> None:
    ended = _run(root=_copy(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == f"demo: failed: Azurite is not installed in {tmp_path}/node_modules. Run make setup.\n"


@pytest.mark.skipif((Path(sys.prefix) / "bin" / "node").exists(), reason="this environment has a Node of its own")
@pytest.mark.parametrize("node", [pytest.param(None, id="no Node"), pytest.param("v18.19.0", id="Node 18")])
def test_without_a_recent_node_one_line_says_what_to_do(tmp_path: Path, node: str | None) -> None:
    _copy(tmp_path)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    if node:
        (tmp_path / "node").write_text(f"#!/bin/sh\necho {node}\n")
        (tmp_path / "node").chmod(0o755)
    ended = _run(root=tmp_path, path=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr == ("demo: failed: Node was not found, or is older than 20. Run make clean, then make setup.\n")


def _copy(folder: Path) -> Path:
    for package in ("local", "simulator"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _lasting(living: Callable[[], set[int]]) -> set[int]:
    """Return the processes that are alive after a wait. The kernel ends children of a killed parent with a delay."""
    deadline = time.monotonic() + MAX_END_WAIT.total_seconds()
    while living() and time.monotonic() < deadline:
        time.sleep(0.05)
    return living()


def _minutes(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)) / timedelta(minutes=1)


def _run(*arguments: str, root: Path = ROOT, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _program(pid: int) -> str:
    """Return the program of a process by its command line. A path in it may contain any name, so modules need `-m`."""
    found = PROGRAMS.search(command_of(pid))
    return found[1] or found[2] if found else ""
