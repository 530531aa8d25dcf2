"""Signing keys: created at the start, published as a key set, rotated on request."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from simulator.tls import self_signed

if TYPE_CHECKING:
    from simulator.wire import Json, JsonObject

ALGORITHM = "RS256"


class SigningKey:
    """One RSA key with a self-signed certificate. As at Microsoft, `kid` is the certificate's thumbprint."""

    def __init__(self, name: str) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self_signed(name, self._private)
        self.public = self._private.public_key()
        self.kid = _base64url(self._certificate.fingerprint(hashes.SHA1()))  # noqa: S303 x5t is SHA-1 by RFC 7515

    def sign(self, claims: JsonObject, **headers: str) -> str:
        """Return a compact RS256 JWT. Its header has `kid`, `x5t` and `headers`."""
        extra = {"kid": self.kid, "x5t": self.kid, **headers}
        return jwt.encode(dict(claims), self._private, ALGORITHM, headers=extra)

    def jwk(self) -> JsonObject:
        """Return the public key as a member of a JSON Web Key Set."""
        numbers = self.public.public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": _base64url_integer(numbers.n),
            "e": _base64url_integer(numbers.e),
            "x5c": [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()],
        }


class KeyRing:
    """The published keys of one issuer, newest first. The newest key signs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._keys = [SigningKey(name)]

    @property
    def current(self) -> SigningKey:
        """Return the key that signs now."""
        return self._keys[0]

    def find(self, kid: str) -> SigningKey | None:
        """Return the published key with this id, or None."""
        return next((key for key in self._keys if key.kid == kid), None)

    def rotate(self, *, keep_old: bool) -> SigningKey:
        """Create a new key, which signs from now on. Keep the older keys published only with `keep_old`."""
        self._keys = [SigningKey(self._name), *(self._keys if keep_old else [])]
        return self.current

    def jwks(self, **members: Json) -> list[Json]:
        """Return the keys of the JSON Web Key Set, newest first. Each also has `members`."""
        return [{**key.jwk(), **members} for key in self._keys]


def _base64url_integer(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
