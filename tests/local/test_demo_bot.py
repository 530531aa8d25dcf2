"""The demo's bot: the line about what it accepted names the kind of a token."""

import jwt
import pytest

from local.demo.bot import EXAMPLE, GRAPHS, OWN, token_kind
from local.demo.relay import APP_ID

GRAPH_CALLING_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
KEY = "a key that this test does not verify"


@pytest.mark.parametrize(
    ("claims", "kind"),
    [
        pytest.param({"azp": APP_ID}, OWN, id="v2 of the bot"),
        pytest.param({"appid": APP_ID}, OWN, id="v1 of the bot"),
        pytest.param({"azp": GRAPH_CALLING_APP}, GRAPHS, id="v2 of Graph"),
        pytest.param({"iss": "https://api.botframework.com"}, GRAPHS, id="legacy without a caller"),
    ],
)
def test_the_kind_of_a_token(claims: dict[str, str], kind: str) -> None:
    assert token_kind(f"Bearer {jwt.encode({**claims, 'aud': APP_ID}, KEY)}", APP_ID) == kind


def test_it_is_the_example_bot() -> None:
    assert EXAMPLE.is_file()
