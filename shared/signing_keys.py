"""The public keys that inbound tokens are signed with: fetched, kept, and kept through an outage."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared import telemetry
from shared.clock import Clock
from shared.errors import SigningKeysUnavailable
from shared.http_client import HttpClient, Request, TransportError
from shared.key_binding import SigningKey, is_owned
from shared.urls import trusted_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

FRESH = timedelta(hours=1)  # then they are fetched again, and nobody waits for it
PAUSE = timedelta(seconds=60)  # between fetches, whatever unknown keys tokens name
PAUSE_WITHOUT_KEYS = timedelta(seconds=5)  # while a document was never loaded; doubled with each failure
_TIMEOUT = timedelta(seconds=5)  # of each of the two requests
_SMALLEST = 2048  # bits of an RSA key
_LARGEST = 8192  # a larger one only costs time
_MOST_KEYS = 100
_CLOUD = "cloud_instance_name"  # Entra's extension of metadata and keys, such as microsoftonline.com


@dataclass(slots=True)
class _Source:
    """One OpenID metadata document: its keys by `kid`, when they were fetched, and whether that is under way."""

    url: str
    keys: Mapping[str, tuple[SigningKey, ...]] = field(default_factory=dict)
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    failures: int = 0  # in a row
    task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> asyncio.Task[None] | None:
        """The fetch that has not ended."""
        return None if self.task is None or self.task.done() else self.task

    @property
    def pause(self) -> timedelta:
        """The least time between two fetches: short if it was never loaded, and longer with each failure."""
        if self.keys:
            return PAUSE
        return min(PAUSE_WITHOUT_KEYS * (1 << min(max(self.failures - 1, 0), 10)), PAUSE)

    def is_due(self, now: datetime, *, known: bool) -> bool:
        """Whether to ask again: at most once in a pause, for a key that is not known, or because its own are old."""
        if self.under_way or (self.tried_at is not None and now - self.tried_at < self.pause):
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
        SigningKeysUnavailable
            There are no keys at all, or not this one, and the last fetch failed: a retry may find it.
        """
        found = self._find(kid)
        self._fetch_if_due(known=bool(found))
        while not found and (waited_for := [source.under_way for source in self._sources if source.under_way]):
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            found = self._find(kid)
        if not any(source.keys for source in self._sources):
            raise SigningKeysUnavailable("The keys that tokens are verified with could not be fetched. Try again.")
        if not found and any(source.fetched_at != source.tried_at for source in self._sources):
            raise SigningKeysUnavailable("The token's key is not known, and new keys could not be fetched. Try again.")
        return found

    async def may_sign(self, keys: Collection[SigningKey], issuer: str, tenant_id: str) -> bool:
        """Whether one of the keys may sign for an issuer, in its canonical form, and a tenant: see `key_binding`.

        Raises
        ------
        SigningKeysUnavailable
            No key that is here owns the issuer, and a document that might was never loaded.
        """
        if any(key.signs_for(issuer, tenant_id) for key in keys):
            return True
        if not any(key.may_sign_for_an_unowned_issuer(tenant_id) for key in keys):
            return False
        while waited_for := [source.under_way for source in self._sources if source.under_way and not source.keys]:
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        if is_owned(issuer, tenant_id, self._all()):
            return False
        if self.missing():
            raise SigningKeysUnavailable("Not all keys that tokens are verified with could be fetched yet. Try again.")
        return True

    def missing(self) -> tuple[str, ...]:
        """The addresses of the metadata documents that were never loaded."""
        return tuple(source.url for source in self._sources if not source.keys)

    async def load(self, patience: timedelta) -> None:
        """Fetch the documents that were never loaded, at the same limited rate, and wait a while for them."""
        self._fetch_if_due(known=True)
        under_way = [source.under_way for source in self._sources if source.under_way and not source.keys]
        if under_way:
            await asyncio.wait(under_way, timeout=patience.total_seconds())

    def _all(self) -> Iterator[SigningKey]:
        return (key for source in self._sources for same in source.keys.values() for key in same)

    def _find(self, kid: str) -> tuple[SigningKey, ...]:
        return tuple(key for source in self._sources for key in source.keys.get(kid, ()))

    def _fetch_if_due(self, *, known: bool) -> None:
        now = self._clock.now()
        for source in self._sources:
            if source.is_due(now, known=known):  # in a task of its own: who asked for it may be cancelled
                source.task = asyncio.create_task(self._fetch(source), name=f"signing keys of {source.url}")

    async def _fetch(self, source: _Source) -> None:
        fetched = None
        try:
            fetched = await self._fetch_keys(source.url)
        finally:  # also if the fetch is cancelled: the next one must not wait for it for ever
            source.tried_at, source.failures = self._clock.now(), 0 if fetched else source.failures + 1
        if fetched:
            source.keys, source.fetched_at = fetched, source.tried_at

    async def _fetch_keys(self, metadata_url: str) -> Mapping[str, tuple[SigningKey, ...]] | None:
        try:
            document = await self._json(metadata_url)
            jwks = await self._json(keys_url(document, metadata_url, self._hosts))
            return usable_keys(jwks, document)
        except (TransportError, ValueError) as error:
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=str(error))
        except Exception as error:  # noqa: BLE001 (nobody waits for this task: what it raises would be lost)
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=type(error).__name__)
        return None

    async def _json(self, url: str) -> Mapping[str, object]:
        answer = await self._client.send(Request("GET", url), _TIMEOUT)
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


def usable_keys(
    jwks: Mapping[str, object], document: Mapping[str, object] | None = None
) -> Mapping[str, tuple[SigningKey, ...]]:
    """The RSA keys for signatures, of 2048 bits or more, by `kid`; `document` is the metadata that led to them.

    Entra lists keys of other clouds in a document. A key that names a cloud must name the document's (IDX40012).

    Raises
    ------
    ValueError
        There is none: not a key set, then.
    """
    listed, said = jwks.get("keys"), document or {}
    found: dict[str, tuple[SigningKey, ...]] = {}
    for jwk in (listed if isinstance(listed, list) else ())[:_MOST_KEYS]:
        if isinstance(jwk, dict) and _text(jwk, "kid") and _is_of_cloud(jwk, said) and (public := _rsa_key(jwk)):
            key = SigningKey(public, _text(jwk, "issuer"), _text(said, "issuer"))
            found[str(jwk["kid"])] = (*found.get(str(jwk["kid"]), ()), key)
    if not found:
        raise ValueError("the key set has no RSA key for signatures of 2048 bits or more")
    return found


def _text(json: Mapping[str, object], name: str) -> str | None:
    """A member that is text, and not empty."""
    value = json.get(name)
    return value if isinstance(value, str) and value else None


def _is_of_cloud(jwk: Mapping[str, object], document: Mapping[str, object]) -> bool:
    key, metadata = _text(jwk, _CLOUD), _text(document, _CLOUD)
    return key is None or metadata is None or key.lower() == metadata.lower()


def _rsa_key(jwk: Mapping[str, object]) -> "RSAPublicKey | None":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 slow to import
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 slow to import
    from jwt.exceptions import InvalidKeyError  # noqa: PLC0415 slow to import

    said = {name: value for name, value in jwk.items() if value is not None}  # null means left out
    if said.get("kty") != "RSA" or said.get("use", "sig") != "sig" or said.get("alg", "RS256") != "RS256":
        return None
    uses = said.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: str(jwk[name]) for name in ("kty", "n", "e")})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and _SMALLEST <= key.key_size <= _LARGEST else None
