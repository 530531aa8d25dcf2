"""Fixtures: the issuers, and the app in this process with their keys."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.services import Services
from tests.attacks.keys import OTHER_TENANT, Issuers, issuers
from tests.attacks.scene import Scene
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


@pytest.fixture(scope="session")
def published() -> Iterator[Issuers]:
    """Graph's keys and another issuer's."""
    with issuers() as found:
        yield found


@pytest.fixture(scope="module")
async def door(whole_app: App, published: Issuers) -> AsyncIterator[App]:  # noqa: F811 (a fixture)
    """The app, which trusts these keys."""
    async with whole_app.configured(Services, **published.settings) as trusting:
        yield trusting


@pytest.fixture(scope="module")
async def victim(door: App) -> str:
    """A call of another tenant that is on record."""
    return await door.register(tenantId=OTHER_TENANT)


@pytest.fixture
def scene(victim: str) -> Scene:
    """A tenant and a call of this test's own, and another tenant's call."""
    return Scene(APP_ID, victim)
