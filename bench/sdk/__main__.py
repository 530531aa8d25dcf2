"""Contestant (b): msgraph-sdk's `keep_alive.post()`, as one would write it: `.venv/bench/bin/python -m bench.sdk`."""

import asyncio
import sys
import time

from azure.core.credentials import AccessToken
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from bench.load import call_ids, side_by_side
from bench.measure import Figures, Measure
from bench.rounds import in_rounds


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

    async def work(_number: int) -> Figures:
        measure = Measure()

        async def post(call_id: str) -> None:
            with measure.request():
                await client.communications.calls.by_call_id(call_id).keep_alive.post()

        await side_by_side(call_ids(count), post)
        return measure.figures()

    await in_rounds(work)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
