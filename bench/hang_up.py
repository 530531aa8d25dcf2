"""The duration of a hang-up while a sweep runs at the set rate, compared with a hang-up in an idle process.

`python -m bench.hang_up COUNT` is the process that is measured. It calls the whole hang-up of the API, with its writes,
and sweeps COUNT calls in the same process. It reads its settings from the environment.
"""

import asyncio
import json
import sys
import time
from datetime import timedelta

from bench.comparison import RATE
from bench.figures import numbers_of
from bench.measure import quantile
from bench.processes import (
    Json,
    ask_graph,
    check_asked_once,
    filled_storage,
    graph_server,
    module_command,
    parse_figures,
    print_progress,
    run_command,
)
from bench.workload import call_ids
from local.stack.processes import Children
from shared.services import Services, services

IDLE_HANG_UPS = 40  # before the sweep
_PAUSE = timedelta(milliseconds=20)  # between two hang-ups
_SHARES = (("p50_ms", 0.5), ("p90_ms", 0.9))


def measure_hang_ups(count: int) -> Json:
    """Hang up calls one after the other, first in an idle process, then while it sweeps `count` calls.

    Raises
    ------
    BenchError
        Graph was not asked exactly once for each call.
    """
    print_progress(f"hang-ups while {count} calls are swept at {RATE} requests a second")
    with Children() as children, graph_server(children) as url, filled_storage(url, count, RATE) as env:
        figures = numbers_of(parse_figures(run_command(module_command("hang_up", count), env)))
        counts = ask_graph(url, f"counts/{count}")
    check_asked_once(counts, count)
    return {"calls": count, "set": RATE, "peak_per_second": counts["peak_per_second"], **figures}


async def run(count: int) -> None:
    """Hang up calls before and during a sweep of `count` calls, and print the figures."""
    parts, ids = services(), call_ids(count)
    await _time_hang_up(parts, next(ids))  # loads and opens what a process needs once
    idle = [await _time_hang_up(parts, next(ids)) for _ in range(min(IDLE_HANG_UPS, count // 4))]
    during_sweep: list[float] = []
    began = time.perf_counter()
    sweeping = asyncio.create_task(
        parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)
    )
    while not sweeping.done() and (call_id := next(ids, None)):
        during_sweep.append(await _time_hang_up(parts, call_id))
    stats = await sweeping
    figures = {
        "renewed": stats.renewed,
        "sweep_seconds": time.perf_counter() - began,
        "hung_up": len(during_sweep),
        **{f"idle_{name}": 1000 * quantile(idle, share) for name, share in _SHARES},
        **{f"beside_{name}": 1000 * quantile(during_sweep, share) for name, share in _SHARES},
    }
    print(json.dumps(figures), flush=True)
    await parts.http.close()
    await parts.store.close()


async def _time_hang_up(parts: Services, call_id: str) -> float:
    """Hang up a call, pause, and return the seconds without the pause."""
    began = time.perf_counter()
    await parts.management.hang_up(call_id, "bench")
    seconds = time.perf_counter() - began
    await asyncio.sleep(_PAUSE.total_seconds())
    return seconds


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
