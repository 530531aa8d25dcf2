"""Fixtures for all tests."""

import signal
from collections.abc import Iterator
from enum import Enum

import pytest

from local.stack.azurite import running
from shared import telemetry

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background lets them ignore Ctrl-C; the children that we send it must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)


MAX_ID_LENGTH = 60  # characters of the id of a parametrized case
LONG = {"bench", "e2e", "soak"}  # folders whose tests take long: they begin first, or they would be the end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is one worker's (`--dist loadfile`), as its tests share what takes long to make."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return an id that shows the case, for values that pytest would only number. It shortens long texts.

    An id must be the same in each worker, so values whose text has an address or a set keep pytest's id.
    """
    if isinstance(val, str | bytes):
        return None if len(val) <= MAX_ID_LENGTH else f"{val[: MAX_ID_LENGTH - 12]!r}, {len(val)} in all"
    if val is None or callable(val) or isinstance(val, bool | int | float | Enum):
        return None
    text = f"{{{', '.join(sorted(map(repr, val)))}}}" if isinstance(val, set | frozenset) else repr(val)
    is_stable = " at 0x" not in text and "set(" not in text
    return text if is_stable and len(text) <= MAX_ID_LENGTH else None


@pytest.fixture(autouse=True)
def no_line_is_left_out() -> None:
    """As if a minute had gone by since the test before."""
    telemetry._rate_limit.cache_clear()


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The connection string of an Azurite: one a test process, as it starts in a second and is the bottleneck."""
    with running() as storage:
        yield storage.connection_string
