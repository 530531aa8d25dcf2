"""Fixtures for all tests."""

from collections.abc import Iterator

import pytest

from local.azurite import running


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The connection string of an Azurite: one a test process, as it starts in a second and is the bottleneck."""
    with running() as storage:
        yield storage.connection_string
