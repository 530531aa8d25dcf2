"""Graph's tokens in memory: one for each bot and tenant, for a bounded number of tenants."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from shared import entra_errors, telemetry
from shared.apps import BotApp
from shared.bot_credentials import BotCredentials
from shared.clock import Clock, SystemClock
from shared.errors import TokenUnavailable
from shared.identifiers import guid
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

MAX_TENANTS = 10_000  # of each of which a token is kept, 3 KB each; with more, the one that was used least lately goes
REFRESH_PAUSE = timedelta(seconds=10)  # between new tokens of a tenant, however many calls see a 401
FAILURE_PAUSE = timedelta(seconds=5)  # for which a failure is told again, without asking; doubled by each further one
BEFORE_EXPIRY = timedelta(minutes=5)  # from then on a new token is asked for
RENEWAL_PAUSE = timedelta(seconds=30)  # between such requests: an identity endpoint may give the same token again
_LOOKED_AT = 8  # tenants, when one is to be forgotten: nearly always the first of them is not in use
_TIMEOUT = 20.0  # seconds for one token, azure-identity's own retries included


@dataclass(slots=True)
class _Tenant:
    """What is known of an app in a tenant. Only the holder of the lock changes it."""

    app: BotApp
    tenant_id: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: "AccessToken | None" = None
    asked_at: datetime | None = None  # for the token
    failure: str | None = None
    failures: int = 0  # in a row
    asked_again_at: datetime | None = None


class GraphTokens:
    """Tokens for Graph, each app's by its own credential. Nothing is opened before the first `get`."""

    def __init__(self, settings: Settings, clock: Clock | None = None, *, max_tenants: int = MAX_TENANTS) -> None:
        self._apps = settings.apps
        self._credentials = BotCredentials(settings)
        self._clock = clock or SystemClock()
        self._longest_pause = max(settings.timing.minute, FAILURE_PAUSE)
        self._max_tenants = max_tenants
        self._tenants: OrderedDict[tuple[str, str], _Tenant] = OrderedDict()  # the last used is last

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        """A token of the tenant, from memory while it is good.

        Parameters
        ----------
        tenant_id
            A GUID.
        app_id
            The bot's; None: that of GRAPH_APP_ID.
        refresh
            Graph refused the last one: ask for a new one, unless it is only a few seconds old.

        Raises
        ------
        TokenUnavailable
            None could be had. A failure is told again for a few seconds, up to a minute while it lasts: a sweep must
            not ask a thousand times, nor all sweeps and retries of an outage. A token that is still good outlives it.
        """
        known = self._known(tenant_id, app_id)
        if not refresh and known.token and self._left(known.token) > self._least(known):
            return known.token.token
        async with known.lock:  # those who waited find it done
            return await self._get(known, refresh=refresh)

    async def close(self) -> None:
        """Forget all tokens and close the connections."""
        self._tenants.clear()
        await self._credentials.close()

    def _known(self, tenant_id: str, app_id: str | None) -> _Tenant:
        key = (app_id or self._apps.default.app_id, tenant_id)
        known = self._tenants.get(key)  # keys are in lower case, as leases are: a sweep asks again and again
        if known is None:
            key, known = self._find(tenant_id, app_id)
        self._tenants.move_to_end(key)
        return known

    def _find(self, tenant_id: str, app_id: str | None) -> tuple[tuple[str, str], _Tenant]:
        tenant, app = _checked(tenant_id), self._apps.get(app_id)
        if app is None:
            raise TokenUnavailable(f"No Graph token: app {app_id} of the call is not in GRAPH_APPS.")
        key = (app.app_id, tenant)
        if key not in self._tenants:
            self._forget_unused(room_for=1)
            self._tenants[key] = _Tenant(app, tenant)
        return key, self._tenants[key]

    def _forget_unused(self, room_for: int) -> None:
        """Forget tenants that nobody asks for any more; and, of too many, the one that was used least lately."""
        for key, known in list(islice(self._tenants.items(), _LOOKED_AT)):
            full = len(self._tenants) + room_for > self._max_tenants
            if not known.lock.locked() and (full or self._is_left(known)):
                del self._tenants[key]

    def _is_left(self, known: _Tenant) -> bool:
        """Whether its token is over, and no failure of late is to be told again."""
        ends = known.asked_again_at and known.asked_again_at + self._longest_pause
        return not self._lasts(known.token) and not (ends and self._clock.now() < ends)

    async def _get(self, known: _Tenant, *, refresh: bool) -> str:
        now = self._clock.now()
        pausing = known.asked_again_at is not None and now < known.asked_again_at
        if pausing and (refresh or not self._lasts(known.token)):
            raise TokenUnavailable(known.failure)
        since = now - known.asked_at if known.asked_at else timedelta.max
        if refresh and since >= REFRESH_PAUSE:
            known.token = None
        if known.token and (pausing or self._is_kept(known.token, since)):
            return known.token.token
        try:
            known.token = await self._ask(known)
        except TokenUnavailable:
            if known.token is None or not self._lasts(known.token):
                raise
        return known.token.token

    async def _ask(self, known: _Tenant) -> "AccessToken":
        app, tenant_id = known.app, known.tenant_id
        try:
            async with asyncio.timeout(_TIMEOUT):
                token = await self._credentials.request(app, tenant_id)
        except Exception as error:  # azure-identity lets out KeyErrors too; whatever it is: no token
            self._note_failure(known, f"No Graph token for app {app.app_id} in tenant {tenant_id}: {_why(app, error)}")
            telemetry.TOKEN_FAILED(tenantId=tenant_id, appId=app.app_id, error=known.failure)
            raise TokenUnavailable(known.failure) from error
        known.failures, known.asked_again_at, known.asked_at = 0, None, self._clock.now()
        self._forget_unused(room_for=0)
        return token

    def _note_failure(self, known: _Tenant, failure: str) -> None:
        pause = min(FAILURE_PAUSE * 2 ** min(known.failures, 8), self._longest_pause)
        known.failure = failure
        known.failures += 1
        known.asked_again_at = self._clock.now() + pause

    def _least(self, known: _Tenant) -> timedelta:
        """What must be left of a token: it is renewed early, but who meets the renewal does not wait for it."""
        return timedelta() if known.lock.locked() else BEFORE_EXPIRY

    def _is_kept(self, token: "AccessToken", since: timedelta) -> bool:
        """Whether a token, which was asked for so long ago, need not be renewed yet."""
        return self._left(token) > BEFORE_EXPIRY or (self._lasts(token) and since < RENEWAL_PAUSE)

    def _lasts(self, token: "AccessToken | None") -> bool:
        return token is not None and self._left(token) > timedelta()

    def _left(self, token: "AccessToken") -> timedelta:
        return datetime.fromtimestamp(token.expires_on, UTC) - self._clock.now()


def _why(app: BotApp, error: Exception) -> str:
    """The credential, Entra's code and what to do. Not its message, which may hold more than is fit for a caller."""
    code = entra_errors.code_of(error)
    if code:
        return f"Entra refused the credential ({app.credential}) with {code}. {entra_errors.advice(code)}"
    return f"the credential ({app.credential}) gave none ({type(error).__name__})."


def _checked(tenant_id: str) -> str:
    """The tenant in lower case; it becomes part of a URL."""
    try:
        return guid(tenant_id)
    except ValueError as error:
        raise TokenUnavailable(f"No Graph token: the tenant {error}.") from None
