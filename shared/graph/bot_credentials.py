"""Requests for tokens of bots to Entra, by azure-identity over one transport for all bots and tenants."""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from shared.config.apps import BotApp
from shared.config.settings import Settings
from shared.graph.certificates import BotCertificate

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import AioHttpTransport

# Connections for tokens of hang-ups and recordings, while all requests of a sweep need tokens too.
TOKEN_CONNECTIONS_BESIDE_SWEEPS = 8
_MAX_RETRIES = 2  # of azure-identity, for each token


class _Credential(Protocol):
    async def get_token(self, scope: str, /) -> "AccessToken": ...


class BotCredentials:
    """Requests new tokens. It opens nothing before the first request, in whose event loop it then stays.

    Each request gets a credential of its own, which is dropped with the answer. A credential that is kept has a token
    cache: it grows with the tenants, returns again a token that Graph has refused, and delays the renewal of one
    tenant's token because of another's (docs/decisions/0033). `GraphTokens` is the only cache.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._certificates: dict[str, BotCertificate] = {}  # by app id: at most one for each bot
        self._assertion_sources: dict[str, _AssertionSource] = {}  # as above

    async def request_token(self, app: BotApp, tenant_id: str, audience: str | None = None) -> "AccessToken":
        """Request a token of the app in this tenant, from Entra or from the identity endpoint.

        Parameters
        ----------
        app
            The bot, as which the token is requested.
        tenant_id
            A GUID.
        audience
            An application id or an App ID URI. None: Graph.

        Raises
        ------
        Exception
            Any error of azure-identity. It raises not only its own errors, but also others such as KeyError.
        """
        credential = await self._credential(app, tenant_id)  # never closed: that would close the shared transport
        return await credential.get_token(f"{audience}/.default" if audience else self._settings.graph_scope)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        self._assertion_sources = {}
        transport = self.__dict__.pop("_transport", None)
        if transport:
            await transport.session.close()

    @cached_property
    def _transport(self) -> "AioHttpTransport":
        """The shared transport. It does not own its session, so that a closed credential leaves connections open."""
        import aiohttp  # noqa: PLC0415 slow to import
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415 slow to import

        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._settings.keep_alive_concurrency + TOKEN_CONNECTIONS_BESIDE_SWEEPS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # no cookie of one tenant goes to another
            auto_decompress=False,  # azure-core decompresses
            trust_env=True,  # proxies, as in azure-core's own sessions
        )
        return AioHttpTransport(session=session, session_owner=False)

    async def _credential(self, app: BotApp, tenant_id: str) -> _Credential:
        """Return the app's credential for one tenant. A managed identity only gets tokens of its own tenant."""
        from azure.identity import aio  # noqa: PLC0415 slow to import

        common = {"authority": self._settings.authority, "retry_total": _MAX_RETRIES, "transport": self._transport}
        match app.credential:
            case "managedIdentity":
                return self._managed_identity(app)
            case "federated" | "certificate":
                assertion = await self._assertion(app, tenant_id)
                return aio.ClientAssertionCredential(tenant_id, app.app_id, lambda: assertion, **common)
            case "secret":
                secret = _secret_value(app.client_secret) or ""
                return aio.ClientSecretCredential(tenant_id, app.app_id, secret, **common)

    async def _assertion(self, app: BotApp, tenant_id: str) -> str:
        """Return the proof that replaces a secret: signed by the certificate, or the managed identity's token."""
        if app.credential == "certificate":
            authority = self._settings.authority.rstrip("/")
            return self._certificate_of(app).sign_assertion(app.app_id, f"{authority}/{tenant_id}/oauth2/v2.0/token")
        return await self._assertion_source_of(app).get_assertion()

    def _certificate_of(self, app: BotApp) -> BotCertificate:
        if app.app_id not in self._certificates:
            password = _secret_value(app.certificate_password)
            self._certificates[app.app_id] = BotCertificate(app.certificate_path or "", password)
        return self._certificates[app.app_id]

    def _assertion_source_of(self, app: BotApp) -> "_AssertionSource":
        if app.app_id not in self._assertion_sources:
            audience = f"{self._settings.cloud.assertion_audience}/.default"
            self._assertion_sources[app.app_id] = _AssertionSource(self._managed_identity(app), audience)
        return self._assertion_sources[app.app_id]

    def _managed_identity(self, app: BotApp) -> _Credential:
        from azure.identity.aio import ManagedIdentityCredential  # noqa: PLC0415 slow to import

        client_id = app.identity_client_id or self._settings.azure_client_id
        return ManagedIdentityCredential(client_id=client_id, transport=self._transport)


@dataclass(frozen=True, slots=True)
class _AssertionSource:
    """A managed identity whose tokens prove the app, so that no secret exists (workload identity federation).

    All tenants of an app share it, because the identity endpoint limits the rate of requests.
    """

    identity: _Credential
    audience: str
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def get_assertion(self) -> str:
        """Return the identity's token, from azure-identity's cache while valid. Concurrent calls make one request."""
        async with self._lock:
            return (await self.identity.get_token(self.audience)).token


def _secret_value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
