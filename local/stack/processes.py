"""Child processes for the demo, `make up` and the tests: started, waited for until ready, and never left behind."""

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
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

READY_TIMEOUT = 30.0  # seconds
GRACE = 8.0  # seconds between SIGTERM and SIGKILL: the host gives its invocations five
_ENDING = (signal.SIGTERM, signal.SIGHUP)  # Ctrl-C raises KeyboardInterrupt by itself
_TAIL = 20  # lines of output that an error quotes

# Linux: SIGKILL for the child when its parent is gone, however it went (prctl(2), PR_SET_PDEATHSIG). It holds across
# exec. A process of its own does it, as code between fork and exec is not safe in a program with threads.
_DIE_WITH_PARENT = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,9);"
    "os.getppid()==int(sys.argv[1]) or os._exit(1);"
    "os.execvp(sys.argv[2],sys.argv[2:])"
)


class ProcessError(Exception):
    """A child could not be started, did not become ready, or has ended. `reason` is one line; `said` its last words."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}. It said:\n{said}" if said else reason)
        self.reason = reason
        self.said = said


class Child:
    """A running child in a process group of its own, and what it said.

    Its output goes line by line to `log` (a file), or with `echo` to our stdout, and is kept to be waited for.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path | None, *, echo: bool) -> None:
        self.name = name
        self._process = process
        self._echo = echo
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._ended = False  # nothing more will be said
        self._over = False  # nothing is left of its group
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code; the negative number of the signal that ended it; None while it runs."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """All that it has said, stdout and stderr as they came."""
        with self._said:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = READY_TIMEOUT) -> re.Match[str]:
        """Wait until a line that it says, or has said, matches this regular expression.

        Raises
        ------
        ProcessError
            It ended, or the seconds passed, before that.
        """
        deadline, seen = time.monotonic() + timeout, 0
        with self._said:
            while True:
                for line in self._lines[seen:]:
                    if found := re.search(pattern, line):
                        return found
                seen = len(self._lines)
                if self._ended:
                    raise self._error(f"ended ({self._process.wait()}) before it said {pattern!r}")
                if not self._said.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise self._error(f"did not say {pattern!r} within {timeout:g} s")

    def wait(self, timeout: float = READY_TIMEOUT) -> int:
        """Wait until it ends by itself; its exit code. All that it said is in `output` then."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self._error(f"still runs after {timeout:g} s") from error
        self._reader.join(1)  # a grandchild may hold the pipe open
        return code

    def check(self) -> None:
        """Raise `ProcessError` if it has ended."""
        if (code := self.returncode) is not None:
            raise self._error(f"has ended ({code})")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its group."""
        if not self._over:  # once it is, the system may give its number to another
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def stop(self, grace: float = GRACE) -> int:
        """SIGTERM to its group, SIGKILL to what is left after the grace period; its exit code."""
        self.send(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to its group, at once; its exit code."""
        self.send(signal.SIGKILL)
        code = self.wait()
        self._over = True
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
            with self._said:
                self._ended = True
                self._said.notify_all()

    def _keep(self, line: str, file: IO[str] | None) -> None:
        if file:
            file.write(line)
            file.flush()
        if self._echo:
            print(line, end="", flush=True)
        with self._said:
            self._lines.append(line)
            self._said.notify_all()

    def _error(self, what: str) -> ProcessError:
        return ProcessError(f"{self.name} {what}", "".join(self._lines[-_TAIL:]).rstrip() or "nothing")


class Children:
    """A context in which children are started; all of them are ended with it, the last one first.

    Also on Ctrl-C, and on SIGTERM and SIGHUP (as `SystemExit`, if entered in the main thread); on Linux, if this
    process is killed, the kernel kills them. Start them in a thread that lives as long as they do: the kernel counts
    from it.
    """

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, _exit) for number in _ENDING}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.stop_all()
        finally:
            for child in self._children:
                child.kill()
            for number, before in self._before.items():
                signal.signal(number, before)  # type: ignore[arg-type] # what signal.signal gave

    def start(  # noqa: PLR0913 - the parts of a command; only two are always given
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        echo: bool = False,
    ) -> Child:
        """Start a command. `env` is added to our environment.

        Raises
        ------
        ProcessError
            There is no such program.
        """
        words = [str(word) for word in command]
        if shutil.which(words[0]) is None:
            raise ProcessError(f"{name} cannot be started: there is no program {words[0]}")
        process = subprocess.Popen(  # noqa: S603 - our own command lines, no shell
            [*_with_parent(), *words],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            text=True,
            errors="replace",
        )
        child = Child(name, process, log, echo=echo)
        self._children.append(child)
        return child

    def stop_all(self) -> None:
        """Stop all children, the last one first."""
        for child in reversed(self._children):
            child.stop()


def _with_parent() -> list[str]:
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
