"""Where the time goes: of a sweep, of each layer about a keepAlive, of a notification."""

from collections.abc import Mapping
from typing import cast

from bench.contest import Json, figures_of, filled, graph, module, once_each, progress, run, told
from bench.environment import app_settings
from bench.webhook import looked_into
from local.stack.processes import Children

TURNS = 7  # of each layer
MOST_OF_LAYERS = 4_000  # calls


def profile(size: int, calls: int) -> Json:
    """Look into the next sweep of a process with so many calls, and into a host that is notified of so many."""
    with Children() as children, graph(children) as url:
        progress(f"profile of a sweep of {size} calls")
        sweep = _sweep(url, size)
        progress("profile of the layers about a keepAlive")
        env = app_settings("UseDevelopmentStorage=true", url)
        layers = told(run(module("layers", url, min(size, MOST_OF_LAYERS), TURNS), env))
    progress(f"profile of a host that is notified of {calls} calls")
    requests, samples = looked_into(calls)
    notification: Json = {"calls": calls, "requests": requests, **_shares(samples)}
    return {"sweep": sweep, "layers": layers, "notification": notification}


def _sweep(url: str, size: int) -> Json:
    with filled(url, size) as env:
        _, after = once_each(url, size, [module("sweep", "sample")], env)
    (one,) = after.told
    figures = figures_of(one)
    return {"calls": size, "cpu_seconds": figures["cpu_seconds"], **_shares(cast("dict[str, int]", one["samples"]))}


def _shares(samples: Mapping[str, int]) -> Json:
    """The share of each group, the largest first, and of how many samples."""
    together = sum(samples.values())
    groups = sorted(samples.items(), key=lambda item: -item[1])
    return {"samples": together, "groups": {name: count / max(1, together) for name, count in groups}}
