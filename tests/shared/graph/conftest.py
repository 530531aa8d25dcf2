"""A client of a server on this machine that stands for Graph."""

from collections.abc import AsyncIterator

import pytest

from shared.config.settings import load_settings
from shared.graph.client import GraphCalls
from shared.http_client import make_http_client
from tests.shared.graph.graph_answers import NOW, Connect, Tokens
from tests.support.clocks import SteppedClock


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
