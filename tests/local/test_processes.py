"""Child processes: waiting until ready, errors, and their end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack.processes import Child, Children, ProcessError
from tests.local.waiting import wait_until

PYTHON = (sys.executable, "-u", "-c")
STAYS = "import time; print('ready: 7', flush=True); time.sleep(60)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAYS}"
# A child that starts another child and prints its process id.
PARENT = f"import subprocess, sys; print('child', subprocess.Popen([sys.executable, '-c', {STAYS!r}]).pid); {STAYS}"
REPOSITORY = Path(__file__).resolve().parents[2]


def has_ended(pid: int) -> bool:
    """True if the process has ended; also if its parent has not waited for it yet (a zombie)."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_child_is_awaited_until_ready_and_ends_with_the_block() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, STAYS])
        assert child.wait_for(r"ready: (\d)")[1] == "7"
        assert child.wait_for("ready")[0] == "ready"  # also if the line was printed before
        assert child.returncode is None
        pid = child.pid
    assert has_ended(pid)
    assert child.returncode == -signal.SIGTERM


def test_a_child_that_ends_early_is_an_error_with_its_output() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, "import sys; print('bad luck'); sys.exit(3)"])
        with pytest.raises(ProcessError, match=r"(?s)server ended \(3\) before it printed 'ready'.*bad luck"):
            child.wait_for("ready")
        assert (child.wait(), child.output) == (3, "bad luck\n")


def test_a_child_that_does_not_get_ready_is_an_error_at_the_deadline() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, STAYS])
        with pytest.raises(ProcessError, match=r"server did not print 'steady' within 0\.1 s"):
            child.wait_for("steady", 0.1)
        with pytest.raises(ProcessError, match=r"server still runs after 0\.1 s"):
            child.wait(0.1)


def test_a_missing_program_is_named() -> None:
    with Children() as children, pytest.raises(ProcessError, match="there is no program no-such-program"):
        children.start("server", ["no-such-program"])


def test_a_child_that_ignores_the_signal_is_killed_after_the_grace_period() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, IGNORES_SIGTERM])
        child.wait_for("ready")
        assert child.stop(grace=0.2) == -signal.SIGKILL


def test_grandchildren_end_with_their_group() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, PARENT])
        grandchild = int(child.wait_for(r"child (\d+)")[1])
        child.wait_for("ready")
        child.kill()
        wait_until(lambda: has_ended(grandchild))


def test_a_child_gets_its_environment_folder_and_log_file(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with Children() as children:
        command = [*PYTHON, "import os; print(os.environ['WORD'], os.getcwd())"]
        children.start("teller", command, env={"WORD": "hello"}, cwd=tmp_path, log=log).wait()
    assert log.read_text() == f"hello {tmp_path}\n"


def test_output_is_printed_with_echo(capfd: pytest.CaptureFixture[str]) -> None:
    with Children() as children:
        children.start("teller", [*PYTHON, "print('printed by the child')"], echo=True).wait()
    assert "printed by the child" in capfd.readouterr().out


def test_children_end_if_the_block_fails() -> None:
    started: list[Child] = []

    def failing() -> None:
        with Children() as children:
            started.append(children.start("server", [*PYTHON, STAYS]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert has_ended(started[0].pid)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, -signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_children_end_with_their_parent(number: signal.Signals, code: int) -> None:
    program = f"""
import sys, time
from local.stack.processes import Children
with Children() as children:
    child = children.start("server", [sys.executable, "-u", "-c", {STAYS!r}])
    child.wait_for("ready")
    print(child.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, number)
        assert parent.wait(20) == code
    wait_until(lambda: has_ended(child))


def test_the_handler_of_sigterm_is_restored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another test of this process may have running children
    try:
        with Children():
            assert signal.getsignal(signal.SIGTERM) not in {signal.SIG_IGN, signal.SIG_DFL}
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
