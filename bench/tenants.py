"""The memory and descriptors that many tenants cost: one call of each is renewed, each tenant with its own token.

`python -m bench.tenants COUNT` is the process that is measured. It uses the parts of the app with a client secret.
Entra and Graph are servers of the bench. It reads its settings from the environment.
"""

import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from bench.environment import app_settings
from bench.figures import numbers_of
from bench.measure import Measure, open_descriptors, resident_mb
from bench.processes import (
    BenchError,
    Json,
    ask_graph,
    graph_server,
    module_command,
    parse_figures,
    print_progress,
    run_command,
)
from bench.workload import call_ids, run_concurrently
from local.stack.processes import Children
from shared.services import services
from simulator.tls import CertificateAuthority

PASSES = 2  # the second uses the tokens of the first
_SAMPLE_INTERVAL = timedelta(milliseconds=50)


def measure_tenants(count: int) -> Json:
    """Renew a call of each of `count` tenants twice, in a process of its own.

    Raises
    ------
    BenchError
        A call was left out, or a tenant's token was requested more than once.
    """
    print_progress(f"{count} tenants")
    with tempfile.TemporaryDirectory() as folder, Children() as children:
        authority, root, identity = CertificateAuthority(), Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.write_certificate(root)
        authority.write_server_identity(identity)
        with graph_server(children) as url, graph_server(children, "{}", str(identity)) as entra:
            env = {
                **app_settings("none", url),
                "GRAPH_CREDENTIAL": "secret",
                "GRAPH_CLIENT_SECRET": "bench",
                "AZURE_AUTHORITY_HOST": entra,
                "SSL_CERT_FILE": str(root),
            }
            figures = numbers_of(parse_figures(run_command(module_command("tenants", count), env)))
            counts, tokens = ask_graph(url, f"counts/{count}"), ask_graph(entra, "counts/0", str(root))["tokens"]
    # One call more than `count` is renewed before the measurement.
    if (counts["asked"], counts["missing"], tokens) != (PASSES * count + 1, 0, count + 1):
        raise BenchError(f"{counts['asked']} keepAlives and {tokens} tokens for {count} tenants: {counts}")
    return {"tenants": count, **figures}


async def run(count: int) -> None:
    """Renew twice, and print the figures of the first pass and the memory that the second one added."""
    graph, ids = services().graph, list(call_ids(count + 1))
    number_of = {call_id: number for number, call_id in enumerate(ids)}

    async def renew(call_id: str) -> None:
        await graph.keep_alive(call_id, f"7b9c2f60-1d5e-4a8b-9c3f-{number_of[call_id]:012}")

    await renew(ids.pop())  # loads and opens what a process needs once
    before = _collected_mb()
    async with _sampled_descriptors() as samples:
        measure = Measure()
        await run_concurrently(ids, renew)
        figures, after = measure.figures(count), _collected_mb()
        await run_concurrently(ids, renew)
    memory = {"grown_mb": after - before, "again_mb": _collected_mb() - after, "resident_mb": _collected_mb()}
    print(json.dumps({**figures, **memory, "descriptors": max(*samples, open_descriptors())}), flush=True)


@asynccontextmanager
async def _sampled_descriptors() -> AsyncIterator[list[int]]:
    """Yield a list that gets the number of open descriptors at each interval; it begins with a 0."""
    samples = [0]

    async def sample() -> None:
        while True:
            samples.append(open_descriptors())
            await asyncio.sleep(_SAMPLE_INTERVAL.total_seconds())

    task = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        task.cancel()


def _collected_mb() -> float:
    """Collect garbage, and return the memory that this process then has, in MB."""
    gc.collect()
    return resident_mb()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1])))
