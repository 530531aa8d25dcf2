"""The local host with a counter of its requests to storage: `python -m bench.counting_host …`.

Each SIGUSR1 prints the number of the phase that it ends and the requests since the last one, by kind.
"""

import json
import signal
import sys
from collections.abc import Iterator
from itertools import count

from bench.rounds import START_SIGNAL
from bench.transactions import Transactions
from local.host.__main__ import main


def pattern_of_phase(number: int) -> str:
    """Return a pattern that matches the line of a phase, numbered from 0."""
    return rf'^{{"phase": {number}, .*}}$'


def _phases() -> Iterator[None]:
    for number in count():
        with Transactions() as counted:
            yield
        print("\n" + json.dumps({"phase": number, "requests": counted.counts}), flush=True)


if __name__ == "__main__":
    phases = _phases()
    signal.signal(START_SIGNAL, lambda _number, _frame: next(phases))
    next(phases)
    sys.exit(main())
