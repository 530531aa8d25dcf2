"""Verifying the bearer tokens that come in: Graph's on notifications, Entra's on management routes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import httpx

from shared.clock import Clock
from shared.errors import Unauthenticated
from shared.identifiers import is_guid, lower_guids
from shared.signing_keys import SigningKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LEEWAY = timedelta(seconds=300)  # Graph's tokens live 300 s, so clocks that differ must not matter
MAX_TOKEN = 16 * 1024  # characters
_MAX_NAMED = 100  # characters of an issuer or kid that a message repeats


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `tenant_id` is a GUID in lower case; `app_id` is `appid` or `azp`."""

    tenant_id: str
    app_id: str | None = None
    subject: str | None = None
    roles: frozenset[str] = frozenset()


class TokenVerifier:
    """Verifies RS256 tokens of known issuers for known audiences.

    Parameters
    ----------
    audiences, issuers
        What `aud` and `iss` may be. GUIDs in them are compared without case, one slash at an issuer's end is ignored.
    metadata_urls
        OpenID metadata documents, whose `jwks_uri` leads to the keys. https, or http on this machine.
    client, clock
        What fetches the keys, and what tells the time for `exp` and `nbf`.
    """

    def __init__(
        self,
        audiences: tuple[str, ...],
        issuers: tuple[str, ...],
        metadata_urls: tuple[str, ...],
        client: httpx.AsyncClient,
        clock: Clock,
    ) -> None:
        self._audiences = frozenset(map(lower_guids, audiences))
        self._issuers = frozenset(map(_issuer, issuers))
        self._keys = SigningKeys(metadata_urls, client, clock)
        self._clock = clock

    async def verify(self, authorization: str | None) -> Claims:
        """The claims of the token in an `Authorization` header.

        Raises
        ------
        Unauthenticated
            There is no token, or it does not verify; the message says why, without the token.
        KeysUnavailable
            There are no keys to verify it with.
        """
        token = _bearer(authorization)
        kid = _kid(token)
        key = await self._keys.get(kid)
        if key is None:
            raise Unauthenticated(f"The token's key is unknown: kid {_named(kid)}.")
        return self._claims(_payload(token, key))

    def _claims(self, payload: Mapping[str, object]) -> Claims:
        issuer = payload.get("iss")
        if not isinstance(issuer, str) or _issuer(issuer) not in self._issuers:
            raise Unauthenticated(f"The token's issuer is not one that is trusted here: {_named(issuer)}.")
        if not self._audiences & _audiences(payload.get("aud")):
            raise Unauthenticated("The token is for another audience.")
        _check_lifetime(payload, self._clock.now())
        tenant_id = payload.get("tid")
        if not isinstance(tenant_id, str) or not is_guid(tenant_id):
            raise Unauthenticated("The token has no tenant: its `tid` is missing or no GUID.")
        return Claims(
            tenant_id=tenant_id.lower(),
            app_id=_text(payload.get("appid")) or _text(payload.get("azp")),
            subject=_text(payload.get("sub")) or _text(payload.get("oid")),
            roles=frozenset(_texts(payload.get("roles"))),
        )


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("There is no bearer token: send `Authorization: Bearer <token>`.")
    if len(token) > MAX_TOKEN or not token.isascii() or " " in token:
        raise Unauthenticated("That is not a token.")
    return token


def _kid(token: str) -> str:
    import jwt  # noqa: PLC0415 slow to import

    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("That is not a signed token.") from None
    if header.get("alg") != "RS256":  # pinned: Graph's metadata misspells it, and a token must not choose
        raise Unauthenticated("The token is not signed with RS256.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise Unauthenticated("The token names no key: its `kid` is missing.")
    return kid


def _payload(token: str, key: "RSAPublicKey") -> Mapping[str, object]:
    """The payload, once the signature is right. Claims are checked here, by our own clock, not by PyJWT's."""
    import jwt  # noqa: PLC0415 slow to import

    try:
        payload = json.loads(jwt.PyJWS().decode(token, key, algorithms=["RS256"]))
    except jwt.InvalidSignatureError:
        raise Unauthenticated("The token's signature is wrong.") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("The token cannot be read.") from None
    if not isinstance(payload, dict):
        raise Unauthenticated("The token has no claims.")
    return payload


def _check_lifetime(payload: Mapping[str, object], now: datetime) -> None:
    if _moment(payload, "exp") + LEEWAY.total_seconds() <= now.timestamp():
        raise Unauthenticated("The token has expired.")
    if _moment(payload, "nbf") - LEEWAY.total_seconds() > now.timestamp():
        raise Unauthenticated("The token is not valid yet.")


def _moment(payload: Mapping[str, object], name: str) -> float:
    """Seconds since 1970 of a required claim."""
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:  # noqa: PLR2004 no NaN
        raise Unauthenticated(f"The token's `{name}` is missing or no time.")
    return float(value)


def _issuer(text: str) -> str:
    return lower_guids(text).removesuffix("/")


def _audiences(value: object) -> frozenset[str]:
    return frozenset(map(lower_guids, _texts(value if isinstance(value, list) else [value])))


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _named(value: object) -> str:
    """A token's own word, made fit for a message."""
    text = value if isinstance(value, str) else "none"
    return "".join(filter(str.isprintable, text))[:_MAX_NAMED]
