"""Fixtures and checks for all tests."""

import signal
from collections.abc import Iterator
from enum import Enum

import pytest

from local.stack.azurite import running
from shared import telemetry
from tests.support.case_ids import unreadable_parts

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background makes them ignore Ctrl-C. The processes that tests interrupt would
    # inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


MAX_ID_LENGTH = 60  # characters of the id of a parametrized case
LONG = {"bench", "e2e", "examples", "soak"}  # folders of slow tests: a worker that starts them last ends last


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the ids of parametrized cases, and start slow files first: `--dist loadfile` gives a file to one worker."""
    _check_ids(items)
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


def _check_ids(items: list[pytest.Item]) -> None:
    found = [
        f"{item.nodeid}: {', '.join(parts)}"
        for item in items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and (parts := unreadable_parts(item.callspec.id, item.callspec.params))
    ]
    if found:
        raise pytest.UsageError("Give these cases an id, for example by pytest.param(..., id=...):", *found)


@pytest.fixture(autouse=True)
def reset_log_rate_limit() -> None:
    """Let each test log as if the minute of the previous test's lines were over."""
    telemetry._rate_limit.cache_clear()


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """Return the connection string of an Azurite. Each test process has one, which starts in a second."""
    with running() as storage:
        yield storage.connection_string
