"""Lives one after another or side by side, and what they showed together."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import cast

from shared.telemetry import LOGGER
from soak.checker import Findings
from soak.fault_schedule import Climate
from soak.loop import VirtualLoop
from soak.world import World, listening


def live(seed: int, climate: Climate, *, trace: bool = False) -> tuple[Findings, list[str]]:
    """Live one life; what came out of it, and its trace, if that is wanted."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(_live(seed, climate, trace=trace))


async def _live(seed: int, climate: Climate, *, trace: bool) -> tuple[Findings, list[str]]:
    world = World(seed, climate, cast("VirtualLoop", asyncio.get_running_loop()))
    logger = logging.getLogger(LOGGER)
    kept = logger.level, logger.propagate
    handler = listening(world)
    logger.propagate = False
    logger.setLevel(logging.DEBUG if trace else logging.CRITICAL + 1)
    logger.addHandler(handler)
    world.lines = [] if trace else None
    try:
        return await world.live(), world.lines or []
    finally:
        world.stop()
        logger.removeHandler(handler)
        logger.level, logger.propagate = kept


def lives(seeds: Iterable[int], climate: Climate, workers: int) -> Iterator[Findings]:
    """The findings of many lives, in the order of their seeds."""
    one = partial(_findings, climate=climate)
    if workers == 1:
        yield from map(one, seeds)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(one, seeds)


def _findings(seed: int, climate: Climate) -> Findings:
    return live(seed, climate)[0]


@dataclass
class Sum:
    """Several lives together. Times in seconds."""

    lives: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    margin: float = float("inf")
    narrowest: int | None = None  # the seed of the smallest margin
    failed: list[Findings] = field(default_factory=list)

    def add(self, findings: Findings) -> None:
        """Count another life."""
        self.lives += 1
        for name, many in findings.counts.items():
            self.counts[name] = max(self.counts[name], many) if name.startswith("most") else self.counts[name] + many
        if findings.margin < self.margin:
            self.margin, self.narrowest = findings.margin, findings.seed
        if findings.violations:
            self.failed.append(findings)

    @property
    def silent(self) -> int:
        """How many ends came on record without a notification."""
        return self.counts["closed"] - self.counts["closed by notification"]

    @property
    def held(self) -> float:
        """In which part of the time the liveness condition held."""
        return self.counts["moments held"] / max(self.counts["moments"], 1)
