"""Contestant (b): msgraph-sdk's `keep_alive.post()`, as one would write it: `.venv/bench/bin/python -m bench.sdk`."""

import asyncio
import sys
import time
from collections.abc import Iterator

from azure.core.credentials import AccessToken
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from bench.load import IN_FLIGHT, call_ids
from bench.measure import Measure


class StaticToken:
    """A credential that has its token already, so that none is waited for."""

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        """Give the token."""
        return AccessToken("a" * 1500, int(time.time()) + 24 * 3600)

    async def close(self) -> None:
        """Nothing to close."""


async def run(graph: str, count: int) -> None:
    """POST keepAlive for so many calls; tell the figures."""
    provider = AzureIdentityAuthenticationProvider(
        StaticToken(), scopes=["https://graph.microsoft.com/.default"], allowed_hosts=["127.0.0.1"]
    )
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = f"{graph}/v1.0"
    client = GraphServiceClient(request_adapter=adapter)
    ids = call_ids(count)
    measure = Measure()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(_post(client, ids, measure.latencies))
    measure.tell(len(measure.latencies))


async def _post(client: GraphServiceClient, ids: Iterator[str], latencies: list[float]) -> None:
    for call_id in ids:
        began = time.perf_counter()
        await client.communications.calls.by_call_id(call_id).keep_alive.post()
        latencies.append(time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
