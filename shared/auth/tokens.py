"""Verification of inbound bearer tokens: of Graph's notifications and of callers of management routes."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.auth.key_binding import SigningKey, issuer_allows_tenant
from shared.auth.token_kinds import TokenKind
from shared.clock import Clock
from shared.errors import Forbidden, Unauthenticated
from shared.identifiers import canonical_issuer, is_guid, lower_guids
from shared.untrusted_json import refuse_constants, refuse_duplicates

LEEWAY = timedelta(seconds=300)  # Graph's tokens are valid for only 300 s, and clocks differ
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
MAX_TOKEN_LENGTH = 16 * 1024  # characters
_MAX_QUOTED_LENGTH = 100  # characters of an issuer or kid that a message repeats
# RFC 7515, 7.1. Other characters are refused here, because decoders skip them.
_JWS_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a verified token.

    Attributes
    ----------
    tenant_id
        `tid`, a GUID in lower case.
    audience
        The expected audience that the token names; GUIDs in it are in lower case.
    app_id
        The calling app, `appid` or `azp`, a GUID in lower case; None if the token names none.
    user_id
        The `oid` of the user for whom the app calls. Empty if the token has none, None if the app calls for itself.
    roles
        App roles.
    kind
        The name of the token's `TokenKind`.
    expires_at
        `exp`. The token is accepted for some minutes after it.
    """

    tenant_id: str
    audience: str
    app_id: str | None = None
    user_id: str | None = None
    roles: frozenset[str] = frozenset()
    kind: str = ""
    expires_at: datetime = _END_OF_TIME


@dataclass(frozen=True, slots=True)
class TokenVerifier:
    """Verifies RS256 tokens of the kinds that a route accepts.

    Parameters
    ----------
    kinds
        The first kind with the token's issuer decides.
    clock
        The clock for `exp` and `nbf`.
    """

    kinds: tuple[TokenKind, ...]
    clock: Clock

    async def verify(self, authorization: str | None) -> Claims:
        """Return the claims of the token in an `Authorization` header.

        Raises
        ------
        Unauthenticated
            There is no token, or its verification failed. The message says why, without the token.
        Forbidden
            The token is valid, but its app may not send tokens of this kind.
        SigningKeysUnavailable
            The keys to verify it are not loaded. A retry may succeed.
        """
        token = _bearer_token(authorization)
        kid, payload = _parse_kid(token), _parse_part(token.split(".")[1])
        _check_spelling(payload)
        issuer, tenant_id = _issuer(payload), _tenant_id(payload)
        kind = next((kind for kind in self.kinds if kind.is_issued_by(issuer, tenant_id)), None)
        if kind is None:
            raise Unauthenticated(f"The token's issuer is not one that is trusted here: {_quoted(issuer)}.")
        keys = await kind.keys.get(kid)
        if not keys:
            raise Unauthenticated(f"The token's key is unknown: kid {_quoted(kid)}.")
        signing = [key for key in keys if _is_signed_by(token, key)]
        if not signing:
            raise Unauthenticated("The token's signature is wrong.")
        claims = _claims(payload, kind, tenant_id, self.clock.now())
        if not await kind.keys.may_sign(signing, issuer, tenant_id):
            raise Unauthenticated(f"The token's key is not one of its issuer: {_quoted(issuer)}.")
        if not kind.may_be_sent_by(claims.app_id):
            raise Forbidden(f"The token's app (`appid` or `azp`) may not send {kind.name} tokens: {claims.app_id}.")
        return claims


def _check_spelling(payload: Mapping[str, object]) -> None:
    """Refuse a second spelling of a claim: a reader that ignores case would take another one than we do (IDX40011)."""
    for name in ("iss", "tid", "aud", "azp", "appid"):
        if any(other != name and other.lower() == name for other in payload):
            raise Unauthenticated(f"The token has `{name}` in another case.")


def _claims(payload: Mapping[str, object], kind: TokenKind, tenant_id: str, now: datetime) -> Claims:
    if "cnf" in payload:  # RFC 7800: it is valid only with a proof of possession, which a bearer does not give
        raise Unauthenticated("The token is bound to a key (`cnf`): it is no bearer token.")
    audience = _audience(payload.get("aud"), kind)
    _check_lifetime(payload, now)
    return Claims(
        tenant_id=tenant_id,
        audience=audience,
        app_id=_app_id(payload),
        user_id=_user_id(payload),
        roles=frozenset(_texts_in(payload.get("roles"))),
        kind=kind.name,
        expires_at=_expiry(payload),
    )


def _expiry(payload: Mapping[str, object]) -> datetime:
    """Return `exp` as a time; times that no `datetime` can hold become the last one that it can."""
    return datetime.fromtimestamp(min(_timestamp(payload, "exp"), _END_OF_TIME.timestamp()), UTC)


def _issuer(payload: Mapping[str, object]) -> str:
    """Return the issuer in its canonical form."""
    issuer = payload.get("iss")
    if not isinstance(issuer, str):
        raise Unauthenticated("The token names no issuer: its `iss` is missing or no text.")
    return canonical_issuer(issuer)


def _tenant_id(payload: Mapping[str, object]) -> str:
    tenant_id = payload.get("tid")
    if not isinstance(tenant_id, str) or not is_guid(tenant_id):
        raise Unauthenticated("The token has no tenant: its `tid` is missing or no GUID.")
    if not issuer_allows_tenant(_issuer(payload), tenant_id.lower()):  # IDX40004
        raise Unauthenticated("The token's issuer is another tenant's than its `tid`.")
    return tenant_id.lower()


def _audience(value: object, kind: TokenKind) -> str:
    named = value if isinstance(value, list) else [value]
    if len(_texts_in(named)) == len(named):
        for audience in map(lower_guids, _texts_in(named)):
            if audience in kind.audiences:
                return audience
    raise Unauthenticated("The token is for another audience.")


def _bearer_token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").strip(" ").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("There is no bearer token: send `Authorization: Bearer <token>`.")
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or " " in token:
        raise Unauthenticated("That is not a token.")
    if not _JWS_COMPACT.fullmatch(token) or not all(map(_is_canonical, token.split("."))):
        raise Unauthenticated("That is not a signed token.")
    return token


def _is_canonical(part: str) -> bool:
    """True if no other base64url text decodes to the same bytes (RFC 4648, 3.5): decoders ignore unused last bits."""
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return False
    return base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() == part


def _parse_kid(token: str) -> str:
    header = _parse_part(token.partition(".")[0])
    if header.get("alg") != "RS256":  # fixed: Graph's metadata misspells it, and a token must not choose
        raise Unauthenticated("The token is not signed with RS256.")
    if "crit" in header:  # RFC 7515, 4.1.11: extensions that must be understood
        raise Unauthenticated("The token's header needs extensions (`crit`) that are not supported.")
    if "typ" in header and not _is_access_token(header["typ"]):  # RFC 8725, 3.11: such as dpop+jwt or logout+jwt
        raise Unauthenticated("The token is of another type: its `typ` is neither JWT nor at+jwt.")
    kid = header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise Unauthenticated("The token names no key: its `kid` is missing.")
    return kid


def _is_access_token(kind: object) -> bool:
    """True for JWT and at+jwt (RFC 7519, 5.1; RFC 9068, 2.1), in any case, with or without `application/`."""
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in {"jwt", "at+jwt"}


def _is_signed_by(token: str, key: SigningKey) -> bool:
    """True if the key made the signature. PyJWT checks no claims here, as it would use its own clock."""
    import jwt  # noqa: PLC0415 slow to import

    try:
        jwt.PyJWS().decode(token, key.public_key, algorithms=["RS256"])
    except jwt.InvalidSignatureError:
        return False
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise Unauthenticated("The token cannot be read.") from None
    return True


def _parse_part(part: str) -> Mapping[str, object]:
    """Parse a part of a token: a JSON object in UTF-8.

    Content that parsers read differently is refused: a name that occurs twice, NaN and Infinity (RFC 8259, 6), and a
    lone surrogate, which cannot be encoded as UTF-8 again.
    """
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(raw.decode(), object_pairs_hook=refuse_duplicates, parse_constant=refuse_constants)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Unauthenticated("That is not a signed token.") from None
    if not isinstance(found, dict):
        raise Unauthenticated("That is not a signed token.")
    return found


def _app_id(payload: Mapping[str, object]) -> str | None:
    """Return the calling app: `appid` in Entra's v1 tokens, `azp` in v2 tokens. Two different ones are refused."""
    named = [payload[name] for name in ("azp", "appid") if name in payload]
    app_ids = [each.lower() for each in named if isinstance(each, str) and is_guid(each)]
    if len(app_ids) < len(named):
        raise Unauthenticated("The token's calling app, `appid` or `azp`, is no GUID.")
    if len(set(app_ids)) > 1:
        raise Unauthenticated("The token names two calling apps: its `appid` and `azp` differ.")
    return app_ids[0] if app_ids else None


def _user_id(payload: Mapping[str, object]) -> str | None:
    """Return the user. Entra: only tokens of users have `scp`; the `oid` in a token of an app is that of the app."""
    if "scp" not in payload:
        return None
    user_id = payload.get("oid")
    return user_id.lower() if isinstance(user_id, str) and is_guid(user_id) else ""


def _check_lifetime(payload: Mapping[str, object], now: datetime) -> None:
    ends, begins = _timestamp(payload, "exp"), _timestamp(payload, "nbf")
    if ends < begins:
        raise Unauthenticated("The token ends before it begins.")
    if ends + LEEWAY.total_seconds() <= now.timestamp():
        raise Unauthenticated("The token has expired.")
    if begins - LEEWAY.total_seconds() > now.timestamp():
        raise Unauthenticated("The token is not valid yet.")


def _timestamp(payload: Mapping[str, object], name: str) -> float:
    """Return a required claim in seconds since 1970."""
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:  # noqa: PLR2004 no NaN
        raise Unauthenticated(f"The token's `{name}` is missing or no time.")
    return float(value)


def _texts_in(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _quoted(value: object) -> str:
    """Return a value of a token in a form that a message may repeat."""
    text = value if isinstance(value, str) else "none"
    return "".join(filter(str.isprintable, text))[:_MAX_QUOTED_LENGTH]
