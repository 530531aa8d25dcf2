"""Who calls Graph: the checks of a bearer token that Entra has issued for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt

from simulator.refusals import unauthorized
from simulator.signing import ALGORITHM

if TYPE_CHECKING:
    from starlette.requests import Request

    from simulator.entra import Entra

MEDIA = "Calls.AccessMedia.All"
# Graph: application-post-calls page; which of them a kind of call needs is not told apart here.
PLACE_CALLS = (
    "Calls.Initiate.All",
    "Calls.InitiateGroupCall.All",
    "Calls.JoinGroupCall.All",
    "Calls.JoinGroupCallAsGuest.All",
)
_NEEDED = ["aud", "exp", "iss", "tid"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The app behind a request, and the tenant in whose name it asks."""

    app_id: str
    tenant_id: str
    roles: frozenset[str]

    def may(self, *roles: str) -> bool:
        """Whether the app has one of these permissions."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Authorization:
    """Checks tokens against Entra's keys."""

    entra: Entra

    def check(self, request: Request) -> Caller:
        """The caller of a request. Refuses 401 without a valid token for Graph."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthorized("Access token is empty.")
        try:
            key = self.entra.keys.find(str(jwt.get_unverified_header(token).get("kid")))
            if key is None:
                raise unauthorized("Access token validation failure. Its signing key is not known.")
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[ALGORITHM],
                options={"require": _NEEDED, "verify_aud": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise unauthorized("Lifetime validation failed, the token is expired.") from error
        except jwt.PyJWTError as error:
            raise unauthorized(f"Access token validation failure. {error}.") from error
        if not self.entra.is_graph(str(claims["aud"]).rstrip("/")):
            raise unauthorized("Access token validation failure. Invalid audience.")
        if claims["iss"] != self.entra.issuer(claims["tid"]):
            raise unauthorized("Access token validation failure. Invalid issuer.")
        app_id = str(claims.get("appid") or claims.get("azp") or "").lower()
        return Caller(app_id, str(claims["tid"]).lower(), frozenset(claims.get("roles", ())))
