"""The contest of keepAlives: contestants in turn, round by round, each in a process of its own."""

import json
import os
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.environment import FASTEST, app_settings
from bench.measure import Figures
from bench.rounds import GO, READY, ROUNDS, line_of
from local.stack import azurite
from local.stack.processes import Child, Children
from shared.storage.store import SHARDS

ROOT = Path(__file__).resolve().parent.parent
SDK = ROOT / ".venv" / "bench" / "bin" / "python"
MOST_OF_SDK = 2_000  # calls of (b): it is slow, and its rate does not depend on how many they are
RATE = 500  # requests a second: the default of GRAPH_REQUESTS_PER_SECOND
MOST_OF_PACE = 5_000  # calls that are renewed at that rate
SWEEPS_AN_HOUR = 4  # KEEP_ALIVE_SCHEDULE: every 15 minutes
OF_THE_SWITCH = 2  # transactions: the host gets and deletes the message
FAN_OUT_ABOVE = 20_000  # calls: the default of SWEEP_FAN_OUT_THRESHOLD
LONGEST = 900.0  # seconds for one contestant
_START = 60.0  # seconds until it is ready

type Json = dict[str, object]


class BenchError(Exception):
    """A contestant failed, or did not do its work. The message is one line."""


@dataclass(frozen=True, slots=True)
class Round:
    """What each process told of a round, how long it took by our clock, in seconds, and what Graph was asked."""

    told: list[Json]
    seconds: float
    asked: Json


def contest(sizes: Sequence[int], rounds: int, workers: int, *, sdk: bool = True) -> Iterator[tuple[str, Json]]:
    """Measure each size, round by round, the very large ones once; gives each result with its name, as it comes."""
    with Children() as children, graph(children) as url:
        for size in sizes:
            yield f"{size}", _one_size(url, size, 1 if size > FAN_OUT_ABOVE else rounds, workers, sdk=sdk)
        yield "pace", _pace(url, min((max(sizes), MOST_OF_PACE)))


@contextmanager
def graph(children: Children, keys: str = "{}", *identity: str) -> Iterator[str]:
    """Run the Graph that counts, by https if there is a file with its key and certificate; its address."""
    child = children.start("graph", [sys.executable, "-m", "bench.graph", keys, *identity], cwd=ROOT)
    yield child.wait_for(r"graph ready: (\S+)")[1]
    child.stop()


def module(name: str, *arguments: object) -> list[str]:
    """The command line of a module of the bench."""
    return [sys.executable, "-m", f"bench.{name}", *map(str, arguments)]


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(  # noqa: S603 (our own command lines)
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise BenchError(f"{' '.join(command[1:4])} failed: {said[-1]}")
    return done.stdout


def told(output: str) -> Json:
    """What a contestant tells, in one line; libraries may say a word of their own behind it."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchError(f"nothing was told: {output.strip()[-200:]}")
    return cast("Json", json.loads(lines[-1]))


def in_rounds(
    url: str, size: int, commands: Sequence[Sequence[str]], env: Mapping[str, str], before: str = "reset"
) -> Generator[Round]:
    """Let processes work together, round by round; Graph is told a word before each, and tells what it was asked."""
    with Children() as children:
        started = [
            children.start(" ".join(command[2:]), command, env={"PYTHONPATH": str(ROOT), **env}, cwd=ROOT)
            for command in commands
        ]
        _lines(started, READY, _START)
        for number in ROUNDS:
            ask(url, before)
            began = time.monotonic()
            for child in started:
                child.send(GO)
            lines = _lines(started, number, LONGEST)
            yield Round([told(line) for line in lines], time.monotonic() - began, ask(url, f"counts/{size}"))


def once_each(url: str, size: int, commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> list[Round]:
    """The same, to the end; each call is asked for exactly once in each round."""
    found = []
    for each in in_rounds(url, size, commands, env):
        if (each.asked["missing"], each.asked["strange"], each.asked["repeated"]) != (0, 0, 0):
            raise BenchError(f"Graph was not asked once for each of {size} calls: {each.asked}")
        found.append(each)
    return found


def ask(url: str, what: str, root: str | None = None) -> Json:
    """Ask the Graph that counts, or tell it something; `root` is the certificate of its authority, if it has https."""
    context = ssl.create_default_context(cafile=root) if root else None
    with urllib.request.urlopen(f"{url}/{what}", context=context) as answer:  # noqa: S310 (our own server)
        return cast("Json", json.load(answer))


def middle(runs: Sequence[Figures]) -> Figures:
    """The median of each figure, but the most of `peak_mb`; with the requests a second and CPU seconds per 1,000."""
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    figures["peak_mb"] = max(run["peak_mb"] for run in runs)
    figures["per_second"] = statistics.median(run["done"] / run["seconds"] for run in runs)
    figures["cpu_seconds_per_1000"] = statistics.median(1000 * run["cpu_seconds"] / run["done"] for run in runs)
    return figures


def ratio(upper: Sequence[Figures], lower: Sequence[Figures], name: str) -> float:
    """The median of the ratios round by round: what disturbs a round disturbs both."""
    pairs = zip(upper, lower, strict=True)
    return statistics.median(middle([one])[name] / middle([other])[name] for one, other in pairs)


def figures_of(told: Json) -> Figures:
    """The figures of what a contestant told."""
    return {name: value for name, value in told.items() if isinstance(value, int | float) and name != "round"}


def transactions(of_sweep: Mapping[str, int], of_switch: Mapping[str, int], size: int) -> Json:
    """What one sweep, and the switch that it leaves, ask of storage; for each call and hour by the schedule.

    Once an hour each shard is looked through for calls that ended long ago, too.
    """
    each = sum(of_sweep.values()) + sum(of_switch.values()) + OF_THE_SWITCH
    by_kind = {name: of_sweep.get(name, 0) + of_switch.get(name, 0) for name in sorted({*of_sweep, *of_switch})}
    return {"by_kind": by_kind, "a_sweep": each, "per_call_and_hour": (each * SWEEPS_AN_HOUR + SHARDS) / size}


def progress(what: str) -> None:
    """Say what is done now."""
    print(f"bench: {what} …", file=sys.stderr, flush=True)


@contextmanager
def filled(url: str, size: int, rate: int = FASTEST) -> Iterator[dict[str, str]]:
    """Run a new storage with so many calls; the settings of an app that has it."""
    with azurite.running() as storage:
        env = app_settings(storage.connection_string, url, rate)
        run(module("fill", size), env)
        yield env


def _one_size(url: str, size: int, rounds: int, workers: int, *, sdk: bool) -> Json:
    """What a process does first, and what it does next, by the same words: the next is what happens again and again."""
    bare: list[list[Round]] = []
    graph_sdk: list[list[Round]] = []
    sweeps: list[list[Round]] = []
    for number in range(rounds):
        progress(f"{size} calls, round {number + 1} of {rounds}")
        bare.append(once_each(url, size, [module("bare", url, size)], {}))
        if sdk:
            few = min(size, MOST_OF_SDK)
            graph_sdk.append(once_each(url, few, [[str(SDK), "-m", "bench.sdk", url, str(few)]], {}))
        sweeps.append(_sweep(url, size, workers))
    return {
        name: _compared(size, *([rounds[place] for rounds in each] for each in (bare, graph_sdk, sweeps)))
        for place, name in enumerate(("first", "next"))
    }


def _compared(size: int, bare: Sequence[Round], graph_sdk: Sequence[Round], sweeps: Sequence[Round]) -> Json:
    ours, a, b = ([_together(each) for each in some] for some in (sweeps, bare, graph_sdk))
    result: Json = {"bare": middle(a), "sweep": middle(ours), "transactions": _transactions(sweeps[-1].told, size)}
    result |= {"ratio_to_bare": ratio(ours, a, "per_second")}
    result |= {"cpu_ratio_to_bare": ratio(a, ours, "cpu_seconds_per_1000")}
    if b:
        result |= {"sdk": middle(b), "ratio_to_sdk": ratio(ours, b, "per_second")}
        result |= {"cpu_ratio_to_sdk": ratio(b, ours, "cpu_seconds_per_1000")}
    return result


def _sweep(url: str, size: int, workers: int, rate: int = FASTEST) -> list[Round]:
    """Sweep a new storage twice: by one process, or by fan-out over `workers` more."""
    with filled(url, size, rate) as env:
        instances = workers if size > FAN_OUT_ABOVE else 0
        return once_each(url, size, [module("sweep"), *[module("sweep", "drain")] * instances], env)


def _together(each: Round) -> Figures:
    """One figure of several processes: CPU is summed up; memory, p50 and p99 are those of the worst."""
    told = [figures_of(one) for one in each.told]
    done = sum(one["done"] for one in told)
    if done != each.asked["asked"]:
        raise BenchError(f"{done:.0f} of {each.asked['asked']} calls were renewed")
    return {
        "done": float(done),
        "seconds": told[0]["seconds"] if len(told) == 1 else each.seconds,
        "cpu_seconds": sum(one["cpu_seconds"] for one in told),
        **{name: max(one[name] for one in told) for name in ("peak_mb", "p50_ms", "p99_ms")},
        "peak_per_second": float(cast("int", each.asked["peak_per_second"])),
        "processes": float(len(told)),
    }


def _transactions(told: Sequence[Json], size: int) -> Json:
    of_sweep: dict[str, int] = {}
    for each in told:
        for name, count in cast("dict[str, int]", each["transactions"]).items():
            of_sweep[name] = of_sweep.get(name, 0) + count
    return transactions(of_sweep, cast("dict[str, int]", told[0]["switch_transactions"]), size)


def _pace(url: str, size: int) -> Json:
    """Renew at a set rate; the most requests of any second must not be more."""
    progress(f"{size} calls at {RATE} requests a second")
    rounds = [_together(each) for each in _sweep(url, size, 0, RATE)]
    peak = max(each["peak_per_second"] for each in rounds)
    return {"calls": size, "set": RATE, "peak_per_second": peak, "seconds": rounds[-1]["seconds"]}


def _lines(children: Sequence[Child], number: int, patience: float) -> list[str]:
    """What each tells of a round."""
    return [child.wait_for(line_of(number), patience)[0] for child in children]
