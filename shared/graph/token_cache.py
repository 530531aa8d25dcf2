"""The cache of tokens of bots: one for each bot, tenant and audience, in bounded memory. Most are for Graph."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from shared import telemetry
from shared.clock import Clock
from shared.config.apps import BotApp
from shared.config.settings import Settings
from shared.errors import TokenUnavailable
from shared.graph import entra_errors
from shared.graph.bot_credentials import BotCredentials
from shared.identifiers import canonical_guid

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

# Tokens of 3 KB each. If there are more, the least recently used one is dropped.
MAX_CACHED_TOKENS = 10_000
FORCED_REFRESH_COOLDOWN = timedelta(seconds=10)  # between new tokens of a tenant, even if many calls get a 401
FAILURE_BACKOFF = timedelta(seconds=5)  # for so long a failure is repeated without a request; doubled by each failure
RENEW_BEFORE_EXPIRY = timedelta(minutes=5)  # from then on a new token is requested
RENEWAL_COOLDOWN = timedelta(seconds=30)  # between such requests: an identity endpoint may return the same token
_MAX_EVICTION_SCAN = 8  # entries, for each eviction: nearly always the first one is not in use
_REQUEST_TIMEOUT = timedelta(seconds=20)  # for one token, including the retries of azure-identity

type _Key = tuple[str, str, str | None]  # app, tenant and audience


@dataclass(slots=True)
class _CachedToken:
    """The token, or the failure, of an app in a tenant. Only the holder of the lock changes it.

    `audience` is None for Graph.
    """

    app: BotApp
    tenant_id: str
    audience: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: "AccessToken | None" = None
    requested_at: datetime | None = None  # of the token
    failure: str | None = None
    failures: int = 0  # in a row
    retry_at: datetime | None = None


class GraphTokens:
    """Tokens for Graph and other audiences, for each app with its own credential.

    Nothing is opened before the first `get`.
    """

    def __init__(self, settings: Settings, clock: Clock, *, max_cached_tokens: int = MAX_CACHED_TOKENS) -> None:
        self._apps = settings.apps
        self._credentials = BotCredentials(settings)
        self._clock = clock
        self._max_backoff = max(settings.timing.minute, FAILURE_BACKOFF)
        self._max_cached_tokens = max_cached_tokens
        self._cache: OrderedDict[_Key, _CachedToken] = OrderedDict()  # the last used is last

    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        """Return a token of the tenant, from memory while it is valid.

        Parameters
        ----------
        tenant_id
            A GUID.
        app_id
            The bot. None: that of GRAPH_APP_ID.
        refresh
            True if the audience refused the last token: request a new one, unless the last is only a few seconds old.
        audience
            An application id or an App ID URI: the API that the token is for. None: Graph. It comes from settings,
            never from a request, so that there are only a few.

        Raises
        ------
        TokenUnavailable
            No token could be obtained. The error is repeated without a request for 5 seconds, doubled by each failure
            up to a minute, so that thousands of calls do not make thousands of requests. A token that is still valid
            is returned despite a failure.
        """
        entry = self._entry(tenant_id, app_id, audience)
        if not refresh and entry.token and self._remaining(entry.token) > self._min_remaining(entry):
            return entry.token.token
        async with entry.lock:  # calls that waited find the token
            return await self._get(entry, refresh=refresh)

    async def close(self) -> None:
        """Drop all tokens and close the connections."""
        self._cache.clear()
        await self._credentials.close()

    def _entry(self, tenant_id: str, app_id: str | None, audience: str | None) -> _CachedToken:
        key = (app_id or self._apps.default.app_id, tenant_id, audience)
        entry = self._cache.get(key)  # keys are in lower case, as in leases: the fast path of sweeps
        if entry is None:
            key, entry = self._find_or_add(tenant_id, app_id, audience)
        self._cache.move_to_end(key)
        return entry

    def _find_or_add(self, tenant_id: str, app_id: str | None, audience: str | None) -> tuple[_Key, _CachedToken]:
        tenant, app = _canonical_tenant(tenant_id, audience), self._apps.get(app_id)
        if app is None:
            raise TokenUnavailable(f"{_no_token(audience)}: app {app_id} of the call is not in GRAPH_APPS.")
        key = (app.app_id, tenant, audience)
        if key not in self._cache:
            self._evict_unused(room_for=1)
            self._cache[key] = _CachedToken(app, tenant, audience)
        return key, self._cache[key]

    def _evict_unused(self, room_for: int) -> None:
        """Drop entries that are not used any more and, if there are too many, the least recently used one."""
        for key, entry in list(islice(self._cache.items(), _MAX_EVICTION_SCAN)):
            is_full = len(self._cache) + room_for > self._max_cached_tokens
            if not entry.lock.locked() and (is_full or self._is_unused(entry)):
                del self._cache[key]

    def _is_unused(self, entry: _CachedToken) -> bool:
        """True if the token has expired and no recent failure has to be remembered."""
        backoff_ends = entry.retry_at and entry.retry_at + self._max_backoff
        return not self._is_valid(entry.token) and not (backoff_ends and self._clock.now() < backoff_ends)

    async def _get(self, entry: _CachedToken, *, refresh: bool) -> str:
        now = self._clock.now()
        is_backing_off = entry.retry_at is not None and now < entry.retry_at
        if is_backing_off and (refresh or not self._is_valid(entry.token)):
            raise TokenUnavailable(entry.failure)
        since = now - entry.requested_at if entry.requested_at else timedelta.max
        if refresh and since >= FORCED_REFRESH_COOLDOWN:
            entry.token = None
        if entry.token and (is_backing_off or self._is_fresh(entry.token, since)):
            return entry.token.token
        try:
            entry.token = await self._request(entry)
        except TokenUnavailable:
            if entry.token is None or not self._is_valid(entry.token):
                raise
        return entry.token.token

    async def _request(self, entry: _CachedToken) -> "AccessToken":
        app, tenant_id, audience = entry.app, entry.tenant_id, entry.audience
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT.total_seconds()):
                token = await self._credentials.request_token(app, tenant_id, audience)
        except Exception as error:  # azure-identity raises other errors too, such as KeyError
            cause = _describe_failure(app, audience, error)
            self._record_failure(entry, f"{_no_token(audience)} for app {app.app_id} in tenant {tenant_id}: {cause}")
            telemetry.TOKEN_FAILED(tenantId=tenant_id, appId=app.app_id, error=entry.failure)
            raise TokenUnavailable(entry.failure) from error
        entry.failures, entry.retry_at, entry.requested_at = 0, None, self._clock.now()
        self._evict_unused(room_for=0)
        return token

    def _record_failure(self, entry: _CachedToken, failure: str) -> None:
        pause = min(FAILURE_BACKOFF * 2 ** min(entry.failures, 8), self._max_backoff)
        entry.failure = failure
        entry.failures += 1
        entry.retry_at = self._clock.now() + pause

    def _min_remaining(self, entry: _CachedToken) -> timedelta:
        """Return the validity that a token must have left. During an early renewal the old token is used."""
        return timedelta() if entry.lock.locked() else RENEW_BEFORE_EXPIRY

    def _is_fresh(self, token: "AccessToken", since: timedelta) -> bool:
        """True if a token that was requested `since` ago need not be renewed yet."""
        return self._remaining(token) > RENEW_BEFORE_EXPIRY or (self._is_valid(token) and since < RENEWAL_COOLDOWN)

    def _is_valid(self, token: "AccessToken | None") -> bool:
        return token is not None and self._remaining(token) > timedelta()

    def _remaining(self, token: "AccessToken") -> timedelta:
        return datetime.fromtimestamp(token.expires_on, UTC) - self._clock.now()


def _no_token(audience: str | None) -> str:
    return f"No token for {audience}" if audience else "No Graph token"


def _describe_failure(app: BotApp, audience: str | None, error: Exception) -> str:
    """Return the credential, Entra's code and advice. Entra's message may hold what a caller must not see."""
    code = entra_errors.entra_code_of(error)
    if code:
        advice = entra_errors.advice_for(code, for_graph=audience is None)
        return f"Entra refused the credential ({app.credential}) with {code}. {advice}"
    cause = f"the credential ({app.credential}) returned none ({type(error).__name__})."
    if audience and app.credential == "managedIdentity":
        return f"{cause} {entra_errors.NO_APP_REGISTRATION}"
    return cause


def _canonical_tenant(tenant_id: str, audience: str | None) -> str:
    """Return the tenant in lower case. Only a GUID may become part of a URL."""
    try:
        return canonical_guid(tenant_id)
    except ValueError as error:
        raise TokenUnavailable(f"{_no_token(audience)}: the tenant {error}.") from None
