"""An issuer on this machine, and a verifier of its tokens."""

from collections.abc import AsyncIterator

import pytest

from shared.auth.signing_keys import (
    SigningKeys,
)
from shared.auth.tokens import TokenVerifier
from shared.http_client import HttpClient, make_http_client
from tests.shared.auth.signed_tokens import ISSUER, Issuer, Serve, verifier_of
from tests.support.clocks import SteppedClock


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = make_http_client(32)
    yield made
    await made.close()


@pytest.fixture
async def verifier(serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock) -> TokenVerifier:
    metadata = await serve(issuer.answer) + "/metadata"
    keys = SigningKeys((metadata,), client, clock)
    return verifier_of(keys, clock, issuers=(ISSUER, "https://graph.microsoft.com"))
