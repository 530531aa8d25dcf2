"""The local host with counters: `python -m bench.profiled_host …`. Each SIGUSR1 begins its next phase.

The phases: count the requests to storage, sample the CPU time, print both in one line.
"""

import json
import signal
import sys
from collections.abc import Iterator

from bench.rounds import START_SIGNAL
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
    signal.signal(START_SIGNAL, lambda _number, _frame: next(phases))
    next(phases)
    sys.exit(main())
