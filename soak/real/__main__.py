"""`python -m soak.real [--minutes 5] [--seed 0]`: run real processes under random faults, and report violations."""

import argparse
import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from local.demo.console import GREEN, RED, Console
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import Options
from soak.real import LEASE, MINUTE, SPEED
from soak.real.bots import BotCall, Bots
from soak.real.checker import Checker, FaultInterval, Findings
from soak.real.faults import GRAPH_FAULTS, TICK, Context, Fault, FaultDeck, inflict
from soak.real.world import World, running

CALM = (25, 30)  # minutes between faults: a little more than the path *timer* of docs/reliability.md needs, 24
CALM_WITHOUT_TIMERS = (40, 45)  # a little more than the path *requests alone* needs, 39
OPTIONS = Options(SPEED, schedule=f"*/{TICK} * * * * *", keep_storage=True, settings={"GRAPH_TIMEOUT": "PT3S"})
DELIVERY = {
    "loss": 0.1,
    "duplicate": 0.3,
    "delaySeconds": 10,
    "reorder": 0.3,
    "reorderSeconds": 120,
    "attempts": 4,
    "retrySeconds": 60,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, check and print the summary. Return the exit code: 1 after a violation, 2 if the run was impossible."""
    parser = argparse.ArgumentParser(
        prog="python -m soak.real", description="Run real processes under random faults, and report violations."
    )
    parser.add_argument("--minutes", type=_minutes, default=5, help="real minutes with faults (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()) % 10_000,
        help="the same seed draws the same faults (default: random)",
    )
    args = parser.parse_args(arguments)
    try:
        with running(OPTIONS) as world:
            run = Run(world, args.seed)
            findings = run.execute(args.minutes * 60)
            logs = _keep_logs(world.stack.folder) if findings.violations else None
    except (AzuriteError, ProcessError) as error:
        print(f"soak-real: could not run: {error}", file=sys.stderr)
        return 2
    return run.print_summary(findings, f"make soak-real MINUTES={args.minutes:g} SEED={args.seed}", logs)


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of minutes above 0")


class Run:
    """One run: bots act in their thread while this one begins and ends faults, then all is checked."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._console = Console()
        self._context = Context(world, Random(f"troubles {seed}"))  # the name is part of what a seed means
        self._faults: list[FaultInterval] = []
        self._counts: Counter[str] = Counter()
        self._calls: list[BotCall] = []

    def execute(self, seconds: float) -> Findings:
        """Run with faults for so many real seconds, then without faults for a lease at most, and check all calls."""
        self._console.title(
            f"Seed {self._seed}, {SPEED} times as fast: a minute takes a second, a lease {LEASE} seconds"
        )
        self._world.stack.add_host()
        self._world.set_delivery(**DELIVERY)
        self._console.say("set-up", "Two hosts share one storage, and both timers fire. Bots start and end calls.")
        bots = Bots(self._world.stack, self._seed)
        self._calls = bots.calls
        ends, deck = time.monotonic() + seconds, FaultDeck(self._context)
        try:
            self._wait_without_faults()
            while time.monotonic() < ends:
                self._inflict(deck.draw())
                self._wait_without_faults()
                bots.check()
        finally:
            bots.stop()
        bots.join()
        findings = self._check()
        findings.violations += [f"no fault explains it: {text}" for text in bots.unexpected]
        return findings

    def print_summary(self, findings: Findings, command: str, logs: Path | None) -> int:
        """Print the figures, the violations and the command that repeats the run. Return the exit code."""
        fact, margin = self._console.fact, findings.margin / timedelta(minutes=1)
        self._console.title("Summary")
        fact("faults", ", ".join(f"{count} x {name}" for name, count in self._counts.items()) or "none")
        fact("calls", f"{len(self._calls)}, of which {findings.ended} ended and were closed once")
        fact("reasons", f"{findings.with_reason} from Graph's notification; no notification of the others arrived")
        fact("margin", f"at least {margin:.0f} of {LEASE} minutes were left at each renewal")
        fact("machine", f"load {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors; calls lapse on a busy machine")
        fact("not checked", f"{findings.unknown} calls lapsed before Call Keeper knew of them")
        for lapse in findings.excused:
            fact("not checked", lapse)
        for violation in findings.violations:
            self._console.say("violation", violation, RED)
        if findings.violations:
            count = len(findings.violations)
            self._console.last(f"soak-real: failed: {count} violations; logs in {logs}; to repeat it: {command}")
            return 1
        self._console.last("soak-real: ok")
        return 0

    def _inflict(self, faults: tuple[Fault, ...]) -> None:
        """Begin and end these faults, and record when they were there."""
        self._counts.update(fault.name for fault in faults)
        start = self._world.simulated_now()
        inflict(self._context, faults, lambda text: self._console.say("fault", text, RED))
        end = self._world.simulated_now()
        self._faults.append(FaultInterval(start, end, "graph" if set(faults) <= set(GRAPH_FAULTS) else "ours"))
        self._console.more(f"{start:%H:%M} to {end:%H:%M} by Graph's clock")

    def _wait_without_faults(self) -> None:
        """Wait for as long as the condition needs, then print the number of calls."""
        start, timers_disabled = self._world.simulated_now(), self._context.timers_disabled
        minutes = self._context.random.uniform(*(CALM_WITHOUT_TIMERS if timers_disabled else CALM))
        time.sleep(minutes * MINUTE)
        if timers_disabled:
            self._faults.append(FaultInterval(start, self._world.simulated_now(), "timersDisabled"))
        calls = self._world.simulated_calls([call.id for call in self._calls])
        active = sum(not call.over for call in calls)
        self._console.say("no fault", f"{len(calls)} calls so far, {active} of them active", GREEN)

    def _check(self) -> Findings:
        """Wait until every end is found, for a lease at most, then check all calls."""
        checker = Checker(self._world, self._faults, datetime.now(UTC))
        ends = time.monotonic() + LEASE * MINUTE
        while not checker.is_settled(self._calls) and time.monotonic() < ends:
            time.sleep(MINUTE)
        self._console.say("checker", "The bots have stopped. Compare Graph's calls with Call Keeper's.")
        return checker.check(self._calls)


def _keep_logs(folder: Path) -> Path:
    """Copy the logs of all processes. Return their new folder."""
    kept = Path(tempfile.mkdtemp(prefix="soak-real-"))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    return kept


if __name__ == "__main__":
    sys.exit(main())
