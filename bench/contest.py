"""The contest of keepAlives: contestants in turn, round by round, each in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from bench.environment import FASTEST, app_settings
from bench.measure import Figures
from local import azurite
from local.processes import Children

ROOT = Path(__file__).resolve().parent.parent
SDK = ROOT / ".venv" / "bench" / "bin" / "python"
MOST_OF_SDK = 2_000  # calls of (b): it is slow, and its rate does not depend on how many they are
RATE = 500  # requests a second: the default of GRAPH_REQUESTS_PER_SECOND
MOST_OF_PACE = 2_000  # calls that are renewed at that rate
SWEEPS_AN_HOUR = 4  # KEEP_ALIVE_SCHEDULE: every 15 minutes
OF_THE_SWITCH = 2  # transactions: the host gets and deletes the message
FAN_OUT_ABOVE = 20_000  # calls: the default of SWEEP_FAN_OUT_ABOVE
_LONGEST = 900.0  # seconds for one contestant

type Json = dict[str, object]


class BenchError(Exception):
    """A contestant failed, or did not do its work. The message is one line."""


def contest(sizes: Sequence[int], rounds: int, workers: int, *, sdk: bool = True) -> Iterator[tuple[str, Json]]:
    """Measure each size, round by round, the very large ones once; gives each result with its name, as it comes."""
    with Children() as children, graph(children) as url:
        for size in sizes:
            yield f"{size}", _one_size(url, size, 1 if size > FAN_OUT_ABOVE else rounds, workers, sdk=sdk)
        yield "pace", _pace(url, min((*sizes, MOST_OF_PACE)))


@contextmanager
def graph(children: Children, keys: str = "{}") -> Iterator[str]:
    """Run the Graph that counts; its address."""
    child = children.start("graph", [sys.executable, "-m", "bench.graph", keys], cwd=ROOT)
    yield child.wait_for(r"graph ready: (\S+)")[1]
    child.stop()


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Json:
    """Run a contestant to its end; the figures that it tells in its last line."""
    done = _run([*map(str, command)], env)
    return _told(done)


def _told(output: str) -> Json:
    """What a contestant tells, in one line; libraries may say a word of their own behind it."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchError(f"nothing was told: {output.strip()[-200:]}")
    return cast("Json", json.loads(lines[-1]))


def counts(url: str, size: int, *, exactly: bool = True) -> Json:
    """What Graph was asked since the last time; with `exactly`, each of `size` calls once."""
    with urllib.request.urlopen(f"{url}/counts/{size}") as answer:  # noqa: S310 (our own server)
        told: Json = json.load(answer)
    with urllib.request.urlopen(f"{url}/reset") as answer:  # noqa: S310 (as above)
        answer.read()
    if exactly and (told["missing"], told["strange"], told["repeated"]) != (0, 0, 0):
        raise BenchError(f"Graph was not asked once for each of {size} calls: {told}")
    return told


def middle(runs: Sequence[Figures]) -> Figures:
    """The median of each figure, but the most of `peak_mb`; with the requests a second and CPU seconds per 1,000."""
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    figures["peak_mb"] = max(run["peak_mb"] for run in runs)
    figures["per_second"] = statistics.median(run["done"] / run["seconds"] for run in runs)
    figures["cpu_seconds_per_1000"] = statistics.median(1000 * run["cpu_seconds"] / run["done"] for run in runs)
    return figures


def transactions(of_sweep: Mapping[str, int], of_switch: Mapping[str, int], size: int) -> Json:
    """What one sweep, and the switch that it leaves, ask of storage; for each call and hour by the schedule."""
    each = sum(of_sweep.values()) + sum(of_switch.values()) + OF_THE_SWITCH
    by_kind = {name: of_sweep.get(name, 0) + of_switch.get(name, 0) for name in sorted({*of_sweep, *of_switch})}
    return {"by_kind": by_kind, "a_sweep": each, "per_call_and_hour": each * SWEEPS_AN_HOUR / size}


def _one_size(url: str, size: int, rounds: int, workers: int, *, sdk: bool) -> Json:
    bare: list[Figures] = []
    graph_sdk: list[Figures] = []
    sweeps: list[Figures] = []
    asked: Json = {}
    for number in range(rounds):
        _progress(f"{size} calls, round {number + 1} of {rounds}")
        bare.append(without_texts(run([sys.executable, "-m", "bench.bare", url, str(size)])))
        counts(url, size)
        if sdk:
            few = min(size, MOST_OF_SDK)
            graph_sdk.append(without_texts(run([SDK, "-m", "bench.sdk", url, str(few)])))
            counts(url, few)
        figures, asked = _sweep(url, size, workers)
        sweeps.append(figures)
    result: Json = {"bare": middle(bare), "sweep": middle(sweeps), "transactions": asked}
    result["ratio_to_bare"] = ratio(sweeps, bare, "per_second")
    result["cpu_ratio_to_bare"] = ratio(bare, sweeps, "cpu_seconds_per_1000")
    if sdk:
        result |= {"sdk": middle(graph_sdk), "ratio_to_sdk": ratio(sweeps, graph_sdk, "per_second")}
    return result


def _sweep(url: str, size: int, workers: int, rate: int = FASTEST) -> tuple[Figures, Json]:
    """Fill a new storage, and sweep it: by one process, or by fan-out over `workers` more."""
    with azurite.running() as storage, Children() as children:
        env = app_settings(storage.connection_string, url, rate)
        _run([sys.executable, "-m", "bench.fill", str(size)], env)
        instances = workers if size > FAN_OUT_ABOVE else 0
        command = [sys.executable, "-m", "bench.sweep", "drain"]
        started = [children.start(f"worker {n}", command, env=env, cwd=ROOT) for n in range(instances)]
        began = time.monotonic()
        told = [run([sys.executable, "-m", "bench.sweep"], env)]
        for child in started:
            if child.wait(_LONGEST):
                raise BenchError(f"{child.name} failed: {child.output.strip().splitlines()[-1]}")
            told.append(_told(child.output))
        seconds = time.monotonic() - began
    peak = counts(url, size)["peak_per_second"]
    figures = _together(told, seconds if instances else None, size)
    figures |= {"peak_per_second": float(cast("int", peak)), "processes": float(1 + instances)}
    of_sweep: dict[str, int] = {}
    for each in told:
        for name, count in cast("dict[str, int]", each["transactions"]).items():
            of_sweep[name] = of_sweep.get(name, 0) + count
    return figures, transactions(of_sweep, cast("dict[str, int]", told[0]["switch_transactions"]), size)


def _together(told: Sequence[Json], seconds: float | None, size: int) -> Figures:
    """One figure of several processes: CPU is summed up; memory, p50 and p99 are those of the worst."""
    each = [without_texts(one) for one in told]
    if sum(one["done"] for one in each) != size:
        raise BenchError(f"{sum(one['done'] for one in each):.0f} of {size} calls were renewed")
    return {
        "done": float(size),
        "seconds": each[0]["seconds"] if seconds is None else seconds,
        "cpu_seconds": sum(one["cpu_seconds"] for one in each),
        **{name: max(one[name] for one in each) for name in ("peak_mb", "p50_ms", "p99_ms")},
    }


def _pace(url: str, size: int) -> Json:
    """Renew at a set rate; the most requests of any second must not be more."""
    _progress(f"{size} calls at {RATE} requests a second")
    figures, _ = _sweep(url, size, 0, RATE)
    return {"calls": size, "set": RATE, "peak_per_second": figures["peak_per_second"], "seconds": figures["seconds"]}


def ratio(upper: Sequence[Figures], lower: Sequence[Figures], name: str) -> float:
    """The median of the ratios round by round: what disturbs a round disturbs both."""
    pairs = zip(upper, lower, strict=True)
    return statistics.median(middle([one])[name] / middle([other])[name] for one, other in pairs)


def without_texts(told: Json) -> Figures:
    """The figures of what a contestant told."""
    return {name: value for name, value in told.items() if isinstance(value, int | float)}


def _run(command: Sequence[str], env: Mapping[str, str] | None) -> str:
    done = subprocess.run(  # noqa: S603 (our own command lines)
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise BenchError(f"{' '.join(command[1:4])} failed: {said[-1]}")
    return done.stdout


def _progress(what: str) -> None:
    print(f"bench: {what} …", file=sys.stderr, flush=True)
