"""What many tenants cost in memory and descriptors: one call of each is renewed, with a token of its own.

`python -m bench.tenants COUNT` is the process that is measured: the app's own parts, with a secret, as Entra and Graph
are servers of the bench. Settings from the environment.
"""

import asyncio
import gc
import json
import sys
import tempfile
from pathlib import Path

from bench.contest import BenchError, Json, ask, figures_of, graph, module, progress, run, told
from bench.environment import app_settings
from bench.load import call_ids, side_by_side
from bench.measure import Measure, descriptors, resident_mb
from local.stack.processes import Children
from shared.services import services
from simulator.tls import CertificateAuthority

PASSES = 2  # the second with the tokens of the first
_LOOK_EVERY = 0.05  # seconds


def tenants(count: int) -> Json:
    """Renew a call of each of so many tenants twice, in a process of its own; each tenant's token is asked for once."""
    progress(f"{count} tenants")
    with tempfile.TemporaryDirectory() as folder, Children() as children:
        authority, root, identity = CertificateAuthority(), Path(folder, "ca.pem"), Path(folder, "server.pem")
        authority.write_certificate(root)
        authority.write_server_identity(identity)
        with graph(children) as url, graph(children, "{}", str(identity)) as entra:
            env = {
                **app_settings("none", url),
                "GRAPH_CREDENTIAL": "secret",
                "GRAPH_CLIENT_SECRET": "bench",
                "AZURE_AUTHORITY_HOST": entra,
                "SSL_CERT_FILE": str(root),
            }
            figures = figures_of(told(run(module("tenants", count), env)))
            asked, tokens = ask(url, f"counts/{count}"), ask(entra, "counts/0", str(root))["tokens"]
    if (asked["asked"], asked["missing"], tokens) != (PASSES * count + 1, 0, count + 1):
        raise BenchError(f"{asked['asked']} keepAlives and {tokens} tokens for {count} tenants: {asked}")
    return {"tenants": count, **figures}


async def measure(count: int) -> None:
    """Tell the figures of the first pass, and what the second added."""
    graph, ids = services().graph, list(call_ids(count + 1))
    number = {call_id: place for place, call_id in enumerate(ids)}

    async def renew(call_id: str) -> None:
        await graph.keep_alive(call_id, f"7b9c2f60-1d5e-4a8b-9c3f-{number[call_id]:012}")

    await renew(ids.pop())  # what a process loads and opens once
    before, most = _resident(), 0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, descriptors())
            await asyncio.sleep(_LOOK_EVERY)

    looking, first = asyncio.create_task(look()), Measure()
    await side_by_side(ids, renew)
    figures, after = first.figures(count), _resident()
    await side_by_side(ids, renew)
    looking.cancel()
    more = {"grown_mb": after - before, "again_mb": _resident() - after, "resident_mb": _resident()}
    print(json.dumps({**figures, **more, "descriptors": max(most, descriptors())}), flush=True)


def _resident() -> float:
    gc.collect()
    return resident_mb()


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1])))
