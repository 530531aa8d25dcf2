"""The public keys that inbound tokens are signed with: fetched, kept, and kept through an outage."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared import telemetry
from shared.clock import Clock
from shared.errors import KeysUnavailable
from shared.http_client import HttpClient, NoAnswer, Request
from shared.identifiers import canonical_issuer, guids_in
from shared.urls import trusted_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FRESH = timedelta(hours=24)  # then they are fetched again, without haste
PAUSE = timedelta(seconds=60)  # between fetches, whatever unknown keys tokens name
PAUSE_WITHOUT_KEYS = timedelta(seconds=5)  # while there is no key at all
_TIMEOUT = timedelta(seconds=5)  # of each of the two requests
_SMALLEST = 2048  # bits of an RSA key
_LARGEST = 8192  # a larger one only costs time
_MOST_KEYS = 100
_ANY_TENANT = "{tenantid}"  # Entra: how metadata and keys for all tenants write a tenant


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key, and the issuer that it signs for: what its JWK says (Entra), else its metadata; None where neither does.

    The issuer may hold `{tenantid}`.
    """

    public: "RSAPublicKey"
    issuer: str | None = None

    def is_of(self, issuer: str, tenant_id: str) -> bool:
        """Whether it is said to sign for this issuer, given in its canonical form."""
        return self.issuer is not None and canonical_issuer(self.issuer.replace(_ANY_TENANT, tenant_id)) == issuer

    def is_for_another_tenant(self, tenant_id: str) -> bool:
        """Whether its issuer is one tenant, and not this one."""
        named = guids_in(self.issuer or "")
        return bool(named) and tenant_id not in named


class SigningKeys:
    """The keys of several OpenID metadata documents. One that fails keeps what it gave before, and spoils no other.

    `hosts`, in lower case, are those that metadata may lead to for keys, besides their own.
    """

    def __init__(
        self, metadata_urls: tuple[str, ...], client: HttpClient, clock: Clock, hosts: tuple[str, ...] = ()
    ) -> None:
        self._metadata_urls = metadata_urls
        self._client = client
        self._clock = clock
        self._hosts = hosts
        self._keys: dict[str, Mapping[str, tuple[SigningKey, ...]]] = {}  # by metadata URL, then by kid
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._fetching = asyncio.Lock()

    async def get(self, kid: str) -> tuple[SigningKey, ...]:
        """The keys of this id, most often one. Fetches if it is unknown or they are old, at a limited rate.

        Raises
        ------
        KeysUnavailable
            There are no keys at all, or not this one, and the last fetch failed: a retry may find it.
        """
        found = self._find(kid)
        if self._is_due(known=bool(found)) and not (found and self._fetching.locked()):
            async with self._fetching:  # those who waited find it done
                if self._is_due(known=bool(self._find(kid))):
                    await self._fetch()
            found = self._find(kid)
        if not any(self._keys.values()):
            raise KeysUnavailable("The keys that tokens are verified with could not be fetched. Try again.")
        if not found and self._fetched_at != self._tried_at:
            raise KeysUnavailable("The token's key is not known, and new keys could not be fetched. Try again.")
        return found

    def may_sign(self, key: SigningKey, issuer: str, tenant_id: str) -> bool:
        """Whether a key may sign for an issuer, in its canonical form, and a tenant.

        An issuer that metadata or keys call theirs has those keys alone, so that one issuer's stolen key opens nothing
        of another's. One that nobody calls his (Graph's second issuer, Entra's v1) shares the keys of all.
        """
        if key.is_for_another_tenant(tenant_id):
            return False
        return key.is_of(issuer, tenant_id) or not any(
            other.is_of(issuer, tenant_id) for keys in self._keys.values() for same in keys.values() for other in same
        )

    def _find(self, kid: str) -> tuple[SigningKey, ...]:
        return tuple(key for keys in self._keys.values() for key in keys.get(kid, ()))

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
            issuer = document.get("issuer")
            jwks = await self._json(keys_url(document, metadata_url, self._hosts))
            keys = usable_keys(jwks, issuer if isinstance(issuer, str) else None)
        except (NoAnswer, ValueError) as error:
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=str(error))
            return False
        self._keys[metadata_url] = keys
        return True

    async def _json(self, url: str) -> Mapping[str, object]:
        answer = await self._client.ask(Request("GET", url), _TIMEOUT)
        document = answer.json()
        if not answer.succeeded or not isinstance(document, dict):
            raise ValueError(f"an answer {answer.status} without a JSON object")
        return document


def keys_url(document: Mapping[str, object], metadata_url: str, hosts: tuple[str, ...] = ()) -> str:
    """Where metadata say that the keys are: at their own host, or at one of these.

    Raises
    ------
    ValueError
        It is no such address. The text is fit for a log.
    """
    try:
        url = trusted_url(str(document.get("jwks_uri")))
    except ValueError:
        raise ValueError("the metadata has no jwks_uri that can be used") from None
    host = urlsplit(url).hostname
    if host not in {urlsplit(metadata_url).hostname, *hosts}:
        raise ValueError(f"jwks_uri leads to another host, {host}, which SIGNING_KEY_HOSTS does not name")
    return url


def usable_keys(jwks: Mapping[str, object], issuer: str | None = None) -> Mapping[str, tuple[SigningKey, ...]]:
    """The RSA keys for signatures, of 2048 bits or more, by `kid`; `issuer` is that of the metadata.

    Raises
    ------
    ValueError
        There is none: not a key set, then.
    """
    listed = jwks.get("keys")
    found: dict[str, tuple[SigningKey, ...]] = {}
    for jwk in (listed if isinstance(listed, list) else ())[:_MOST_KEYS]:
        if isinstance(jwk, dict) and jwk.get("kid") and (public := _rsa_key(jwk)):
            own = jwk.get("issuer")  # Entra's extension, as `endorsements` is the Bot Framework's, which concerns bots
            key = SigningKey(public, own if isinstance(own, str) else issuer)
            found[str(jwk["kid"])] = (*found.get(str(jwk["kid"]), ()), key)
    if not found:
        raise ValueError("the key set has no RSA key for signatures of 2048 bits or more")
    return found


def _rsa_key(jwk: Mapping[str, object]) -> "RSAPublicKey | None":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 slow to import
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 slow to import
    from jwt.exceptions import InvalidKeyError  # noqa: PLC0415 slow to import

    if jwk.get("kty") != "RSA" or jwk.get("use") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    uses = jwk.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: str(jwk[name]) for name in ("kty", "n", "e")})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and _SMALLEST <= key.key_size <= _LARGEST else None
