"""The clock of a command that waits, which a test can step, and the lines that say what it waits for."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock in seconds that also sleeps. A test replaces both functions."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def since(self, began: float) -> timedelta:
        """Return the time since `began`, a value of `now`."""
        return timedelta(seconds=self.now() - began)

    def wait(self, pause: timedelta) -> None:
        """Sleep for `pause`."""
        self.sleep(pause.total_seconds())


def print_progress(line: str) -> None:
    """Print one line of progress."""
    print(f"publish: {line}", flush=True)
