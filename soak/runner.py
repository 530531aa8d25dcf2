"""Runs seeds one after another or in several processes, and adds up their findings."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import cast

from shared.telemetry import LOGGER
from soak.checker import Findings
from soak.fault_schedule import FaultProfile
from soak.loop import VirtualLoop
from soak.run import Run


def run_seed(seed: int, profile: FaultProfile, *, trace: bool = False) -> tuple[Findings, list[str]]:
    """Run one seed. Return the findings and the lines of its trace, which are none without `trace`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_run(seed, profile, trace=trace))


async def _run(seed: int, profile: FaultProfile, *, trace: bool) -> tuple[Findings, list[str]]:
    run = Run(seed, profile, cast("VirtualLoop", asyncio.get_running_loop()))
    world = run.world
    logger = logging.getLogger(LOGGER)
    kept = logger.level, logger.propagate
    handler = _TraceHandler(world.trace_log)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if trace else logging.CRITICAL + 1)
    logger.addHandler(handler)
    world.lines = [] if trace else None
    try:
        return await run.execute(), world.lines or []
    finally:
        world.stop()
        logger.removeHandler(handler)
        logger.level, logger.propagate = kept


def runs(seeds: Iterable[int], profile: FaultProfile, workers: int) -> Iterator[Findings]:
    """Run many seeds in `workers` processes. Yield their findings in the order of the seeds."""
    find = partial(_findings, profile=profile)
    if workers == 1:
        yield from map(find, seeds)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(find, seeds)


def _findings(seed: int, profile: FaultProfile) -> Findings:
    return run_seed(seed, profile)[0]


@dataclass
class Totals:
    """The findings of several runs together. Times in seconds."""

    runs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    margin: float = float("inf")
    margin_seed: int | None = None  # of the smallest margin
    failed: list[Findings] = field(default_factory=list)

    def add(self, findings: Findings) -> None:
        """Add the findings of one more run."""
        self.runs += 1
        for name, count in findings.counts.items():
            is_maximum = name.startswith("most")
            self.counts[name] = max(self.counts[name], count) if is_maximum else self.counts[name] + count
        if findings.margin < self.margin:
            self.margin, self.margin_seed = findings.margin, findings.seed
        if findings.violations:
            self.failed.append(findings)

    @property
    def ends_without_notification(self) -> int:
        """The number of calls that were closed without a notification of their end."""
        return self.counts["closed"] - self.counts["closed by notification"]

    @property
    def held(self) -> float:
        """The share of the time in which the liveness condition held."""
        return self.counts["moments held"] / max(self.counts["moments"], 1)


class _TraceHandler(logging.Handler):
    """Adds the product's own log lines to the trace."""

    def __init__(self, add: Callable[[str], None]) -> None:
        super().__init__()
        self._add = add

    def emit(self, record: logging.LogRecord) -> None:
        self._add(f"log      {record.getMessage()}")
