"""Two rounds in one process: the first includes what a process pays once, the next only what it pays each time.

The parent process starts each round by SIGUSR1, so that it can read Graph's counts between the rounds. The process
prints one line if it is ready, and one line with the figures of each round.
"""

import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping

ROUNDS = (1, 2)
READY_ROUND = 0  # the number in the line that says that the process is ready
START_SIGNAL = signal.SIGUSR1


async def serve_rounds(work: Callable[[int], Awaitable[Mapping[str, object]]]) -> None:
    """Do the work of each round if the parent starts it, and print the figures.

    Parameters
    ----------
    work
        Gets the number of the round, and returns its figures.
    """
    started = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(START_SIGNAL, started.set)
    _print_round(READY_ROUND, {})
    for number in ROUNDS:
        await started.wait()
        started.clear()
        _print_round(number, await work(number))


def pattern_of_round(number: int) -> str:
    """Return a pattern that matches the line of a round."""
    return re.escape(f'{{"round": {number}') + ".*"


def _print_round(number: int, figures: Mapping[str, object]) -> None:
    print(json.dumps({"round": number, **figures}), flush=True)
