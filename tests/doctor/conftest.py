"""The healthy set-up, shared by all tests of the doctor because it takes some seconds to start."""

from collections.abc import Iterator

import pytest

from tests.doctor.world import World, running_world


@pytest.fixture(scope="session")
def _world() -> Iterator[World]:
    with running_world() as world:
        yield world


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    _world.setenv("SSL_CERT_FILE", str(_world.trusted))
    _world.setenv("SSL_CERT_DIR", None)
    yield _world
    _world.restore()
