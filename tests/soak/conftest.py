"""Switches coverage off during the runs of the soak."""

from collections.abc import Iterator

import coverage
import pytest


@pytest.fixture(autouse=True)
def without_coverage() -> Iterator[None]:
    """Stop coverage's tracing, which makes a run take three times as long. Unit tests cover the same code."""
    measuring = coverage.Coverage.current()
    if measuring:
        measuring.stop()
    yield
    if measuring:
        measuring.start()
