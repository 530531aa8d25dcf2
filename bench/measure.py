"""What a process tells of itself when it is done: time, CPU, memory, how long its requests took."""

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

type Figures = dict[str, float]

_STATUS = Path("/proc/self/status")


class Measure:
    """From here to `tell`: seconds by the clock and of CPU, user and system together."""

    def __init__(self) -> None:
        self.latencies: list[float] = []  # seconds, of each request
        self._cpu = _cpu_seconds()
        self._began = time.perf_counter()

    def figures(self, done: int, **more: float) -> Figures:
        """The figures of `done` requests."""
        seconds, cpu = time.perf_counter() - self._began, _cpu_seconds() - self._cpu
        return {
            "done": done,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_mb": peak_mb(),
            "p50_ms": 1000 * quantile(self.latencies, 0.5),
            "p99_ms": 1000 * quantile(self.latencies, 0.99),
            **more,
        }

    def tell(self, done: int, **more: float) -> None:
        """Print the figures as the last line, for whoever started this process."""
        print(json.dumps(self.figures(done, **more)), flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def peak_mb() -> float:
    """The most memory that this program had, in MB (10^6 bytes).

    On Linux not `ru_maxrss`: that begins with what the parent had when it started us (getrusage(2), exec keeps it).
    """
    if _STATUS.is_file():
        line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
