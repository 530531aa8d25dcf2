"""A validator of tokens as bots use it: PyJWT without leeway, with issuer, audience, lifetime and tenant."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import httpx
import jwt

LEGACY_ISSUER = "https://api.botframework.com"  # of Graph's older tokens: docs/security.md
GRAPH_APP_ID = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # the caller in Graph's tokens of Entra: docs/security.md


class Proof(StrEnum):
    """The token that came with a request: Graph's own, Call Keeper's for the bot, or one that the bot refuses."""

    GRAPH = "graph"
    OWN = "own"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind of a token, its remaining life, and why the bot refuses it ("" if it accepts it)."""

    proof: Proof
    left: timedelta = timedelta()
    fault: str = ""


class Validator:
    """Judges tokens by the keys that the simulator publishes.

    Parameters
    ----------
    graph_keys, entra_keys
        The JSON Web Key Sets of the service that signs notifications, and of Entra.
    app_id
        The bot, which each token must be for.
    authority
        The address of Entra.
    """

    def __init__(self, graph_keys: str, entra_keys: str, app_id: str, authority: str) -> None:
        self._graph_keys = jwt.PyJWKSet.from_json(graph_keys)
        self._entra_keys = jwt.PyJWKSet.from_json(entra_keys)
        self._app_id = app_id
        self._authority = authority.rstrip("/")

    @classmethod
    def of_simulator(cls, simulator: str, authority: str, app_id: str) -> "Validator":
        """Fetch the keys, and return the validator of a bot."""
        paths = ("/v1/keys", "/common/discovery/v2.0/keys")
        graph_keys, entra_keys = (httpx.get(f"{simulator}{path}").raise_for_status().text for path in paths)
        return cls(graph_keys, entra_keys, app_id, authority)

    def judge(self, authorization: str | None, tenant: str) -> Verdict:
        """Return the verdict on the `Authorization` header of a request about a call of this tenant."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer":
            return Verdict(Proof.NONE, fault="no bearer token")
        try:
            return self._verify(token, tenant)
        except (jwt.PyJWTError, KeyError) as error:
            return Verdict(Proof.NONE, fault=f"{type(error).__name__}: {error}")

    def _verify(self, token: str, tenant: str) -> Verdict:
        is_legacy = jwt.decode(token, options={"verify_signature": False}).get("iss") == LEGACY_ISSUER
        keys = self._graph_keys if is_legacy else self._entra_keys
        claims = jwt.decode(
            token,
            keys[str(jwt.get_unverified_header(token)["kid"])],
            algorithms=["RS256"],
            audience=self._app_id,
            issuer=[LEGACY_ISSUER, f"{self._authority}/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/"],
            leeway=0,
            options={"require": ["exp", "iss", "aud", "tid"]},
        )
        left = datetime.fromtimestamp(claims["exp"], UTC) - datetime.now(UTC)
        if claims["tid"] != tenant:
            return Verdict(Proof.NONE, left, f"the token is of tenant {claims['tid']}")
        callers = {GRAPH_APP_ID: Proof.GRAPH, self._app_id: Proof.OWN}
        proof = Proof.GRAPH if is_legacy else callers.get(str(claims.get("azp") or claims.get("appid")), Proof.NONE)
        return Verdict(proof, left, "" if proof is not Proof.NONE else "the token names another caller")
