"""Authentication of Graph's callers: the checks of a bearer token that Entra issued for Graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jwt
from pydantic import BaseModel, ValidationError

from simulator.refusals import unauthorized
from simulator.signing import ALGORITHM

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulator.entra import Entra
    from simulator.signing import SigningKey

MEDIA_ROLE = "Calls.AccessMedia.All"
# Graph: application-post-calls page. The simulator does not distinguish which kind of call needs which of them.
CREATE_CALL_ROLES = (
    "Calls.Initiate.All",
    "Calls.InitiateGroupCall.All",
    "Calls.JoinGroupCall.All",
    "Calls.JoinGroupCallAsGuest.All",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The app that sent a request, the tenant of its token, and its roles."""

    app_id: str
    tenant_id: str
    roles: frozenset[str]

    def has_any_role(self, *roles: str) -> bool:
        """True if the app has at least one of these roles."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Authorization:
    """Checks tokens against Entra's keys."""

    entra: Entra

    def authenticate(self, request: Request) -> Caller:
        """Return the caller of a request.

        Raises
        ------
        Refusal
            401 if the request has no valid token for Graph.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized("Access token is empty.")
        try:
            key = self.entra.keys.find(_key_id(token))
            if key is None:
                raise unauthorized("Access token validation failure. Its signing key is not known.")
            claims = _verify(token, key)
        except (jwt.PyJWTError, ValidationError) as error:
            raise unauthorized(f"Access token validation failure. {error}.") from error
        if claims.exp < time.time():
            raise unauthorized("Lifetime validation failed, the token is expired.")
        if not self.entra.is_graph(claims.aud.rstrip("/")):
            raise unauthorized("Access token validation failure. Invalid audience.")
        if claims.iss != self.entra.issuer(claims.tid):
            raise unauthorized("Access token validation failure. Invalid issuer.")
        return Caller(claims.appid.lower(), claims.tid.lower(), frozenset(claims.roles))


class _Claims(BaseModel):
    """The claims that a token must have. `exp` is checked at each request, not when the claims are cached."""

    aud: str
    iss: str
    tid: str
    appid: str
    exp: int
    roles: tuple[str, ...] = ()


@lru_cache(maxsize=256)  # one token is sent with hundreds of requests
def _key_id(token: str) -> str:
    return str(jwt.get_unverified_header(token).get("kid"))


@lru_cache(maxsize=256)
def _verify(token: str, key: SigningKey) -> _Claims:
    options: jwt.types.Options = {"verify_aud": False, "verify_exp": False}
    return _Claims.model_validate(jwt.decode(token, key.public, algorithms=[ALGORITHM], options=options))
