"""A sweep while Graph answers 503 to every request: its duration, its storage transactions, and what it leaves."""

from collections.abc import Mapping
from contextlib import closing
from typing import cast

from azure.storage.queue import QueueClient

from bench.figures import numbers_of
from bench.processes import (
    BenchError,
    Json,
    filled_storage,
    graph_server,
    module_command,
    print_progress,
    run_rounds,
)
from local.stack.processes import Children
from shared.storage.wakeup_queue import QUEUE_NAME


def measure_outage(size: int) -> Json:
    """Measure the first sweep of an outage over `size` calls: each call gets a row with its failure, and a retry.

    Raises
    ------
    BenchError
        Another number of calls failed.
    """
    print_progress(f"{size} calls while Graph is away")
    with Children() as children, graph_server(children) as url, filled_storage(url, size) as env:
        printed = _first_sweep(url, size, env)
        left = _count_messages(env["CALLS_STORAGE"])
    figures, by_kind = numbers_of(printed), cast("dict[str, int]", printed["transactions"])
    if figures["failing"] != size:
        raise BenchError(f"{figures['failing']:.0f} of {size} calls failed")
    return {
        "calls": size,
        **{name: figures[name] for name in ("seconds", "cpu_seconds", "peak_mb")},
        "by_kind": by_kind,
        "per_call": sum(by_kind.values()) / size,
        "messages_left": left,
    }


def _first_sweep(url: str, size: int, env: Mapping[str, str]) -> Json:
    with closing(run_rounds(url, size, [module_command("sweep")], env, before="outage")) as rounds:
        (printed,) = next(rounds).figures
    return printed


def _count_messages(storage: str) -> int:
    with QueueClient.from_connection_string(storage, QUEUE_NAME) as queue:
        return queue.get_queue_properties().approximate_message_count or 0
