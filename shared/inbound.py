"""Verifying the bearer tokens that come in: Graph's on notifications, Entra's on management routes."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.clock import Clock
from shared.errors import Unauthenticated
from shared.identifiers import canonical_issuer, is_guid, lower_guids
from shared.payload import no_duplicates
from shared.signing_keys import SigningKey, SigningKeys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

LEEWAY = timedelta(seconds=300)  # Graph's tokens live 300 s, so clocks that differ must not matter
MAX_TOKEN = 16 * 1024  # characters
_MAX_NAMED = 100  # characters of an issuer or kid that a message repeats
_COMPACT = re.compile(
    r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"
)  # RFC 7515, 7.1; decoders skip other characters


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says.

    `tenant_id` is a GUID in lower case, `app_id` is `appid` or `azp`: who calls. `user_id` is the `oid` of the user for
    whom it calls, empty where the token does not say, None where it calls for itself. `audience` is the one of the
    expected audiences that the token names: whom it calls; GUIDs in it are in lower case.
    """

    tenant_id: str
    audience: str
    app_id: str | None = None
    user_id: str | None = None
    roles: frozenset[str] = frozenset()


class TokenVerifier:
    """Verifies RS256 tokens of known issuers for known audiences.

    Parameters
    ----------
    audiences, issuers
        What `aud` and `iss` may be. GUIDs in them are compared without case, one slash at an issuer's end is ignored.
    keys
        What tokens are signed with.
    clock
        Tells the time for `exp` and `nbf`.
    """

    def __init__(self, audiences: tuple[str, ...], issuers: tuple[str, ...], keys: SigningKeys, clock: Clock) -> None:
        self._audiences = frozenset(map(lower_guids, audiences))
        self._issuers = frozenset(map(canonical_issuer, issuers))
        self._keys = keys
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
        keys = await self._keys.get(kid)
        if not keys:
            raise Unauthenticated(f"The token's key is unknown: kid {_named(kid)}.")
        fitting = [key for key in keys if _is_signed(token, key.public)]
        if not fitting:
            raise Unauthenticated("The token's signature is wrong.")
        return self._claims(_object(token.split(".")[1]), fitting)

    def _claims(self, payload: Mapping[str, object], fitting: list[SigningKey]) -> Claims:
        issuer = payload.get("iss")
        if not isinstance(issuer, str) or canonical_issuer(issuer) not in self._issuers:
            raise Unauthenticated(f"The token's issuer is not one that is trusted here: {_named(issuer)}.")
        audience = self._audience(payload.get("aud"))
        _check_lifetime(payload, self._clock.now())
        tenant_id = payload.get("tid")
        if not isinstance(tenant_id, str) or not is_guid(tenant_id):
            raise Unauthenticated("The token has no tenant: its `tid` is missing or no GUID.")
        if not any(self._keys.may_sign(key, canonical_issuer(issuer), tenant_id.lower()) for key in fitting):
            raise Unauthenticated(f"The token's key is not one of its issuer: {_named(issuer)}.")
        return Claims(
            tenant_id=tenant_id.lower(),
            audience=audience,
            app_id=_app_id(payload),
            user_id=_user_id(payload),
            roles=frozenset(_texts(payload.get("roles"))),
        )

    def _audience(self, value: object) -> str:
        named = value if isinstance(value, list) else [value]
        if len(_texts(named)) == len(named):
            for audience in map(lower_guids, _texts(named)):
                if audience in self._audiences:
                    return audience
        raise Unauthenticated("The token is for another audience.")


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").strip(" ").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("There is no bearer token: send `Authorization: Bearer <token>`.")
    if len(token) > MAX_TOKEN or not token.isascii() or " " in token:
        raise Unauthenticated("That is not a token.")
    if not _COMPACT.fullmatch(token):
        raise Unauthenticated("That is not a signed token.")
    return token


def _kid(token: str) -> str:
    header = _object(token.partition(".")[0])
    if header.get("alg") != "RS256":  # pinned: Graph's metadata misspells it, and a token must not choose
        raise Unauthenticated("The token is not signed with RS256.")
    if "crit" in header:  # RFC 7515, 4.1.11: it asks for what is not understood here
        raise Unauthenticated("The token's header asks for more than is understood here.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise Unauthenticated("The token names no key: its `kid` is missing.")
    return kid


def _is_signed(token: str, key: "RSAPublicKey") -> bool:
    """Whether the signature is this key's. Claims are checked by our own clock, not by PyJWT's."""
    import jwt  # noqa: PLC0415 slow to import

    try:
        jwt.PyJWS().decode(token, key, algorithms=["RS256"])
    except jwt.InvalidSignatureError:
        return False
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("The token cannot be read.") from None
    return True


def _object(part: str) -> Mapping[str, object]:
    """A part of a token that is a JSON object in UTF-8. Readers differ about a name that stands twice: refused."""
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(raw.decode(), object_pairs_hook=no_duplicates)
    except (ValueError, RecursionError):
        raise Unauthenticated("That is not a signed token.") from None
    if not isinstance(found, dict):
        raise Unauthenticated("That is not a signed token.")
    return found


def _app_id(payload: Mapping[str, object]) -> str | None:
    """Entra calls it `appid` in v1 tokens and `azp` in v2 ones; with two that differ nobody knows who calls."""
    named = {text.lower(): text for text in (_text(payload.get("azp")), _text(payload.get("appid"))) if text}
    if len(named) > 1:
        raise Unauthenticated("The token names two calling apps: its `appid` and `azp` differ.")
    return next(iter(named.values()), None)


def _user_id(payload: Mapping[str, object]) -> str | None:
    """Entra: `scp` is in the tokens of users alone, `roles` in both kinds; `oid` of an app's token is the app's."""
    if "scp" not in payload:
        return None
    user_id = payload.get("oid")
    return user_id.lower() if isinstance(user_id, str) and is_guid(user_id) else ""


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


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _named(value: object) -> str:
    """A token's own word, made fit for a message."""
    text = value if isinstance(value, str) else "none"
    return "".join(filter(str.isprintable, text))[:_MAX_NAMED]
