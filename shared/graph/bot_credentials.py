"""Asks Entra for Graph tokens of bots by azure-identity, over one transport for all bots and tenants."""

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from shared.config.apps import BotApp
from shared.config.settings import Settings
from shared.graph.certificates import BotCertificate

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import AioHttpTransport

# Connections left for tokens of hang-ups and the like while all requests of a sweep ask for theirs.
TOKEN_CONNECTIONS_BESIDE_SWEEPS = 8
_MAX_RETRIES = 2  # azure-identity's own, for each token


class _Credential(Protocol):
    async def get_token(self, scope: str, /) -> "AccessToken": ...


class BotCredentials:
    """Gets a new token for a bot in a tenant. It opens nothing before the first request, in that one's loop.

    Each request has a credential of its own, which is dropped with the answer. One that is kept has a token
    cache that grows with its tenants, gives again what Graph has refused, and puts off the renewal of one tenant's
    token because of another's (docs/decisions/0033). `GraphTokens` is the only cache.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._certificates: dict[str, BotCertificate] = {}  # by app id: no more than there are bots
        self._assertion_sources: dict[str, _AssertionSource] = {}  # as above

    async def request_token(self, app: BotApp, tenant_id: str) -> "AccessToken":
        """Ask Entra, or the identity endpoint, for a token of the app for Graph in this tenant.

        Raises
        ------
        Exception
            Whatever azure-identity raises: not only its own errors, but KeyError and the like too.
        """
        credential = await self._credential(app, tenant_id)  # never closed: it has only the transport, which others use
        return await credential.get_token(self._settings.graph_scope)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        self._assertion_sources = {}
        transport = self.__dict__.pop("_transport", None)
        if transport:
            await transport.session.close()

    @cached_property
    def _transport(self) -> "AioHttpTransport":
        """The one transport. It does not own its session, so that closing a credential leaves the connections open."""
        import aiohttp  # noqa: PLC0415 slow to import
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415 slow to import

        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._settings.keep_alive_concurrency + TOKEN_CONNECTIONS_BESIDE_SWEEPS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # one tenant's answers must not mark another's requests
            auto_decompress=False,  # azure-core does it
            trust_env=True,  # proxies, as in a session of azure-core's own
        )
        return AioHttpTransport(session=session, session_owner=False)

    async def _credential(self, app: BotApp, tenant_id: str) -> _Credential:
        """The app's credential, for one tenant. A managed identity's token is always of its own tenant."""
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
        """What stands for a secret: what the certificate has signed, or the managed identity's own token."""
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


class _AssertionSource:
    """A managed identity, whose tokens vouch for the app: no secret anywhere (workload identity federation).

    One for all tenants of an app: the identity endpoint limits how often it may be asked.
    """

    def __init__(self, identity: _Credential, audience: str) -> None:
        self._identity = identity
        self._audience = audience
        self._lock = asyncio.Lock()

    async def get_assertion(self) -> str:
        """The identity's token, from azure-identity's cache while it is good. Many who ask at once ask once."""
        async with self._lock:
            return (await self._identity.get_token(self._audience)).token


def _secret_value(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
