"""Fixtures: the issuers, and the app in this process, which trusts their keys."""

import os
from collections.abc import AsyncIterator, Iterator
from unittest.mock import patch

import pytest

from shared.services import Services
from tests.functions.conftest import (  # noqa: F401 (fixtures)
    app,
    functions,
    one_simulator,
    served,
    simulator,
    simulator_addresses,
    whole_app,
)
from tests.functions.harness import APP_ID, App
from tests.system.attacks.keys import OTHER_TENANT, Issuers, issuers
from tests.system.attacks.request_builders import RequestBuilder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuers]:
    """Serve the keys of Graph, of Entra and of another issuer."""
    with issuers(tmp_path_factory.mktemp("issuers")) as found:
        yield found


@pytest.fixture(scope="module")
async def trusting_app(whole_app: App, published: Issuers) -> AsyncIterator[App]:  # noqa: F811 (a fixture)
    """Return the app with settings that trust the published keys."""
    with patch.dict(os.environ, SSL_CERT_FILE=published.settings["SSL_CERT_FILE"]):
        async with whole_app.configured(Services, **published.settings) as trusting:
            yield trusting


@pytest.fixture(scope="module")
async def victim(trusting_app: App) -> str:
    """Store a call of another tenant, and return its id."""
    return await trusting_app.register(tenantId=OTHER_TENANT)


@pytest.fixture
def builder(victim: str, published: Issuers) -> RequestBuilder:
    """Return a builder with a tenant and a call of this test alone, and with the other tenant's call."""
    return RequestBuilder(APP_ID, victim, published.authority)
