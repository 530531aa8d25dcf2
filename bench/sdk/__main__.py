"""Contestant (b): msgraph-sdk's `keep_alive.post()`, in its plainest use: `.venv/bench/bin/python -m bench.sdk`."""

import asyncio
import sys
import time

from azure.core.credentials import AccessToken
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from bench.measure import Figures, Measure
from bench.rounds import serve_rounds
from bench.workload import call_ids, run_concurrently


class StaticToken:
    """A credential that has its token already, so that the contestant waits for none."""

    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        """Return the token."""
        return AccessToken("a" * 1500, int(time.time()) + 24 * 3600)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


async def run(graph: str, count: int) -> None:
    """POST keepAlive for `count` calls in each round, and print the figures of each."""
    provider = AzureIdentityAuthenticationProvider(
        StaticToken(), scopes=["https://graph.microsoft.com/.default"], allowed_hosts=["127.0.0.1"]
    )
    adapter = GraphRequestAdapter(provider)
    adapter.base_url = f"{graph}/v1.0"
    client = GraphServiceClient(request_adapter=adapter)

    async def work(_number: int) -> Figures:
        measure = Measure()

        async def post(call_id: str) -> None:
            with measure.request():
                await client.communications.calls.by_call_id(call_id).keep_alive.post()

        await run_concurrently(call_ids(count), post)
        return measure.figures()

    await serve_rounds(work)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
