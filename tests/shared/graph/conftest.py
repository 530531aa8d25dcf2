"""Servers on this machine that stand for Graph and for Entra, with a client and a token cache for them."""

import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from shared.config.settings import load_settings
from shared.graph.client import GraphCalls
from shared.graph.token_cache import (
    MAX_CACHED_TOKENS,
    GraphTokens,
)
from shared.http_client import make_http_client
from tests.shared.graph.entra import APP, IDENTITY, Entra, IdentityEndpoint, Make, Serve
from tests.shared.graph.graph_answers import NOW, Connect, Tokens
from tests.support.clocks import SteppedClock
from tests.support.trust import trust_in_aiohttp


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
async def connect(tokens: Tokens) -> AsyncIterator[Connect]:
    clients = []

    def connected(url: str, **env: str) -> GraphCalls:
        settings = load_settings(
            {
                "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
                "GRAPH_APP_ID": "aaaaaaaa-1111-2222-3333-444444444444",
                "CALLS_STORAGE": "UseDevelopmentStorage=true",
                "GRAPH_BASE_URL": url,
                "GRAPH_TIMEOUT": "PT5S",
                **env,
            }
        )
        clients.append(make_http_client(settings.keep_alive_concurrency))
        return GraphCalls(clients[-1], tokens, settings, SteppedClock(NOW))

    yield connected
    for client in clients:
        await client.close()


@pytest.fixture
def entra() -> Entra:
    return Entra()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(datetime.now(UTC))  # azure-identity computes expiries by the machine's clock


@pytest.fixture(scope="session")
def trusted(tls: tuple[ssl.SSLContext, Path]) -> ssl.SSLContext:
    """Return the server's TLS context. All of aiohttp trusts its certificate."""
    trust_in_aiohttp(tls[1])
    return tls[0]


@pytest.fixture
async def make(serve: Serve, entra: Entra, clock: SteppedClock, trusted: ssl.SSLContext) -> AsyncIterator[Make]:
    made = []
    authority = entra.address = await serve(entra.answer, trusted)

    def tokens(max_tenants: int = MAX_CACHED_TOKENS, **env: str) -> GraphTokens:
        least = {
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": APP,
            "CALLS_STORAGE": "x",
            "AZURE_AUTHORITY_HOST": authority,
        }
        made.append(GraphTokens(load_settings({**least, **env}), clock, max_cached_tokens=max_tenants))
        return made[-1]

    yield tokens
    for each in made:
        await each.close()


@pytest.fixture
async def identity(serve: Serve, monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path]) -> IdentityEndpoint:
    times = {"exp": datetime.now(UTC) + timedelta(days=1), "jti": "1", "sub": IDENTITY}
    key = tls[1].with_name("key.pem").read_bytes()
    endpoint = IdentityEndpoint(jwt.encode(times | {"aud": "api://AzureADTokenExchange"}, key, "RS256"))
    monkeypatch.setenv("IDENTITY_ENDPOINT", await serve(endpoint.answer))
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    return endpoint
