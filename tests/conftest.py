"""Fixtures for all tests."""

import signal
from collections.abc import Iterator

import pytest

from local.stack.azurite import running
from shared import telemetry

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background lets them ignore Ctrl-C; the children that we send it must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = {"bench", "e2e", "soak"}  # folders whose tests take long: they begin first, or they would be the end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is one worker's (`--dist loadfile`), as its tests share what takes long to make."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(autouse=True)
def no_line_is_left_out() -> None:
    """As if a minute had gone by since the test before."""
    telemetry._rate_limit.cache_clear()


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The connection string of an Azurite: one a test process, as it starts in a second and is the bottleneck."""
    with running() as storage:
        yield storage.connection_string
