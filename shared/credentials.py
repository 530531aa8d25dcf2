"""Graph's tokens, by azure-identity: one credential for each tenant of this app in this cloud."""

import asyncio
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from shared import telemetry
from shared.clock import Clock, SystemClock
from shared.errors import TokenUnavailable
from shared.identifiers import tenant
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

REFRESH_PAUSE = timedelta(seconds=10)  # between new credentials of a tenant, however many calls see a 401
FAILURE_PAUSE = timedelta(seconds=5)  # for which a failure is told again, without asking
BEFORE_EXPIRY = timedelta(minutes=5)  # from then on azure-identity is asked again
_TIMEOUT = 20.0  # seconds for one token, azure-identity's own retries included
_AADSTS = re.compile(r"AADSTS\d+")
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
    """What is at hand for a tenant. Whoever changes it holds the lock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    credential: Credential | None = None
    token: "AccessToken | None" = None
    made_at: datetime | None = None
    failure: str | None = None
    failed_at: datetime | None = None


class GraphTokens:
    """Tokens for Graph with the credential that GRAPH_CREDENTIAL names. Nothing is opened before the first `get`."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._tenants: dict[str, _Tenant] = {}

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        """A token of the tenant, from memory while it is good.

        Parameters
        ----------
        tenant_id
            A GUID or a domain.
        app_id
            The bot's; None: that of GRAPH_APP_ID.
        refresh
            Graph refused the last one: ask for a new one, unless that was done a few seconds ago.

        Raises
        ------
        TokenUnavailable
            None could be had. A failure is told again for a few seconds: a sweep must not ask a thousand times.
        """
        tenant_id = _checked(tenant_id)
        if app_id not in {None, self._settings.graph_app_id}:
            raise TokenUnavailable(f"No Graph token: app {app_id} of the call is none that this deployment serves.")
        known = self._tenants.setdefault(tenant_id, _Tenant())
        if not refresh and known.token and self._is_good(known.token):
            return known.token.token
        async with known.lock:  # those who waited find it done
            return await self._get(tenant_id, known, refresh=refresh)

    async def close(self) -> None:
        """Close all credentials' connections."""
        tenants, self._tenants = self._tenants, {}
        for known in tenants.values():
            if known.credential:
                await known.credential.close()

    async def _get(self, tenant_id: str, known: _Tenant, *, refresh: bool) -> str:
        now = self._clock.now()
        if known.failed_at and now - known.failed_at < FAILURE_PAUSE:
            raise TokenUnavailable(known.failure)
        if refresh and known.made_at and now - known.made_at >= REFRESH_PAUSE:
            await _forget(known)
        if not (known.token and self._is_good(known.token)):
            known.token = await self._ask(tenant_id, known)
        return known.token.token

    async def _ask(self, tenant_id: str, known: _Tenant) -> "AccessToken":
        try:
            async with asyncio.timeout(_TIMEOUT):
                if known.credential is None:
                    known.credential = _credential(self._settings, tenant_id)
                    known.made_at = self._clock.now()
                token = await known.credential.get_token(self._settings.graph_scope)
        except Exception as error:  # azure-identity lets out KeyErrors too; whatever it is: no token
            known.failed_at = self._clock.now()
            known.failure = f"No Graph token for tenant {tenant_id}: {self._reason(error)}."
            telemetry.TOKEN_FAILED(tenantId=tenant_id, error=known.failure)
            raise TokenUnavailable(known.failure) from error
        known.failed_at = None
        return token

    def _is_good(self, token: "AccessToken") -> bool:
        return token.expires_on - self._clock.now().timestamp() > BEFORE_EXPIRY.total_seconds()

    def _reason(self, error: Exception) -> str:
        """The credential and Entra's code. Not the message, which may hold more than is fit for a caller."""
        kind = self._settings.graph_credential
        code = _AADSTS.search(str(error))
        if code:
            return f"Entra refused the credential ({kind}) with {code[0]}"
        return f"the credential ({kind}) gave none ({type(error).__name__})"


async def _forget(known: _Tenant) -> None:
    if known.credential:
        await known.credential.close()
    known.credential = known.token = None


def _checked(tenant_id: str) -> str:
    """The tenant in lower case; it becomes part of a URL."""
    try:
        return tenant(tenant_id)
    except ValueError as error:
        raise TokenUnavailable(f"No Graph token: the tenant {error}.") from None


def _credential(settings: Settings, tenant_id: str) -> Credential:
    """The credential that GRAPH_CREDENTIAL names, for one tenant. A managed identity's is always its own tenant's."""
    from azure.identity import aio  # noqa: PLC0415 slow to import

    app_id, authority = settings.graph_app_id, settings.authority
    match settings.graph_credential:
        case "managedIdentity":
            return _managed_identity(settings)
        case "federated":
            return _Federated(settings, tenant_id)
        case "certificate":
            password = _revealed(settings.graph_certificate_password)
            path = settings.graph_certificate_path
            return aio.CertificateCredential(
                tenant_id, app_id, path, password=password, authority=authority, retry_total=_RETRIES
            )
        case "secret":
            secret = _revealed(settings.graph_client_secret) or ""
            return aio.ClientSecretCredential(tenant_id, app_id, secret, authority=authority, retry_total=_RETRIES)


def _managed_identity(settings: Settings) -> Credential:
    from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415 slow to import

    return ManagedIdentityCredential(client_id=settings.azure_client_id)


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


class _Federated:
    """A managed identity's token as the app's client assertion: no secret anywhere (workload identity federation)."""

    def __init__(self, settings: Settings, tenant_id: str) -> None:
        from azure.identity.aio import ClientAssertionCredential  # noqa: PLC0415 slow to import

        self._assertion = ""
        self._audience = f"{settings.cloud.assertion_audience}/.default"
        self._identity = _managed_identity(settings)
        self._app = ClientAssertionCredential(
            tenant_id,
            settings.graph_app_id,
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
