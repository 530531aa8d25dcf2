"""The comparison of keepAlives: contestants take turns, round by round, each in its own process."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from bench.environment import MAX_RATE
from bench.figures import median_figures, median_ratio, numbers_of
from bench.measure import Figures
from bench.processes import (
    ROOT,
    BenchError,
    Json,
    Round,
    filled_storage,
    graph_server,
    module_command,
    print_progress,
    run_exact_rounds,
)
from local.stack.processes import Children
from shared.storage.store import SHARDS

SDK = ROOT / ".venv" / "bench" / "bin" / "python"
MAX_SDK_CALLS = 2_000  # of (b): it is slow, and its rate does not depend on the number of calls
RATE = 500  # requests a second: the default of GRAPH_REQUESTS_PER_SECOND
MAX_RATE_LIMIT_CALLS = 5_000  # calls that are renewed at that rate
SWEEPS_AN_HOUR = 4  # KEEP_ALIVE_SCHEDULE: every 15 minutes
WATCHDOG_HOST_TRANSACTIONS = 2  # the host gets and deletes the watchdog's message
FAN_OUT_THRESHOLD = 20_000  # calls: the default of SWEEP_FAN_OUT_THRESHOLD


def compare_keep_alives(
    sizes: Sequence[int], rounds: int, workers: int, *, sdk: bool = True
) -> Iterator[tuple[str, Json]]:
    """Measure each size, and the rate limit; yield each result with its name.

    Parameters
    ----------
    sizes
        Numbers of calls. A size above `FAN_OUT_THRESHOLD` is measured once.
    rounds
        How often each other size is measured.
    workers
        Number of queue instances that share a fan-out.
    sdk
        True if msgraph-sdk is installed and takes part.
    """
    with Children() as children, graph_server(children) as url:
        for size in sizes:
            times = 1 if size > FAN_OUT_THRESHOLD else rounds
            yield f"{size}", _measure_size(url, size, times, workers, sdk=sdk)
        yield "pace", _measure_rate_limit(url, min((max(sizes), MAX_RATE_LIMIT_CALLS)))


def transactions_per_call(sweep: Mapping[str, int], watchdog: Mapping[str, int], size: int) -> Json:
    """Return the storage transactions of one sweep and its watchdog, by kind, in sum, and for each call and hour.

    Once an hour each shard is also searched for calls that ended before the retention.

    Parameters
    ----------
    sweep, watchdog
        Numbers of transactions by kind: those of the sweep, and those of the watchdog's message that it leaves.
    size
        Number of calls.
    """
    by_kind = {name: sweep.get(name, 0) + watchdog.get(name, 0) for name in sorted({*sweep, *watchdog})}
    total = sum(by_kind.values()) + WATCHDOG_HOST_TRANSACTIONS
    return {"by_kind": by_kind, "a_sweep": total, "per_call_and_hour": (total * SWEEPS_AN_HOUR + SHARDS) / size}


def sum_processes(each: Round) -> Figures:
    """Put the figures of the processes of one round together: CPU is summed; memory, p50 and p99 are the maximum.

    Raises
    ------
    BenchError
        The processes renewed another number of calls than Graph counted.
    """
    processes = [numbers_of(one) for one in each.figures]
    done = sum(one["done"] for one in processes)
    if done != each.graph_counts["asked"]:
        raise BenchError(f"{done:.0f} of {each.graph_counts['asked']} calls were renewed")
    return {
        "done": float(done),
        "seconds": processes[0]["seconds"] if len(processes) == 1 else each.seconds,
        "cpu_seconds": sum(one["cpu_seconds"] for one in processes),
        **{name: max(one[name] for one in processes) for name in ("peak_mb", "p50_ms", "p99_ms")},
        "peak_per_second": float(cast("int", each.graph_counts["peak_per_second"])),
        "processes": float(len(processes)),
    }


def _measure_size(url: str, size: int, rounds: int, workers: int, *, sdk: bool) -> Json:
    """Measure each contestant twice in one process: `first` includes what a process pays once, `next` does not."""
    bare: list[list[Round]] = []
    graph_sdk: list[list[Round]] = []
    sweeps: list[list[Round]] = []
    for number in range(rounds):
        print_progress(f"{size} calls, round {number + 1} of {rounds}")
        bare.append(run_exact_rounds(url, size, [module_command("bare", url, size)], {}))
        if sdk:
            few = min(size, MAX_SDK_CALLS)
            graph_sdk.append(run_exact_rounds(url, few, [[str(SDK), "-m", "bench.sdk", url, str(few)]], {}))
        sweeps.append(_sweep_twice(url, size, workers))
    return {
        name: _compare(size, *([rounds[index] for rounds in each] for each in (bare, graph_sdk, sweeps)))
        for index, name in enumerate(("first", "next"))
    }


def _compare(size: int, bare: Sequence[Round], graph_sdk: Sequence[Round], sweeps: Sequence[Round]) -> Json:
    ours, a, b = ([sum_processes(each) for each in rounds] for rounds in (sweeps, bare, graph_sdk))
    result: Json = {
        "bare": median_figures(a),
        "sweep": median_figures(ours),
        "transactions": _transactions(sweeps[-1].figures, size),
        "ratio_to_bare": median_ratio(ours, a, "per_second"),
        "cpu_ratio_to_bare": median_ratio(a, ours, "cpu_seconds_per_1000"),
    }
    if b:
        result |= {"sdk": median_figures(b), "ratio_to_sdk": median_ratio(ours, b, "per_second")}
        result |= {"cpu_ratio_to_sdk": median_ratio(b, ours, "cpu_seconds_per_1000")}
    return result


def _sweep_twice(url: str, size: int, workers: int, rate: int = MAX_RATE) -> list[Round]:
    """Sweep a new storage twice, by one process, or by a fan-out over `workers` more."""
    with filled_storage(url, size, rate) as env:
        instances = workers if size > FAN_OUT_THRESHOLD else 0
        commands = [module_command("sweep"), *[module_command("sweep", "drain")] * instances]
        return run_exact_rounds(url, size, commands, env)


def _transactions(processes: Sequence[Json], size: int) -> Json:
    sweep: Counter[str] = Counter()
    for each in processes:
        sweep.update(cast("dict[str, int]", each["transactions"]))
    return transactions_per_call(sweep, cast("dict[str, int]", processes[0]["watchdog_transactions"]), size)


def _measure_rate_limit(url: str, size: int) -> Json:
    """Renew at a set rate. Graph's count of the busiest second shows whether the limit holds."""
    print_progress(f"{size} calls at {RATE} requests a second")
    rounds = [sum_processes(each) for each in _sweep_twice(url, size, 0, RATE)]
    peak = max(each["peak_per_second"] for each in rounds)
    return {"calls": size, "set": RATE, "peak_per_second": peak, "seconds": rounds[-1]["seconds"]}
