"""Requests to Microsoft Graph's calls API, as the bot."""

import logging
import time
from collections.abc import Mapping

import aiohttp

log = logging.getLogger("bot")


class Graph:
    """Sends a bot's requests, with a token for the tenant of the call."""

    def __init__(self, session: aiohttp.ClientSession, url: str, login: str, app_id: str, secret: str) -> None:
        self._session, self._url, self._login = session, url, login
        self._app_id, self._secret = app_id, secret
        self._tokens: dict[str, tuple[str, float]] = {}  # by tenant, with the time after which it is renewed

    async def send(self, tenant: str, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Send one request about a call. Return True if Graph accepted it."""
        headers = {"Authorization": f"Bearer {await self._token(tenant)}"}
        url = f"{self._url}/communications/calls/{path}"
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            log.info("%s %s: %s", method, path, answer.status)
            return answer.ok

    async def _token(self, tenant: str) -> str:
        token, renew_at = self._tokens.get(tenant, ("", 0.0))
        if time.time() >= renew_at:
            form = {"grant_type": "client_credentials", "scope": "https://graph.microsoft.com/.default"}
            form |= {"client_id": self._app_id, "client_secret": self._secret}
            url = f"{self._login}/{tenant}/oauth2/v2.0/token"
            async with self._session.post(url, data=form, raise_for_status=True) as answer:
                issued = await answer.json()
            token, renew_at = issued["access_token"], time.time() + issued["expires_in"] - 300
            self._tokens[tenant] = token, renew_at
        return token
