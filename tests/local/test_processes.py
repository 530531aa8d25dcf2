"""Child processes: waited for, told about, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local.stack.processes import Child, Children, ProcessError

PYTHON = (sys.executable, "-u", "-c")
STAYS = "import time; print('ready: 7', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {STAYS}"
# A child with a child of its own, of which it tells the process id.
PARENT = f"import subprocess, sys; print('child', subprocess.Popen([sys.executable, '-c', {STAYS!r}]).pid); {STAYS}"
REPOSITORY = Path(__file__).resolve().parents[2]


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet has, too."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until it holds: what happens in another process cannot be stepped."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_child_is_waited_for_until_it_says_that_it_is_ready_and_ends_with_the_block() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, STAYS])
        assert child.wait_for(r"ready: (\d)")[1] == "7"
        assert child.wait_for("ready")[0] == "ready"  # also when it was said before
        assert child.returncode is None
        pid = child.pid
    assert gone(pid)
    assert child.returncode == -signal.SIGTERM


def test_a_child_that_ends_instead_is_an_error_with_its_last_words() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, "import sys; print('bad luck'); sys.exit(3)"])
        with pytest.raises(ProcessError, match=r"(?s)server ended \(3\) before it said 'ready'.*bad luck"):
            child.wait_for("ready")
        assert (child.wait(), child.output) == (3, "bad luck\n")


def test_a_child_that_says_nothing_is_an_error_at_the_deadline() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, STAYS])
        with pytest.raises(ProcessError, match=r"server did not say 'steady' within 0\.1 s"):
            child.wait_for("steady", 0.1)
        with pytest.raises(ProcessError, match=r"server still runs after 0\.1 s"):
            child.wait(0.1)


def test_a_program_that_is_not_there_is_named() -> None:
    with Children() as children, pytest.raises(ProcessError, match="there is no program no-such-program"):
        children.start("server", ["no-such-program"])


def test_a_child_that_ignores_the_signal_is_killed_after_the_grace_period() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, STUBBORN])
        child.wait_for("ready")
        assert child.stop(grace=0.2) == -signal.SIGKILL


def test_grandchildren_end_with_their_group() -> None:
    with Children() as children:
        child = children.start("server", [*PYTHON, PARENT])
        grandchild = int(child.wait_for(r"child (\d+)")[1])
        child.wait_for("ready")
        child.kill()
        until(lambda: gone(grandchild))


def test_output_goes_to_a_file_and_the_environment_and_folder_are_the_childs(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with Children() as children:
        command = [*PYTHON, "import os; print(os.environ['WORD'], os.getcwd())"]
        children.start("teller", command, env={"WORD": "hello"}, cwd=tmp_path, log=log).wait()
    assert log.read_text() == f"hello {tmp_path}\n"


def test_output_is_passed_on_where_that_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    with Children() as children:
        children.start("teller", [*PYTHON, "print('for all to see')"], echo=True).wait()
    assert "for all to see" in capfd.readouterr().out


def test_children_end_also_when_the_block_fails() -> None:
    started: list[Child] = []

    def failing() -> None:
        with Children() as children:
            started.append(children.start("server", [*PYTHON, STAYS]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert gone(started[0].pid)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_children_end_with_their_parent_however_it_ends(number: signal.Signals, code: int) -> None:
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
    until(lambda: gone(child))


def test_the_handler_of_sigterm_is_put_back() -> None:
    others = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another test's children may be under way in this process
    try:
        with Children():
            assert signal.getsignal(signal.SIGTERM) not in {signal.SIG_IGN, signal.SIG_DFL}
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, others)
