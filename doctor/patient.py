"""The app that is examined: its settings, its folder, where it is deployed, and what was learnt of it so far."""

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
from shared.config.settings import Settings, load_settings
from shared.errors import SettingsInvalid, TokenUnavailable
from shared.graph.token_cache import GraphTokens

NAMED_OTHERWISE = "@Microsoft.KeyVault("  # a value that only the platform can read


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line, beside where the settings come from."""

    root: Path
    tenant: str | None = None
    webhook: str | None = None
    url: str | None = None


@dataclass
class Patient:
    """The app. `raw` are its settings as text, whether they come from the environment, a file or Azure."""

    options: Options
    raw: Mapping[str, str]
    client: httpx.AsyncClient
    deployment: Deployment | None = None
    _token: asyncio.Lock = field(default_factory=asyncio.Lock)
    _known_token: str | None = None
    _no_token: TokenUnavailable | None = None

    def value(self, name: str) -> str | None:
        """The text of a setting, whatever the case of its name: the Functions host does not mind it."""
        found = (value for key, value in self.raw.items() if key.lower() == name.lower())
        return next(found, None) or None

    @cached_property
    def settings(self) -> Settings:
        """The settings, if they are good."""
        try:
            return load_settings(self.raw)
        except SettingsInvalid:
            raise CannotCheck("settings are missing or wrong (see setting-…)") from None

    @property
    def in_real_cloud(self) -> bool:
        """Whether it speaks with Graph itself, not with a simulator."""
        return self.settings.graph_root in {cloud.graph_root for cloud in CLOUDS.values()}

    @property
    def webhook(self) -> str:
        """The public address that Graph posts to."""
        if self.options.webhook:
            return self.options.webhook
        if self.deployment:
            return f"https://{self.deployment.host_name}/api/notifications"
        raise CannotCheck("give its public address: --webhook https://…/api/notifications")

    @property
    def url(self) -> str:
        """Where the host runs."""
        if self.options.url:
            return self.options.url.rstrip("/")
        if self.deployment:
            return f"https://{self.deployment.host_name}"
        raise CannotCheck("give the address of a running host: --url http://127.0.0.1:7071")

    @property
    def tenant(self) -> str:
        """The tenant that a token is asked for."""
        found = self.options.tenant or self.settings.graph_tenant_id
        if self.settings.graph_credential == "managedIdentity":
            return found or self.settings.graph_app_id  # its tokens are always its own tenant's
        if not found:
            raise CannotCheck("no tenant to ask a token for: set GRAPH_TENANT_ID, or give --tenant ID")
        return found

    async def token(self) -> str:
        """A token for Graph, asked for once.

        Raises
        ------
        TokenUnavailable
            None could be had; its cause is azure-identity's error.
        """
        async with self._token:
            if self._no_token is not None:
                raise self._no_token
            if self._known_token is None:
                self._known_token = await self._ask_for_token()
            return self._known_token

    async def _ask_for_token(self) -> str:
        tokens = GraphTokens(self.settings, SystemClock())
        try:
            return await tokens.get(self.tenant)
        except TokenUnavailable as error:
            self._no_token = error
            raise
        finally:
            await tokens.close()


def now() -> datetime:
    """The local clock."""
    return datetime.now(UTC)
