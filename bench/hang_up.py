"""How long a hang-up takes while a sweep runs at the set rate, beside one in an idle process.

`python -m bench.hang_up COUNT` is the process that is measured: the whole verb of the API, with what it writes, and a
sweep of so many calls in the same process. Settings from the environment.
"""

import asyncio
import json
import sys
import time

from bench.contest import RATE, BenchError, Json, ask, figures_of, filled, graph, module, progress, run, told
from bench.load import call_ids
from bench.measure import quantile
from local.stack.processes import Children
from shared.services import Services, services

IDLE = 40  # hang-ups before the sweep
_PAUSE = 0.02  # seconds between two
_SHARES = (("p50_ms", 0.5), ("p90_ms", 0.9))


def hang_up(count: int) -> Json:
    """Hang up calls one after the other, first in an idle process, then while it sweeps so many calls."""
    progress(f"hang-ups while {count} calls are swept at {RATE} requests a second")
    with Children() as children, graph(children) as url, filled(url, count, RATE) as env:
        figures = figures_of(told(run(module("hang_up", count), env)))
        asked = ask(url, f"counts/{count}")
    if (asked["missing"], asked["strange"], asked["repeated"]) != (0, 0, 0):
        raise BenchError(f"Graph was not asked once for each of {count} calls: {asked}")
    return {"calls": count, "set": RATE, "peak_per_second": asked["peak_per_second"], **figures}


async def measure(count: int) -> None:
    """Tell the figures."""
    parts, ids = services(), call_ids(count)
    await _timed(parts, next(ids))  # what a process loads and opens once
    idle = [await _timed(parts, next(ids)) for _ in range(min(IDLE, count // 4))]
    beside: list[float] = []
    began = time.perf_counter()
    sweeping = asyncio.create_task(
        parts.keeper.sweep("timer", unless_younger_than=parts.settings.timing.sweep_fresh_for)
    )
    while not sweeping.done() and (call_id := next(ids, None)):
        beside.append(await _timed(parts, call_id))
    tally = await sweeping
    figures = {
        "renewed": tally.renewed,
        "sweep_seconds": time.perf_counter() - began,
        "hung_up": len(beside),
        **{f"idle_{name}": 1000 * quantile(idle, share) for name, share in _SHARES},
        **{f"beside_{name}": 1000 * quantile(beside, share) for name, share in _SHARES},
    }
    print(json.dumps(figures), flush=True)
    await parts.http.close()
    await parts.store.close()


async def _timed(parts: Services, call_id: str) -> float:
    began = time.perf_counter()
    await parts.management.hang_up(call_id, "bench")
    took = time.perf_counter() - began
    await asyncio.sleep(_PAUSE)
    return took


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1])))
