"""The public keys that inbound tokens are signed with: fetched, kept, and kept through an outage."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
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

FRESH = timedelta(hours=1)  # then they are fetched again, and nobody waits for it
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


@dataclass(slots=True)
class _Source:
    """One OpenID metadata document: its keys by `kid`, when they were fetched, and whether that is under way."""

    url: str
    keys: Mapping[str, tuple[SigningKey, ...]] = field(default_factory=dict)
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    under_way: asyncio.Task[None] | None = None

    def is_due(self, now: datetime, pause: timedelta, *, known: bool) -> bool:
        """Whether to ask again: at most once in a pause, for a key that is not known, or because its own are old."""
        if self.under_way or (self.tried_at is not None and now - self.tried_at < pause):
            return False
        return not known or self.fetched_at is None or now - self.fetched_at >= FRESH


class SigningKeys:
    """The keys of several OpenID metadata documents. One that fails keeps what it gave before, and spoils no other.

    `hosts`, in lower case, are those that metadata may lead to for keys, besides their own.
    """

    def __init__(
        self, metadata_urls: tuple[str, ...], client: HttpClient, clock: Clock, hosts: tuple[str, ...] = ()
    ) -> None:
        self._sources = tuple(map(_Source, metadata_urls))
        self._client = client
        self._clock = clock
        self._hosts = hosts

    async def get(self, kid: str) -> tuple[SigningKey, ...]:
        """The keys of this id, most often one. Fetches if it is unknown or they are old, at a limited rate.

        Nobody waits for a fetch who has the key already, nor longer than until the key is there: a document that
        cannot be had holds up only who brings a key that nobody knows.

        Raises
        ------
        KeysUnavailable
            There are no keys at all, or not this one, and the last fetch failed: a retry may find it.
        """
        found = self._find(kid)
        self._fetch_if_due(known=bool(found))
        while not found and (waited_for := [source.under_way for source in self._sources if source.under_way]):
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            found = self._find(kid)
        if not any(source.keys for source in self._sources):
            raise KeysUnavailable("The keys that tokens are verified with could not be fetched. Try again.")
        if not found and any(source.fetched_at != source.tried_at for source in self._sources):
            raise KeysUnavailable("The token's key is not known, and new keys could not be fetched. Try again.")
        return found

    def may_sign(self, key: SigningKey, issuer: str, tenant_id: str) -> bool:
        """Whether a key may sign for an issuer, in its canonical form, and a tenant.

        An issuer that metadata or keys call theirs has those keys alone, so that one issuer's stolen key opens nothing
        of another's. One that nobody calls his (Graph's second issuer, Entra's v1) shares the keys of all.
        """
        if key.is_for_another_tenant(tenant_id):
            return False
        everyones = (other for source in self._sources for same in source.keys.values() for other in same)
        return key.is_of(issuer, tenant_id) or not any(other.is_of(issuer, tenant_id) for other in everyones)

    def _find(self, kid: str) -> tuple[SigningKey, ...]:
        return tuple(key for source in self._sources for key in source.keys.get(kid, ()))

    def _fetch_if_due(self, *, known: bool) -> None:
        now = self._clock.now()
        pause = PAUSE if any(source.keys for source in self._sources) else PAUSE_WITHOUT_KEYS
        for source in self._sources:
            if source.is_due(now, pause, known=known):  # in a task of its own: who asked for it may be cancelled
                source.under_way = asyncio.create_task(self._fetch(source), name=f"signing keys of {source.url}")

    async def _fetch(self, source: _Source) -> None:
        fetched = await self._fetch_keys(source.url)
        source.tried_at = self._clock.now()
        source.under_way = None
        if fetched:
            source.keys, source.fetched_at = fetched, source.tried_at

    async def _fetch_keys(self, metadata_url: str) -> Mapping[str, tuple[SigningKey, ...]] | None:
        try:
            document = await self._json(metadata_url)
            issuer = document.get("issuer")
            jwks = await self._json(keys_url(document, metadata_url, self._hosts))
            return usable_keys(jwks, issuer if isinstance(issuer, str) else None)
        except (NoAnswer, ValueError) as error:
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=str(error))
        except Exception as error:  # noqa: BLE001 (nobody waits for this task: what it raises would be lost)
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=type(error).__name__)
        return None

    async def _json(self, url: str) -> Mapping[str, object]:
        answer = await self._client.ask(Request("GET", url), _TIMEOUT)
        document = answer.json()
        if not answer.succeeded or not isinstance(document, dict):
            raise ValueError(f"an answer {answer.status} without a JSON object")
        return document


def keys_url(document: Mapping[str, object], metadata_url: str, hosts: tuple[str, ...] = ()) -> str:
    """Where metadata say that the keys are: at their own host and port, or at one of these hosts.

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
    if host not in hosts and _server(url) != _server(metadata_url):
        raise ValueError(f"jwks_uri leads to another host or port, at {host}, which SIGNING_KEY_HOSTS does not name")
    return url


def _server(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


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

    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    uses = jwk.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: str(jwk[name]) for name in ("kty", "n", "e")})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and _SMALLEST <= key.key_size <= _LARGEST else None
