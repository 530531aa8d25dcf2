"""The public keys that inbound tokens are signed with: fetched, kept, and kept through an outage."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import httpx

from shared import telemetry
from shared.clock import Clock
from shared.errors import KeysUnavailable
from shared.http_client import NoAnswer, ask
from shared.urls import trusted_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FRESH = timedelta(hours=24)  # then they are fetched again, without haste
PAUSE = timedelta(seconds=60)  # between fetches, whatever unknown keys tokens name
PAUSE_WITHOUT_KEYS = timedelta(seconds=5)  # while there is no key at all
_TIMEOUT = timedelta(seconds=10)  # of each of the two requests
_SMALLEST = 2048  # bits of an RSA key
_MOST_KEYS = 100


class SigningKeys:
    """The keys of several OpenID metadata documents. One that fails keeps what it gave before, and spoils no other."""

    def __init__(self, metadata_urls: tuple[str, ...], client: httpx.AsyncClient, clock: Clock) -> None:
        self._metadata_urls = metadata_urls
        self._client = client
        self._clock = clock
        self._keys: dict[str, Mapping[str, RSAPublicKey]] = {}  # by metadata URL, then by kid
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._fetching = asyncio.Lock()

    async def get(self, kid: str) -> "RSAPublicKey | None":
        """The key of this id, or None if no issuer has it. Fetches if it is unknown or old, at a limited rate.

        Raises
        ------
        KeysUnavailable
            There are no keys at all, or not this one, and the last fetch failed: a retry may find it.
        """
        key = self._find(kid)
        if self._is_due(known=key is not None) and not (key and self._fetching.locked()):
            async with self._fetching:  # those who waited find it done
                if self._is_due(known=self._find(kid) is not None):
                    await self._fetch()
            key = self._find(kid)
        if not any(self._keys.values()):
            raise KeysUnavailable("The keys that tokens are verified with could not be fetched. Try again.")
        if key is None and self._fetched_at != self._tried_at:
            raise KeysUnavailable("The token's key is not known, and new keys could not be fetched. Try again.")
        return key

    def _find(self, kid: str) -> "RSAPublicKey | None":
        return next((keys[kid] for keys in self._keys.values() if kid in keys), None)

    def _is_due(self, *, known: bool) -> bool:
        now = self._clock.now()
        pause = PAUSE if any(self._keys.values()) else PAUSE_WITHOUT_KEYS
        if self._tried_at is not None and now - self._tried_at < pause:
            return False
        return not known or self._fetched_at is None or now - self._fetched_at >= FRESH

    async def _fetch(self) -> None:
        fetched = await asyncio.gather(*map(self._fetch_one, self._metadata_urls))
        self._tried_at = self._clock.now()  # only now: until then others have to wait, and one cancelled counts not
        if all(fetched):
            self._fetched_at = self._tried_at

    async def _fetch_one(self, metadata_url: str) -> bool:
        try:
            document = await self._json(metadata_url)
            keys = usable_keys(await self._json(trusted_url(str(document.get("jwks_uri")))))
        except (NoAnswer, ValueError) as error:
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=str(error))
            return False
        self._keys[metadata_url] = keys
        return True

    async def _json(self, url: str) -> Mapping[str, object]:
        answer = await ask(self._client, self._client.build_request("GET", url), _TIMEOUT)
        document = answer.json()
        if not answer.succeeded or not isinstance(document, dict):
            raise ValueError(f"an answer {answer.status} without a JSON object")
        return document


def usable_keys(jwks: Mapping[str, object]) -> "Mapping[str, RSAPublicKey]":
    """The RSA keys for signatures, of 2048 bits or more, by `kid`.

    Raises
    ------
    ValueError
        There is none: not a key set, then.
    """
    listed = jwks.get("keys")
    keys = {
        str(jwk["kid"]): key
        for jwk in (listed if isinstance(listed, list) else ())[:_MOST_KEYS]
        if isinstance(jwk, dict) and jwk.get("kid") and (key := _rsa_key(jwk))
    }
    if not keys:
        raise ValueError("the key set has no RSA key for signatures of 2048 bits or more")
    return keys


def _rsa_key(jwk: Mapping[str, object]) -> "RSAPublicKey | None":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 slow to import
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 slow to import
    from jwt.exceptions import InvalidKeyError  # noqa: PLC0415 slow to import

    if jwk.get("kty") != "RSA" or jwk.get("use") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: str(jwk[name]) for name in ("kty", "n", "e")})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and key.key_size >= _SMALLEST else None
