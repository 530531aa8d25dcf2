"""`python -m soak.real [--minutes 5] [--seed 0]`: faults drawn from a seed, and whether the promises held."""

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

from local.demo.story import GREEN, RED, Story
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import Options
from soak.real import LEASE, MINUTE, SPEED
from soak.real.bots import Bots, Life
from soak.real.checker import Findings, Judge, Span
from soak.real.faults import OF_GRAPH, SWEEPS, Scene, Trouble, Troubles, pass_through
from soak.real.world import World, running

CALM = (25, 30)  # minutes between troubles: the condition of docs/reliability.md, and a little
CALM_FROZEN = (40, 45)
OPTIONS = Options(SPEED, schedule=f"*/{SWEEPS} * * * * *", keep_storage=True, settings={"GRAPH_TIMEOUT": "PT3S"})
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
    """Run, judge, sum up; the exit code: 1 where a promise was broken, 2 where nothing could be judged."""
    parser = argparse.ArgumentParser(prog="python -m soak.real", description="Faults on real processes.")
    parser.add_argument("--minutes", type=_minutes, default=5, help="real minutes of trouble (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10_000, help="draws the same troubles again")
    args = parser.parse_args(arguments)
    try:
        with running(OPTIONS) as world:
            run = Run(world, args.seed)
            findings = run.run(args.minutes * 60)
            logs = _keep_logs(world.stack.folder) if findings.violations else None
    except (AzuriteError, ProcessError) as error:
        print(f"soak-real: could not run: {error}", file=sys.stderr)
        return 2
    return run.sum_up(findings, f"make soak-real MINUTES={args.minutes:g} SEED={args.seed}", logs)


def _minutes(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is no number of minutes above 0")


class Run:
    """One run: the bots on their thread, the troubles on this one, then calm and the judgement."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._story = Story()
        self._scene = Scene(world, Random(f"troubles {seed}"))
        self._troubles: list[Span] = []
        self._counts: Counter[str] = Counter()
        self._lives: list[Life] = []

    def run(self, seconds: float) -> Findings:
        """Trouble for so long, then as much calm as a lease."""
        self._story.title(f"Seed {self._seed}: {SPEED} times as fast: a minute takes a second, a lease {LEASE}")
        self._world.stack.add_host()
        self._world.deliver(**DELIVERY)
        self._story.say("set-up", "Two hosts on one storage, whose timers both fire; bots begin and end calls.")
        bots = Bots(self._world.stack, self._seed)
        self._lives = bots.lives
        ends, troubles = time.monotonic() + seconds, Troubles(self._scene)
        try:
            self._calm()
            while time.monotonic() < ends:
                self._trouble(troubles.draw())
                self._calm()
                bots.check()
        finally:
            bots.tire()
        bots.rest()
        findings = self._judge()
        findings.violations += [f"no fault explains it: {text}" for text in bots.surprises]
        return findings

    def sum_up(self, findings: Findings, command: str, logs: Path | None) -> int:
        """The figures, the violations, how to see them again."""
        margin = findings.margin / timedelta(minutes=1)
        self._story.title("In short")
        self._story.fact("troubles", ", ".join(f"{count} x {name}" for name, count in self._counts.items()) or "none")
        self._story.fact("calls", f"{len(self._lives)}, {findings.ended} of them over and closed once")
        self._story.fact("reasons", f"{findings.told} told by Graph; of the others no word came through")
        self._story.fact("margin", f"{margin:.0f} minutes of {LEASE} were left at least")
        self._story.fact(
            "machine", f"load {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors: what starves lapses"
        )
        self._story.fact("not judged", f"{findings.unknown} lapsed before Call Keeper was told of them")
        for lapse in findings.excused:
            self._story.fact("not judged", lapse)
        for violation in findings.violations:
            self._story.say("violation", violation, RED)
        if findings.violations:
            self._story.last(
                f"soak-real: failed: {len(findings.violations)} violations; logs in {logs}; again: {command}"
            )
            return 1
        self._story.last("soak-real: ok")
        return 0

    def _trouble(self, drawn: tuple[Trouble, ...]) -> None:
        """Go through it, and note when it was."""
        self._counts.update(trouble.name for trouble in drawn)
        start = self._world.simulated_now()
        pass_through(self._scene, drawn, lambda text: self._story.say("trouble", text, RED))
        end = self._world.simulated_now()
        self._troubles.append(Span(start, end, "graph" if set(drawn) <= set(OF_GRAPH) else "ours"))
        self._story.more(f"{start:%H:%M} to {end:%H:%M} by Graph's clock")

    def _calm(self) -> None:
        """As long as the condition asks for; then how things stand."""
        start = self._world.simulated_now()
        time.sleep(self._scene.random.uniform(*(CALM_FROZEN if self._scene.frozen else CALM)) * MINUTE)
        if self._scene.frozen:
            self._troubles.append(Span(start, self._world.simulated_now(), "frozen"))
        calls = self._world.all_simulated([life.id for life in self._lives])
        over = sum(call.over for call in calls)
        self._story.say("calm", f"{len(calls)} calls so far, {len(calls) - over} of them alive", GREEN)

    def _judge(self) -> Findings:
        """When every end is found, or a lease has passed in which it should have been."""
        judge = Judge(self._world, self._troubles, datetime.now(UTC))
        ends = time.monotonic() + LEASE * MINUTE
        while not judge.is_settled(self._lives) and time.monotonic() < ends:
            time.sleep(MINUTE)
        self._story.say("judge", "The bots rest. What does Graph say, and what Call Keeper?")
        return judge.judge(self._lives)


def _keep_logs(folder: Path) -> Path:
    """Copies of what the processes said."""
    kept = Path(tempfile.mkdtemp(prefix="soak-real-"))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    return kept


if __name__ == "__main__":
    sys.exit(main())
