"""A sampling profiler: every few milliseconds of CPU time it records whose code runs.

A profiler that counts calls makes small functions look expensive; sampling costs almost nothing. A sample belongs to
the innermost frame that is in a named group. So a function of the standard library counts for its caller.
"""

import re
import signal
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

_INTERVAL = 0.001  # seconds of CPU; the kernel may make it four milliseconds
OTHER = "the rest"
_AIOHTTP, _AZURE, _FOR_AZURE = "aiohttp", "the Azure SDK", "aiohttp, for the Azure SDK"
_OURS = re.escape(str(Path(__file__).resolve().parent.parent))
_GROUPS = (
    (r"/site-packages/(aiohttp|yarl|multidict|frozenlist|aiosignal|propcache)/", _AIOHTTP),
    (r"/site-packages/azure(/functions|_functions)", "the Functions library"),
    (r"/site-packages/(azure|msal)/", _AZURE),
    (rf"/site-packages/opentelemetry/|{_OURS}/shared/telemetry\.py$", "telemetry"),
    (rf"/site-packages/(uvicorn|h11|httptools)/|{_OURS}/local/", "the local host"),
    (r"/site-packages/", "other libraries"),
    (rf"{_OURS}/(shared|functions|function_app)\b", "our code"),
    (rf"{_OURS}/bench/", "the bench"),
    (r"/asyncio/", "asyncio"),
)


class Sampler:
    """A context manager that samples the main thread."""

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()

    def __enter__(self) -> Self:
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)  # a signal may still be pending

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        files = []
        while frame:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        self.samples[group_of(files)] += 1


def group_of(files: Iterable[str]) -> str:
    """Return the group of a sample by the files of its frames, the innermost first."""
    groups = [group for file in files if (group := _group(file))]
    if groups[:1] == [_AIOHTTP] and _AZURE in groups:
        return _FOR_AZURE
    return groups[0] if groups else OTHER


@cache
def _group(file: str) -> str | None:
    return next((name for pattern, name in _GROUPS if re.search(pattern, file)), None)
