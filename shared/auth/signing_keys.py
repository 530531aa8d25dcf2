"""The public keys for inbound tokens: fetched, cached, and kept during an outage of their source."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared import telemetry
from shared.auth.key_binding import SigningKey, is_owned_issuer
from shared.clock import Clock
from shared.errors import SigningKeysUnavailable
from shared.http_client import HttpClient, Request, TransportError
from shared.urls import trusted_url

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

REFRESH_AFTER = timedelta(hours=1)  # then keys are fetched again, in the background
REFRESH_COOLDOWN = timedelta(seconds=60)  # between fetches, even if tokens name unknown keys
FIRST_FETCH_COOLDOWN = timedelta(seconds=5)  # until a document is loaded; doubled by each failure
_REQUEST_TIMEOUT = timedelta(seconds=5)  # for each of the two requests
_MIN_KEY_BITS = 2048  # of an RSA key
_MAX_KEY_BITS = 8192  # larger keys cost time without a benefit
_MAX_KEYS = 100
_CLOUD_MEMBER = "cloud_instance_name"  # Entra's extension of metadata and keys, such as microsoftonline.com


@dataclass(slots=True)
class _MetadataSource:
    """One OpenID metadata document: its keys by `kid`, and the state of their fetches."""

    url: str
    keys: Mapping[str, tuple[SigningKey, ...]] = field(default_factory=dict)
    fetched_at: datetime | None = None
    attempted_at: datetime | None = None
    failures: int = 0  # in a row
    task: asyncio.Task[None] | None = None

    @property
    def pending_fetch(self) -> asyncio.Task[None] | None:
        """The fetch that runs now, if any."""
        return None if self.task is None or self.task.done() else self.task

    @property
    def cooldown(self) -> timedelta:
        """The minimum time between two fetches: short if none succeeded yet, doubled by each failure."""
        if self.keys:
            return REFRESH_COOLDOWN
        return min(FIRST_FETCH_COOLDOWN * (1 << min(max(self.failures - 1, 0), 10)), REFRESH_COOLDOWN)

    def is_due(self, now: datetime, *, is_known: bool) -> bool:
        """True if the document should be fetched: its keys are old or a key is unknown, and the cooldown is over."""
        if self.pending_fetch or (self.attempted_at is not None and now - self.attempted_at < self.cooldown):
            return False
        return not is_known or self.fetched_at is None or now - self.fetched_at >= REFRESH_AFTER


class SigningKeys:
    """The keys of several OpenID metadata documents. If one cannot be fetched, its old keys and all others stay in use.

    Keys may be at the host of their metadata, or at one of `hosts` (in lower case).
    """

    def __init__(
        self, metadata_urls: tuple[str, ...], client: HttpClient, clock: Clock, hosts: tuple[str, ...] = ()
    ) -> None:
        self._sources = tuple(map(_MetadataSource, metadata_urls))
        self._client = client
        self._clock = clock
        self._hosts = hosts

    async def get(self, kid: str) -> tuple[SigningKey, ...]:
        """Return the keys with this id, usually one. Unknown or old keys are fetched, at a limited rate.

        A known key is returned at once, while a refresh runs in the background. An unknown key waits until any fetch
        yields it or all have finished. So an unreachable document delays only tokens with unknown keys.

        Raises
        ------
        SigningKeysUnavailable
            No keys are loaded, or this one is not and the last fetch failed. A retry may succeed.
        """
        found = self._find(kid)
        self._fetch_if_due(is_known=bool(found))
        while not found and (pending := [source.pending_fetch for source in self._sources if source.pending_fetch]):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            found = self._find(kid)
        if not any(source.keys for source in self._sources):
            raise SigningKeysUnavailable("The keys that tokens are verified with could not be fetched. Try again.")
        if not found and any(source.fetched_at != source.attempted_at for source in self._sources):
            raise SigningKeysUnavailable("The token's key is not known, and new keys could not be fetched. Try again.")
        return found

    async def may_sign(self, keys: Collection[SigningKey], issuer: str, tenant_id: str) -> bool:
        """True if one of the keys may sign for an issuer, in its canonical form, and a tenant: see `key_binding`.

        Raises
        ------
        SigningKeysUnavailable
            No loaded key belongs to the issuer, and a document that could have one was never loaded.
        """
        if any(key.signs_for(issuer, tenant_id) for key in keys):
            return True
        if not any(key.may_sign_for_unowned_issuer(tenant_id) for key in keys):
            return False
        while pending := [source.pending_fetch for source in self._sources if source.pending_fetch and not source.keys]:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if is_owned_issuer(issuer, tenant_id, self._all_keys()):
            return False
        if self.unloaded_urls():
            raise SigningKeysUnavailable("Not all keys that tokens are verified with could be fetched yet. Try again.")
        return True

    def unloaded_urls(self) -> tuple[str, ...]:
        """Return the URLs of the metadata documents that were never loaded."""
        return tuple(source.url for source in self._sources if not source.keys)

    async def load_missing(self, max_wait: timedelta) -> None:
        """Fetch the documents that were never loaded, at the same limited rate. Wait for them up to `max_wait`."""
        self._fetch_if_due(is_known=True)
        pending = [source.pending_fetch for source in self._sources if source.pending_fetch and not source.keys]
        if pending:
            await asyncio.wait(pending, timeout=max_wait.total_seconds())

    def _all_keys(self) -> Iterator[SigningKey]:
        return (key for source in self._sources for same in source.keys.values() for key in same)

    def _find(self, kid: str) -> tuple[SigningKey, ...]:
        return tuple(key for source in self._sources for key in source.keys.get(kid, ()))

    def _fetch_if_due(self, *, is_known: bool) -> None:
        now = self._clock.now()
        for source in self._sources:
            if source.is_due(now, is_known=is_known):  # a task, as the request that needs it may be cancelled
                source.task = asyncio.create_task(self._fetch(source), name=f"signing keys of {source.url}")

    async def _fetch(self, source: _MetadataSource) -> None:
        fetched = None
        try:
            fetched = await self._fetch_keys(source.url)
        finally:  # a cancelled fetch counts as failed, so that the next one can begin
            source.attempted_at, source.failures = self._clock.now(), 0 if fetched else source.failures + 1
        if fetched:
            source.keys, source.fetched_at = fetched, source.attempted_at

    async def _fetch_keys(self, metadata_url: str) -> Mapping[str, tuple[SigningKey, ...]] | None:
        try:
            document = await self._fetch_json(metadata_url)
            jwks = await self._fetch_json(jwks_url(document, metadata_url, self._hosts))
            return usable_keys(jwks, document)
        except (TransportError, ValueError) as error:
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=str(error))
        except Exception as error:  # noqa: BLE001 (nothing awaits this task: its errors would be lost)
            telemetry.KEYS_FAILED(metadataUrl=metadata_url, reason=type(error).__name__)
        return None

    async def _fetch_json(self, url: str) -> Mapping[str, object]:
        response = await self._client.send(Request("GET", url), _REQUEST_TIMEOUT)
        document = response.json()
        if not response.succeeded or not isinstance(document, dict):
            raise ValueError(f"an answer {response.status} without a JSON object")
        return document


def jwks_url(document: Mapping[str, object], metadata_url: str, hosts: tuple[str, ...] = ()) -> str:
    """Return the URL of the keys in the metadata: at the metadata's host and port, or at one of these hosts.

    Raises
    ------
    ValueError
        The metadata have no such URL. The text of the error may be logged.
    """
    try:
        url = trusted_url(str(document.get("jwks_uri")))
    except ValueError:
        raise ValueError("the metadata has no jwks_uri that can be used") from None
    host = urlsplit(url).hostname
    if host not in hosts and _host_and_port(url) != _host_and_port(metadata_url):
        raise ValueError(f"jwks_uri leads to another host or port, at {host}, which SIGNING_KEY_HOSTS does not name")
    return url


def _host_and_port(url: str) -> tuple[str | None, int]:
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def usable_keys(
    jwks: Mapping[str, object], document: Mapping[str, object] | None = None
) -> Mapping[str, tuple[SigningKey, ...]]:
    """Return the RSA keys for signatures, of 2048 bits or more, by `kid`. `document` is the metadata that led to them.

    Entra lists keys of other clouds in a document. A key that names a cloud must name the document's (IDX40012).

    Raises
    ------
    ValueError
        There is no such key, so this is not a key set.
    """
    listed, metadata = jwks.get("keys"), document or {}
    found: dict[str, tuple[SigningKey, ...]] = {}
    for jwk in (listed if isinstance(listed, list) else ())[:_MAX_KEYS]:
        if (
            isinstance(jwk, dict)
            and _text_member(jwk, "kid")
            and _has_same_cloud(jwk, metadata)
            and (public := _rsa_key(jwk))
        ):
            key = SigningKey(public, _text_member(jwk, "issuer"), _text_member(metadata, "issuer"))
            found[str(jwk["kid"])] = (*found.get(str(jwk["kid"]), ()), key)
    if not found:
        raise ValueError("the key set has no RSA key for signatures of 2048 bits or more")
    return found


def _text_member(json: Mapping[str, object], name: str) -> str | None:
    """Return a member if it is text and not empty."""
    value = json.get(name)
    return value if isinstance(value, str) and value else None


def _has_same_cloud(jwk: Mapping[str, object], document: Mapping[str, object]) -> bool:
    key, metadata = _text_member(jwk, _CLOUD_MEMBER), _text_member(document, _CLOUD_MEMBER)
    return key is None or metadata is None or key.lower() == metadata.lower()


def _rsa_key(jwk: Mapping[str, object]) -> "RSAPublicKey | None":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415 slow to import
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 slow to import
    from jwt.exceptions import InvalidKeyError  # noqa: PLC0415 slow to import

    members = {name: value for name, value in jwk.items() if value is not None}  # null means missing
    if members.get("kty") != "RSA" or members.get("use", "sig") != "sig" or members.get("alg", "RS256") != "RS256":
        return None
    uses = members.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    try:
        key = RSAAlgorithm.from_jwk({name: str(jwk[name]) for name in ("kty", "n", "e")})
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    return key if isinstance(key, RSAPublicKey) and _MIN_KEY_BITS <= key.key_size <= _MAX_KEY_BITS else None
