"""Lives are lived unmeasured."""

from collections.abc import Iterator

import coverage
import pytest


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """Without coverage's tracing, which makes a life three times as long; unit tests cover the same code."""
    measuring = coverage.Coverage.current()
    if measuring:
        measuring.stop()
    yield
    if measuring:
        measuring.start()
