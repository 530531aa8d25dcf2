"""Fixtures: the programs of the example bots, and the issuers of tokens."""

from collections.abc import Iterator

import pytest

from local.stack.processes import Children
from tests.examples.bots import LANGUAGES, Programs
from tests.system.attacks.keys import Issuers, issuers


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Return the commands that start the bots."""
    return Programs(tmp_path_factory.mktemp("bots"))


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    """End the processes of a module after it."""
    with Children() as children:
        yield children


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """Return each language in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuers]:
    """Serve the keys of Graph, of Entra and of another issuer."""
    with issuers(tmp_path_factory.mktemp("issuers")) as found:
        yield found
