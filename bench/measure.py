"""Figures of a process: time, CPU, memory, open descriptors, and the duration of its requests."""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

type Figures = dict[str, float]

_STATUS = Path("/proc/self/status")
_OPEN = Path("/proc/self/fd")


class Measure:
    """A measurement that begins when it is created: seconds by the clock, and CPU seconds in user and system mode."""

    def __init__(self) -> None:
        self.latencies: list[float] = []  # seconds, of each request
        self._cpu = _cpu_seconds()
        self._began = time.perf_counter()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Measure the duration of a request. A request that fails is not counted."""
        began = time.perf_counter()
        yield
        self.latencies.append(time.perf_counter() - began)

    def figures(self, done: int | None = None, **more: float) -> Figures:
        """Return the figures so far.

        Parameters
        ----------
        done
            Number of requests; None: the number of those that were measured.
        more
            Figures to add.
        """
        seconds, cpu = time.perf_counter() - self._began, _cpu_seconds() - self._cpu
        return {
            "done": len(self.latencies) if done is None else done,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_mb": peak_mb(),
            "p50_ms": 1000 * quantile(self.latencies, 0.5),
            "p99_ms": 1000 * quantile(self.latencies, 0.99),
            **more,
        }

    def print_figures(self) -> None:
        """Print the figures as the last line, for the process that started this one."""
        print(json.dumps(self.figures()), flush=True)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def peak_mb() -> float:
    """Return the maximum memory that this program had, in MB (10^6 bytes).

    On Linux it does not use `ru_maxrss`: that begins with the memory of the parent process (getrusage(2): exec keeps
    it).
    """
    if _STATUS.is_file():
        return _status_mb("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def resident_mb() -> float:
    """Return the memory that this process has now, in MB; the peak if the system has no proc(5)."""
    return _status_mb("VmRSS") if _STATUS.is_file() else peak_mb()


def open_descriptors() -> int:
    """Return the number of files and connections that this process has open; 0 if the system has no proc(5)."""
    return len(list(_OPEN.iterdir())) if _OPEN.is_dir() else 0


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU seconds that another process has used, by proc(5); 0 if the system has no such file."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.is_file():
        return 0.0
    fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _status_mb(name: str) -> float:
    """Return a size from proc(5), in MB."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) * 1024 / 1e6
