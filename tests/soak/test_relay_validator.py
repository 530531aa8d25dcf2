"""The validator of `make relay-kill` accepts only a token that a bot would accept: it can fail."""

import json
import time
from datetime import timedelta

import pytest

from simulator.signing import SigningKey
from soak.real.relay.validator import GRAPH_APP_ID, LEGACY_ISSUER, Proof, Validator

APP, TENANT, OTHER = (f"{digit * 8}-1111-4111-8111-111111111111" for digit in "123")
AUTHORITY = "https://localhost:8443"
GRAPH_KEY, ENTRA_KEY, FOREIGN_KEY = SigningKey("graph"), SigningKey("entra"), SigningKey("foreign")
LIFE = 300  # seconds
LEGACY = {"iss": LEGACY_ISSUER, "aud": APP, "tid": TENANT}
OWN = {"iss": f"{AUTHORITY}/{TENANT}/v2.0", "aud": APP, "tid": TENANT, "azp": APP}
GRAPHS = {**OWN, "azp": GRAPH_APP_ID}


@pytest.fixture(scope="module")
def validator() -> Validator:
    graph_keys, entra_keys = (json.dumps({"keys": [key.jwk()]}) for key in (GRAPH_KEY, ENTRA_KEY))
    return Validator(graph_keys, entra_keys, APP, AUTHORITY)


def header(key: SigningKey, claims: dict[str, str], life: int = LIFE) -> str:
    return f"Bearer {key.sign({**claims, 'exp': int(time.time()) + life})}"


@pytest.mark.parametrize(
    ("key", "claims", "proof"),
    [
        pytest.param(GRAPH_KEY, LEGACY, Proof.GRAPH, id="Graph, older kind"),
        pytest.param(ENTRA_KEY, GRAPHS, Proof.GRAPH, id="Graph, Entra"),
        pytest.param(
            ENTRA_KEY,
            {"iss": f"https://sts.windows.net/{TENANT}/", "aud": APP, "tid": TENANT, "appid": GRAPH_APP_ID},
            Proof.GRAPH,
            id="Graph, Entra v1",
        ),
        pytest.param(ENTRA_KEY, OWN, Proof.OWN, id="ours"),
    ],
)
def test_a_good_token_is_accepted(validator: Validator, key: SigningKey, claims: dict[str, str], proof: Proof) -> None:
    verdict = validator.judge(header(key, claims), TENANT)
    assert (verdict.proof, verdict.fault) == (proof, "")
    assert timedelta(seconds=LIFE - 60) < verdict.left <= timedelta(seconds=LIFE)  # 60 s for a busy machine


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("Basic abc", id="no bearer"),
        pytest.param("Bearer abc", id="no token"),
        pytest.param(header(GRAPH_KEY, LEGACY, life=-1), id="expired for a second"),
        pytest.param(header(GRAPH_KEY, {**LEGACY, "aud": OTHER}), id="another audience"),
        pytest.param(header(GRAPH_KEY, {**LEGACY, "tid": OTHER}), id="another tenant"),
        pytest.param(header(ENTRA_KEY, {**OWN, "iss": f"{AUTHORITY}/{OTHER}/v2.0"}), id="another issuer"),
        pytest.param(header(ENTRA_KEY, {**OWN, "azp": OTHER}), id="another caller"),
        pytest.param(header(FOREIGN_KEY, LEGACY), id="an unknown key"),
        pytest.param(header(GRAPH_KEY, GRAPHS), id="a key of the other kind"),
    ],
)
def test_any_other_is_refused(validator: Validator, authorization: str | None) -> None:
    assert validator.judge(authorization, TENANT).fault
