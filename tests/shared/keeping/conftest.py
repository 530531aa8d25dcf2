"""Fixtures of the keeper's tests."""

import pytest

from tests.support.keeping import World


@pytest.fixture
def world() -> World:
    return World()
