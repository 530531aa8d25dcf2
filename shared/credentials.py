"""Graph's tokens, by azure-identity: one credential for each app and tenant in this cloud."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from shared import entra_errors, telemetry
from shared.apps import BotApp
from shared.clock import Clock, SystemClock
from shared.errors import TokenUnavailable
from shared.identifiers import guid
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

REFRESH_PAUSE = timedelta(seconds=10)  # between new credentials of a tenant, however many calls see a 401
FAILURE_PAUSE = timedelta(seconds=5)  # for which a failure is told again, without asking; doubled by each further one
BEFORE_EXPIRY = timedelta(minutes=5)  # from then on azure-identity is asked again
_TIMEOUT = 20.0  # seconds for one token, azure-identity's own retries included
_RETRIES = 2  # within that time


class Credential(Protocol):
    """What azure-identity's asynchronous credentials have in common."""

    async def get_token(self, scope: str, /) -> "AccessToken":
        """A token for the scope, from its cache or from Entra."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


@dataclass(slots=True)
class _Tenant:
    """What is at hand for an app in a tenant. Whoever changes it holds the lock."""

    app: BotApp
    tenant_id: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    credential: Credential | None = None
    token: "AccessToken | None" = None
    made_at: datetime | None = None
    failure: str | None = None
    failures: int = 0  # in a row
    asked_again_at: datetime | None = None


class GraphTokens:
    """Tokens for Graph, each app's by its own credential. Nothing is opened before the first `get`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._apps = settings.apps
        self._clock = clock or SystemClock()
        self._longest_pause = max(settings.timing.minute, FAILURE_PAUSE)
        self._tenants: dict[tuple[str, str], _Tenant] = {}
        # The same by what was asked for, as a sweep asks again and again.
        self._asked: dict[tuple[str, str | None], _Tenant] = {}

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        """A token of the tenant, from memory while it is good.

        Parameters
        ----------
        tenant_id
            A GUID.
        app_id
            The bot's; None: that of GRAPH_APP_ID.
        refresh
            Graph refused the last one: ask for a new one, unless that was done a few seconds ago.

        Raises
        ------
        TokenUnavailable
            None could be had. A failure is told again for a few seconds, up to a minute while it lasts: a sweep must
            not ask a thousand times, nor all sweeps and retries of an outage. A token that is still good outlives it.
        """
        known = self._asked.get((tenant_id, app_id)) or self._find(tenant_id, app_id)
        if not refresh and known.token and self._left(known.token) > self._least(known):
            return known.token.token
        async with known.lock:  # those who waited find it done
            return await self._get(known, refresh=refresh)

    async def close(self) -> None:
        """Close all credentials' connections."""
        tenants, self._tenants, self._asked = self._tenants, {}, {}
        for known in tenants.values():
            if known.credential:
                await known.credential.close()

    def _find(self, tenant_id: str, app_id: str | None) -> _Tenant:
        tenant, app = _checked(tenant_id), self._apps.get(app_id)
        if app is None:
            raise TokenUnavailable(f"No Graph token: app {app_id} of the call is not in GRAPH_APPS.")
        known = self._tenants.setdefault((app.app_id, tenant), _Tenant(app, tenant))
        self._asked[tenant_id, app_id] = known
        return known

    async def _get(self, known: _Tenant, *, refresh: bool) -> str:
        now = self._clock.now()
        pausing = known.asked_again_at is not None and now < known.asked_again_at
        if pausing and (refresh or not self._lasts(known.token)):
            raise TokenUnavailable(known.failure)
        if refresh and known.made_at and now - known.made_at >= REFRESH_PAUSE:
            await _forget(known)
        if known.token and (pausing or self._left(known.token) > BEFORE_EXPIRY):
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
                if known.credential is None:
                    known.credential = _credential(self._settings, app, tenant_id)
                    known.made_at = self._clock.now()
                token = await known.credential.get_token(self._settings.graph_scope)
        except Exception as error:  # azure-identity lets out KeyErrors too; whatever it is: no token
            self._note_failure(known, f"No Graph token for app {app.app_id} in tenant {tenant_id}: {_why(app, error)}")
            telemetry.TOKEN_FAILED(tenantId=tenant_id, appId=app.app_id, error=known.failure)
            raise TokenUnavailable(known.failure) from error
        known.failures, known.asked_again_at = 0, None
        return token

    def _note_failure(self, known: _Tenant, failure: str) -> None:
        pause = min(FAILURE_PAUSE * 2 ** min(known.failures, 8), self._longest_pause)
        known.failure = failure
        known.failures += 1
        known.asked_again_at = self._clock.now() + pause

    def _least(self, known: _Tenant) -> timedelta:
        """What must be left of a token: it is renewed early, but who meets the renewal does not wait for it."""
        return timedelta() if known.lock.locked() else BEFORE_EXPIRY

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


async def _forget(known: _Tenant) -> None:
    if known.credential:
        await known.credential.close()
    known.credential = known.token = None


def _checked(tenant_id: str) -> str:
    """The tenant in lower case; it becomes part of a URL."""
    try:
        return guid(tenant_id)
    except ValueError as error:
        raise TokenUnavailable(f"No Graph token: the tenant {error}.") from None


def _credential(settings: Settings, app: BotApp, tenant_id: str) -> Credential:
    """The app's credential, for one tenant. A managed identity's is always its own tenant's."""
    from azure.identity import aio  # noqa: PLC0415 slow to import

    app_id, authority = app.app_id, settings.authority
    match app.credential:
        case "managedIdentity":
            return _managed_identity(settings, app)
        case "federated":
            return _Federated(settings, app, tenant_id)
        case "certificate":
            password = _revealed(app.certificate_password)
            path = app.certificate_path
            return aio.CertificateCredential(
                tenant_id, app_id, path, password=password, authority=authority, retry_total=_RETRIES
            )
        case "secret":
            secret = _revealed(app.client_secret) or ""
            return aio.ClientSecretCredential(tenant_id, app_id, secret, authority=authority, retry_total=_RETRIES)


def _managed_identity(settings: Settings, app: BotApp) -> Credential:
    from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415 slow to import

    return ManagedIdentityCredential(client_id=app.identity_client_id or settings.azure_client_id)


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


class _Federated:
    """A managed identity's token as the app's client assertion: no secret anywhere (workload identity federation)."""

    def __init__(self, settings: Settings, app: BotApp, tenant_id: str) -> None:
        from azure.identity.aio import ClientAssertionCredential  # noqa: PLC0415 slow to import

        self._assertion = ""
        self._audience = f"{settings.cloud.assertion_audience}/.default"
        self._identity = _managed_identity(settings, app)
        self._app = ClientAssertionCredential(
            tenant_id,
            app.app_id,
            lambda: self._assertion,  # azure-identity asks for it without await
            authority=settings.authority,
            retry_total=_RETRIES,
        )

    async def get_token(self, scope: str) -> "AccessToken":
        """The app's token; the identity's own is cached by azure-identity."""
        self._assertion = (await self._identity.get_token(self._audience)).token
        return await self._app.get_token(scope)

    async def close(self) -> None:
        """Close both credentials' connections."""
        await self._identity.close()
        await self._app.close()
