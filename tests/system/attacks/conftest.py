"""Fixtures: the issuers, and the app in this process with their keys."""

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
from tests.system.attacks.scene import Scene


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuers]:
    """Graph's keys, Entra's and another issuer's."""
    with issuers(tmp_path_factory.mktemp("issuers")) as found:
        yield found


@pytest.fixture(scope="module")
async def door(whole_app: App, published: Issuers) -> AsyncIterator[App]:  # noqa: F811 (a fixture)
    """The app, which trusts these keys."""
    with patch.dict(os.environ, SSL_CERT_FILE=published.settings["SSL_CERT_FILE"]):
        async with whole_app.configured(Services, **published.settings) as trusting:
            yield trusting


@pytest.fixture(scope="module")
async def victim(door: App) -> str:
    """A call of another tenant that is on record."""
    return await door.register(tenantId=OTHER_TENANT)


@pytest.fixture
def scene(victim: str, published: Issuers) -> Scene:
    """A tenant and a call of this test's own, and another tenant's call."""
    return Scene(APP_ID, victim, published.authority)
