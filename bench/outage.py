"""A sweep while Graph answers 503 to all: how long it takes, what it asks of storage, what it leaves behind."""

from collections.abc import Mapping
from contextlib import closing
from typing import cast

from azure.storage.queue import QueueClient

from bench.contest import BenchError, Json, figures_of, filled, graph, in_rounds, module, progress
from local.stack.processes import Children
from shared.storage.wakeup_queue import QUEUE_NAME


def outage(size: int) -> Json:
    """Sweep so many calls, the first time after it began: each gets a row that says so, and a retry of its own."""
    progress(f"{size} calls while Graph is away")
    with Children() as children, graph(children) as url, filled(url, size) as env:
        told = _first_sweep(url, size, env)
        left = _messages(env["CALLS_STORAGE"])
    figures, by_kind = figures_of(told), cast("dict[str, int]", told["transactions"])
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
    with closing(in_rounds(url, size, [module("sweep")], env, before="outage")) as rounds:
        (told,) = next(rounds).told
    return told


def _messages(storage: str) -> int:
    with QueueClient.from_connection_string(storage, QUEUE_NAME) as queue:
        return queue.get_queue_properties().approximate_message_count or 0
