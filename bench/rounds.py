"""Two rounds in one process: the first pays what a process pays once, the next what it pays each time.

Whoever started the process says when a round begins, by SIGUSR1: so that what happened in one round can be counted
before the other. The process says that it is ready, and the figures of each round, in a line each.
"""

import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping

ROUNDS = (1, 2)
READY = 0
GO = signal.SIGUSR1


async def in_rounds(work: Callable[[int], Awaitable[Mapping[str, object]]]) -> None:
    """Do the work of each round, by its number, when it is time; tell its figures."""
    go = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(GO, go.set)
    _tell(READY, {})
    for number in ROUNDS:
        await go.wait()
        go.clear()
        _tell(number, await work(number))


def line_of(number: int) -> str:
    """A pattern for the line that tells of a round."""
    return re.escape(f'{{"round": {number}') + ".*"


def _tell(number: int, figures: Mapping[str, object]) -> None:
    print(json.dumps({"round": number, **figures}), flush=True)
