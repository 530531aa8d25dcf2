"""The check who sent a request: Graph, or Call Keeper with this bot's own token or with a signature."""

import asyncio
import base64
import hmac
import logging
import re
import time
from collections.abc import Mapping

import aiohttp
import jwt
from aiohttp import web

GRAPH_CALLING_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # sends Graph's notifications that have an Entra token
LEGACY_ISSUER = "https://api.botframework.com"  # of Graph's notifications until they have moved to Entra
ENTRA_V1_ISSUER = "https://sts.windows.net/{tenantid}/"  # Entra signs v1 and v2 tokens with the same keys
LEEWAY = 300.0  # seconds of clock skew, as in Microsoft's SDK
MIN_KEY_AGE, MAX_KEY_AGE = 30.0, 3600.0  # seconds from one fetch to the next: for an unknown key, and for known ones
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

log = logging.getLogger("bot")


class KeySet:
    """The signing keys behind an OpenID metadata document, fetched when they are first needed."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self._lock = asyncio.Lock()
        self._tried = self._fetched = float("-inf")
        self._keys: dict[str, dict[str, str]] = {}
        self._metadata: dict[str, str] = {}

    async def find(self, key_id: str, tenant: str) -> tuple[jwt.PyJWK, str]:
        """Return a key, and the issuer that it signs for in this tenant. A key may name issuer and cloud itself."""
        async with self._lock:
            await self._refresh(key_id)
        key = self._keys.get(key_id)
        issuer = self._metadata["issuer"].replace("{tenantid}", tenant)
        cloud = self._metadata.get("cloud_instance_name")
        if key is None or key.get("issuer", issuer).replace("{tenantid}", tenant) != issuer:
            raise jwt.InvalidTokenError("the signing key is unknown, or belongs to another issuer")
        if key.get("cloud_instance_name", cloud) != cloud:
            raise jwt.InvalidTokenError("the signing key belongs to another cloud")
        return jwt.PyJWK(key, "RS256"), issuer

    async def _refresh(self, key_id: str) -> None:
        """Fetch the keys if this one is unknown, or if they are old. Strangers invent ids, so not too often."""
        now = time.monotonic()
        is_needed = key_id not in self._keys or now - self._fetched > MAX_KEY_AGE
        if is_needed and (not self._keys or now - self._tried > MIN_KEY_AGE):
            self._tried = now
            try:
                await self._fetch()
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
                if key_id not in self._keys:  # 503: try again. After a 401 the sender would soon give up
                    raise web.HTTPServiceUnavailable from error

    async def _fetch(self) -> None:
        async with self._session.get(self._url, raise_for_status=True) as answer:
            metadata = await answer.json(content_type=None)
        async with self._session.get(metadata["jwks_uri"], raise_for_status=True) as answer:
            keys = (await answer.json(content_type=None))["keys"]
        self._keys = {key["kid"]: key for key in keys if "kid" in key and key.get("use") != "enc"}
        self._metadata, self._fetched = metadata, time.monotonic()


class Senders:
    """The senders that the bot trusts."""

    def __init__(self, app_id: str, legacy: KeySet, entra: KeySet) -> None:
        self._app_id, self._legacy, self._entra = app_id, legacy, entra

    async def tenant_of_notification(self, headers: Mapping[str, str]) -> str:
        """Return the tenant of the call. Graph sent the request itself, or Call Keeper sent it late with our token."""
        return await self._tenant(headers, (GRAPH_CALLING_APP, self._app_id), legacy=True)

    async def check_event(self, headers: Mapping[str, str], body: bytes, secret: str | None) -> None:
        """Raise 401 unless Call Keeper sent this event: with a signature if there is a secret, else with our token."""
        if secret is None:
            await self._tenant(headers, (self._app_id,), legacy=False)
        elif not is_signed(headers, body, secret):
            log.warning("refused: no valid signature")
            raise web.HTTPUnauthorized

    async def _tenant(self, headers: Mapping[str, str], callers: tuple[str, ...], *, legacy: bool) -> str:
        try:
            scheme, token = headers.get("Authorization", "").split()
            unverified = jwt.decode(token, options={"verify_signature": False})
            key_id, tenant = jwt.get_unverified_header(token)["kid"], str(unverified["tid"])
            is_legacy = legacy and unverified["iss"] == LEGACY_ISSUER
            if scheme.lower() != "bearer" or not GUID.fullmatch(tenant) or "cnf" in unverified:
                raise jwt.InvalidTokenError("not a bearer token of a tenant")
            key, issuer = await (self._legacy if is_legacy else self._entra).find(key_id, tenant)
            issuers = [issuer] if is_legacy else [issuer, ENTRA_V1_ISSUER.replace("{tenantid}", tenant)]
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self._app_id,
                issuer=issuers,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "tid"], "verify_iat": False},
            )
            named = [claims[name] for name in ("azp", "appid") if name in claims]
            # Any app of any tenant can get an Entra token for this bot: only the calling app makes it trustworthy.
            if not is_legacy and (not named or any(caller not in callers for caller in named)):
                raise jwt.InvalidTokenError("the calling app is not trusted")
        except (jwt.PyJWTError, KeyError, ValueError) as error:
            log.warning("refused: %s", error)
            raise web.HTTPUnauthorized from error
        return tenant


def is_signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """True if the headers have a Standard Webhooks signature of this body, at most five minutes old."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > LEEWAY:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    wanted = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(wanted, signature) for signature in given)
