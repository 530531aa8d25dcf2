"""Waiting for an event in another process."""

import time
from collections.abc import Callable
from datetime import timedelta

POLL_INTERVAL = timedelta(seconds=0.02)


def wait_until(holds: Callable[[], bool], max_wait: timedelta = timedelta(seconds=20)) -> None:
    """Wait until a condition holds. A test cannot step the clock of another process.

    Raises
    ------
    AssertionError
        The condition does not hold after `max_wait`.
    """
    deadline = time.monotonic() + max_wait.total_seconds()
    while not holds():
        assert time.monotonic() < deadline, f"the condition did not hold within {max_wait}"
        time.sleep(POLL_INTERVAL.total_seconds())
