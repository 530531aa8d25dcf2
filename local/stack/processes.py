"""Child processes for the demo, `make up` and the tests: start, wait until ready, and always end."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

READY_TIMEOUT = timedelta(seconds=30)
TERMINATION_GRACE = timedelta(seconds=8)  # between SIGTERM and SIGKILL; the host gives its invocations five seconds
_READER_GRACE = timedelta(seconds=1)  # for the last output of a child that has ended
MAX_QUOTED_LINES = 20  # of the output, in an error
_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # Ctrl-C raises KeyboardInterrupt by itself

# Linux: the kernel sends SIGKILL to the child when its parent ends for any reason (prctl(2), PR_SET_PDEATHSIG). The
# setting survives exec. A separate process makes it, because code between fork and exec is unsafe in a program with
# threads.
_DIE_WITH_PARENT = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)


class ProcessError(Exception):
    """A child could not be started, did not become ready, or has ended.

    `reason` is one line; `said` is the end of the child's output.
    """

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}. Its output:\n{said}" if said else reason)
        self.reason = reason
        self.said = said


class Child:
    """A running child in its own process group, and its output.

    Each line of output is kept, so that `wait_for` finds it, and goes to the file `log` and, with `echo`, to our
    stdout.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path | None, *, echo: bool) -> None:
        self.name = name
        self._process = process
        self._echo = echo
        self._lines: list[str] = []
        self._output_changed = threading.Condition()
        self._output_ended = False
        self._group_ended = False
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that ended it; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """The output so far, stdout and stderr in the order of their arrival."""
        with self._output_changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = READY_TIMEOUT.total_seconds()) -> re.Match[str]:
        """Wait until a line of output, also an earlier one, matches this regular expression; return the match.

        Raises
        ------
        ProcessError
            The child ended first, or `timeout` seconds passed.
        """
        deadline, seen = time.monotonic() + timeout, 0
        with self._output_changed:
            while True:
                for line in self._lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self._lines)
                if self._output_ended:
                    raise self._error(f"ended ({self._process.wait()}) before it printed {pattern!r}")
                remaining = max(0.0, deadline - time.monotonic())
                if not self._output_changed.wait(remaining) and time.monotonic() >= deadline:
                    raise self._error(f"did not print {pattern!r} within {timeout:g} s")

    def wait(self, timeout: float = READY_TIMEOUT.total_seconds()) -> int:
        """Wait until the child ends by itself, and return its exit code. `output` is complete then.

        Raises
        ------
        ProcessError
            The child still runs after `timeout` seconds.
        """
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"still runs after {timeout:g} s") from error
        self._reader.join(_READER_GRACE.total_seconds())  # a grandchild may hold the pipe open
        return code

    def check(self) -> None:
        """Raise `ProcessError` if the child has ended."""
        if (code := self.returncode) is not None:
            raise self._error(f"has ended ({code})")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process group, unless it was killed before."""
        if not self._group_ended:  # afterwards the system may reuse its id
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def stop(self, grace: float = TERMINATION_GRACE.total_seconds()) -> int:
        """Send SIGTERM to the process group, and SIGKILL after `grace` seconds. Return the exit code."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        return self.kill()

    def kill(self) -> int:
        """Send SIGKILL to the process group, and return the exit code."""
        self.send(signal.SIGKILL)
        code = self.wait()
        self._group_ended = True
        return code

    def _read(self, log: Path | None) -> None:
        file = log.open("a", encoding="utf-8") if log else None
        try:
            if self._process.stdout:
                with self._process.stdout as lines:
                    for line in lines:
                        self._keep(line, file)
        finally:
            if file:
                file.close()
            with self._output_changed:
                self._output_ended = True
                self._output_changed.notify_all()

    def _keep(self, line: str, file: IO[str] | None) -> None:
        if file:
            file.write(line)
            file.flush()
        if self._echo:
            print(line, end="", flush=True)
        with self._output_changed:
            self._lines.append(line)
            self._output_changed.notify_all()

    def _error(self, problem: str) -> ProcessError:
        return ProcessError(f"{self.name} {problem}", "".join(self._lines[-MAX_QUOTED_LINES:]).rstrip() or "nothing")


class Children:
    """A context manager that starts children and ends all of them, the last one first.

    It also ends them on Ctrl-C, SIGTERM and SIGHUP. The signals raise `SystemExit`, if the context was entered in the
    main thread. On Linux the kernel kills the children if this process is killed. The kernel watches the thread that
    started a child, so start it in a thread that lives as long as the child.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, _exit) for number in _END_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.stop_all()
        finally:
            for child in self._children:
                child.kill()
            for number, before in self._before.items():
                signal.signal(number, before)  # type: ignore[arg-type] # the value that signal.signal returned

    def start(  # noqa: PLR0913 - options of a command; most calls give two
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        echo: bool = False,
    ) -> Child:
        """Start a command.

        Parameters
        ----------
        name
            The name in errors.
        command
            The program and its arguments.
        env
            Variables that are added to our environment.
        cwd
            Its working directory; None for ours.
        log
            A file that gets its output.
        echo
            True to print its output.

        Raises
        ------
        ProcessError
            The program does not exist.
        """
        words = [str(word) for word in command]
        if shutil.which(words[0]) is None:
            raise ProcessError(f"{name} cannot be started: there is no program {words[0]}")
        child = Child(name, _spawn(words, env or {}, cwd), log, echo=echo)
        self._children.append(child)
        return child

    def stop_all(self) -> None:
        """Stop all children, the last one first."""
        for child in reversed(self._children):
            child.stop()


def _spawn(words: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own command lines, no shell
        [*_with_parent(), *words],
        env={**os.environ, **env},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        text=True,
        errors="replace",
    )


def _with_parent() -> list[str]:
    """Return the prefix of a command that makes the kernel end the child with this process; nothing outside Linux."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
