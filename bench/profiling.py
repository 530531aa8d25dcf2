"""Profiles of CPU time: in a sweep, in each layer around a keepAlive, in a notification."""

from collections.abc import Mapping
from typing import cast

from bench.environment import app_settings
from bench.figures import numbers_of
from bench.processes import (
    Json,
    filled_storage,
    graph_server,
    module_command,
    parse_figures,
    print_progress,
    run_command,
    run_exact_rounds,
)
from bench.webhook import profile_host
from local.stack.processes import Children

TURNS = 7  # of each layer
MAX_LAYER_CALLS = 4_000


def profile(size: int, notified_calls: int) -> Json:
    """Profile the second sweep of a process, the layers around a keepAlive, and a host that gets notifications.

    Parameters
    ----------
    size
        Number of calls that are swept.
    notified_calls
        Number of calls that the notifications are about.
    """
    with Children() as children, graph_server(children) as url:
        print_progress(f"profile of a sweep of {size} calls")
        sweep = _profile_sweep(url, size)
        print_progress("profile of the layers about a keepAlive")
        env = app_settings("UseDevelopmentStorage=true", url)
        layers = parse_figures(run_command(module_command("layers", url, min(size, MAX_LAYER_CALLS), TURNS), env))
    print_progress(f"profile of a host that is notified of {notified_calls} calls")
    requests, samples = profile_host(notified_calls)
    notification: Json = {"calls": notified_calls, "requests": requests, **_shares(samples)}
    return {"sweep": sweep, "layers": layers, "notification": notification}


def _profile_sweep(url: str, size: int) -> Json:
    with filled_storage(url, size) as env:
        _, second = run_exact_rounds(url, size, [module_command("sweep", "sample")], env)
    (printed,) = second.figures
    samples = cast("dict[str, int]", printed["samples"])
    return {"calls": size, "cpu_seconds": numbers_of(printed)["cpu_seconds"], **_shares(samples)}


def _shares(samples: Mapping[str, int]) -> Json:
    """Return the number of samples, and the share of each group, the largest first."""
    total = sum(samples.values())
    groups = sorted(samples.items(), key=lambda item: -item[1])
    return {"samples": total, "groups": {name: count / max(1, total) for name, count in groups}}
