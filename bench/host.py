"""The local host, looked into: `python -m bench.host …`. At each SIGUSR1 it goes on to the next of three things.

It counts the requests to storage; it samples its CPU time; it tells both in a line.
"""

import json
import signal
import sys
from collections.abc import Iterator

from bench.rounds import GO
from bench.sampler import Sampler
from bench.transactions import Transactions
from local.host.__main__ import main


def _phases() -> Iterator[None]:
    yield
    with Transactions() as counted:
        yield
    with Sampler() as sampler:
        yield
    print("\n" + json.dumps({"requests": counted.counts, "samples": sampler.samples}), flush=True)
    yield


if __name__ == "__main__":
    phases = _phases()
    signal.signal(GO, lambda _number, _frame: next(phases))
    next(phases)
    sys.exit(main())
