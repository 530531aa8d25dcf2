"""Signing keys: made at start, published as a key set, rotated on demand."""

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
    """One RSA key with a self-signed certificate; `kid` is the certificate's thumbprint, as Microsoft does it."""

    def __init__(self, name: str) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self_signed(name, self._private)
        self.public = self._private.public_key()
        self.kid = _base64url(self._certificate.fingerprint(hashes.SHA1()))  # noqa: S303 x5t is SHA-1 by RFC 7515

    def sign(self, claims: JsonObject, **headers: str) -> str:
        """A compact RS256 JWT with `kid` and `x5t` in its header, and `headers` besides."""
        extra = {"kid": self.kid, "x5t": self.kid, **headers}
        return jwt.encode(dict(claims), self._private, ALGORITHM, headers=extra)

    def published(self) -> JsonObject:
        """The key as a member of a JSON Web Key Set."""
        numbers = self.public.public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": _number(numbers.n),
            "e": _number(numbers.e),
            "x5c": [base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()],
        }


class KeyRing:
    """The keys of one issuer: the newest signs, the older ones may stay published for a while."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._keys = [SigningKey(name)]

    @property
    def current(self) -> SigningKey:
        """The key that signs now."""
        return self._keys[0]

    def find(self, kid: str) -> SigningKey | None:
        """A published key by its id."""
        return next((key for key in self._keys if key.kid == kid), None)

    def rotate(self, *, keep_old: bool) -> SigningKey:
        """Sign with a new key from now on. Without `keep_old` the old ones are no longer published."""
        self._keys = [SigningKey(self._name), *(self._keys if keep_old else [])]
        return self.current

    def published(self, **more: Json) -> list[Json]:
        """The members of the key set, newest first, each with `more` in it."""
        return [{**key.published(), **more} for key in self._keys]


def _number(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
