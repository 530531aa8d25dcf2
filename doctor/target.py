"""The app that the doctor checks: its settings, folder and deployment, and the token that the checks share."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import httpx

from doctor.deployment import Deployment
from doctor.finding import CannotCheck
from shared.clock import SystemClock
from shared.config.clouds import CLOUDS
from shared.config.settings import Settings, load_settings, setting_name
from shared.errors import SettingsInvalid, TokenUnavailable
from shared.graph.token_cache import GraphTokens

KEY_VAULT_REFERENCE = "@Microsoft.KeyVault("  # the beginning of a value that only the platform can read
# In place of a secret that only the platform can read. Settings check the form of a relay target's secret.
_UNREADABLE_SECRET = f"whsec_{'A' * 32}"  # 32 characters of base64 are 24 bytes
_NAMES = {setting_name(field).lower() for field in Settings.model_fields}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line that say what to check."""

    root: Path
    tenant: str | None = None
    webhook: str | None = None
    url: str | None = None
    to: str | None = None


@dataclass
class Target:
    """The app that is checked.

    Not frozen: it keeps the first token, or the first failure to get one, for all checks.

    Attributes
    ----------
    options
        The options of the command line.
    raw
        All settings as text, from the environment, a file or Azure.
    client
        The HTTP client of the checks.
    deployment
        The app in Azure; None on a laptop.
    """

    options: Options
    raw: Mapping[str, str]
    client: httpx.AsyncClient
    deployment: Deployment | None = None
    _token_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known_token: str | None = None
    _token_error: TokenUnavailable | None = None

    def value(self, name: str) -> str | None:
        """Return the text of a setting; None if it is missing or empty.

        The case of the name is ignored, as in the Functions host.
        """
        found = (value for key, value in self.raw.items() if key.lower() == name.lower())
        return next(found, None) or None

    @property
    def readable(self) -> Mapping[str, str]:
        """All settings, with a stand-in for each secret in Key Vault that GRAPH_APPS or RELAY_TARGETS names."""
        unreadable = {name for name, value in self.raw.items() if value.startswith(KEY_VAULT_REFERENCE)}
        named = {name for name in unreadable if name.lower() not in _NAMES}
        return {**self.raw, **dict.fromkeys(named, _UNREADABLE_SECRET)}

    @cached_property
    def settings(self) -> Settings:
        """The validated settings. Raises `CannotCheck` if they are invalid."""
        try:
            return load_settings(self.readable)
        except SettingsInvalid:
            raise CannotCheck("settings are missing or wrong (see setting-…)") from None

    @property
    def in_real_cloud(self) -> bool:
        """True if the app uses Graph itself, not a simulator."""
        return self.settings.graph_root in {cloud.graph_root for cloud in CLOUDS.values()}

    @property
    def webhook(self) -> str:
        """The public address that Graph sends notifications to."""
        if self.options.webhook:
            return self.options.webhook
        if self.deployment:
            return f"https://{self.deployment.host_name}/api/notifications"
        raise CannotCheck("give its public address: --webhook https://…/api/notifications")

    @property
    def url(self) -> str:
        """The address of the running host."""
        if self.options.url:
            return self.options.url.rstrip("/")
        if self.deployment:
            return f"https://{self.deployment.host_name}"
        raise CannotCheck("give the address of a running host: --url http://127.0.0.1:7071")

    @property
    def tenant(self) -> str:
        """The tenant of the token."""
        found = self.options.tenant or self.settings.graph_tenant_id
        if self.settings.graph_credential == "managedIdentity":
            return found or self.settings.graph_app_id  # a managed identity gets tokens of its own tenant only
        if not found:
            raise CannotCheck("no tenant to request a token for: set GRAPH_TENANT_ID, or give --tenant ID")
        return found

    async def token(self) -> str:
        """Return a token for Graph. It is requested once.

        Raises
        ------
        TokenUnavailable
            No token was issued; its cause is azure-identity's error.
        """
        async with self._token_lock:
            if self._token_error is not None:
                raise self._token_error
            if self._known_token is None:
                self._known_token = await self._request_token()
            return self._known_token

    async def _request_token(self) -> str:
        tokens = GraphTokens(self.settings, SystemClock())
        try:
            return await tokens.get(self.tenant)
        except TokenUnavailable as error:
            self._token_error = error
            raise
        finally:
            await tokens.close()


def now() -> datetime:
    """Return the time of the local clock, in UTC."""
    return datetime.now(UTC)
