"""Checks of the relay: each target can be reached, asks for a token, and gets one of ours."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from doctor.check import check, note
from doctor.checks_token import check_credential_is_here
from doctor.finding import CannotCheck, Fault, Finding, Severity
from doctor.probe import ConnectionFailed, FailureKind, certificate_expiry, fetch, resolve
from doctor.target import Target, now
from shared.addresses import Address, Reach, is_allowed, reach_of
from shared.clock import SystemClock
from shared.config.apps import BotApp
from shared.config.relay_targets import RelayTarget
from shared.errors import TokenUnavailable
from shared.graph.token_cache import GraphTokens
from shared.http_client import Response
from shared.urls import LOOPBACK

MIN_CERTIFICATE_LIFE = timedelta(days=14)  # most authorities let a certificate be renewed a month before its end
EMPTY_NOTIFICATIONS = b'{"@odata.type":"#microsoft.graph.commsNotifications","value":[]}'
EMPTY_EVENT = b"{}"

REFUSED_ADDRESS = Fault(
    "relay-address-refused",
    "The name of a target leads to an address that the relay refuses, because it is not public (addressRefused).",
    "Give the bot a public address. If it is meant to be private, set RELAY_ALLOW_PRIVATE_ADDRESSES=true; link-local "
    "addresses are refused all the same.",
)
UNREACHABLE = Fault(
    "relay-unreachable",
    "A target of the relay cannot be reached from this machine.",
    "Start the bot, correct the url in RELAY_TARGETS, or open the network of the bot to Call Keeper.",
)
TLS = Fault(
    "relay-tls",
    "The certificate of a target is not trusted, or has expired.",
    "Serve a certificate of a public authority with all intermediate certificates, or set SSL_CERT_FILE.",
)
EXPIRES = Fault(
    "relay-certificate-expires",
    "The certificate of a target expires within 14 days. From then on nothing is delivered.",
    "Renew it.",
    Severity.WARN,
)
OPEN = Fault(
    "relay-open",
    "A target accepts a request without a token: everybody who knows its address can send it notifications.",
    "Let the bot verify the bearer token (or the signature, with secretSetting), and answer 401 without one.",
)
NOT_A_BOT = Fault(
    "relay-answer",
    "A target answers a request without a token neither with 401 nor with 403, so it may not be the bot.",
    "Correct the url in RELAY_TARGETS: redirects are not followed, and 410 switches the target off.",
    Severity.WARN,
)
NO_TOKEN = Fault(
    "relay-token-missing",
    "No token for the audience of a target can be obtained. Late deliveries and events wait (noToken).",
    "Follow the advice in the message. A managed identity without an app registration has no such token: set "
    "secretSetting in its place.",
)


@check("relay", "Can each target of the relay be reached?", REFUSED_ADDRESS, UNREACHABLE, TLS, EXPIRES, OPEN, NOT_A_BOT)
async def relay(target: Target) -> AsyncIterator[Finding]:
    """Send each target an empty body without a token. The healthy response is 401 or 403."""
    for findings in await asyncio.gather(*(_reached(target, each) for each in _targets(target))):
        for finding in findings:
            yield finding


@check("relay tokens", "Does Entra issue a token for each target of the relay?", NO_TOKEN)
async def relay_tokens(target: Target) -> AsyncIterator[Finding]:
    """Request the token of each target as the app does for a late delivery."""
    wanted = [each for each in _targets(target) if each.audience]
    tokens = GraphTokens(target.settings, SystemClock())
    try:
        for each in wanted:
            yield await _token_for(target, tokens, each)
    finally:
        await tokens.close()


def _targets(target: Target) -> tuple[RelayTarget, ...]:
    if target.settings.relay_fault:
        raise CannotCheck("settings of the relay are wrong, so it is off (see setting-wrong)")
    return target.settings.relay_targets


async def _reached(target: Target, bot: RelayTarget) -> list[Finding]:
    """Return the findings about one target. Each line begins with its name."""
    url = bot.url_for(target.options.to or "doctor") if bot.wants_to else bot.url
    parts = urlsplit(url)
    try:
        if (finding := await _address(target, bot, parts)) is not None:
            return [finding]
        expiry = await _expiry(bot, parts)
        if bot.wants_to and not target.options.to:
            unknown = f"{bot.name}: give one of its instances, to see its answer: --to ID"
            return [*expiry, Finding(Severity.SKIP, "relay", unknown)]
        body = EMPTY_NOTIFICATIONS if bot.format == "graph" else EMPTY_EVENT
        response = await fetch(target.client, url, method="POST", body=body)
    except ConnectionFailed as error:
        return [(TLS if error.kind is FailureKind.TLS else UNREACHABLE).found(f"{bot.name}: {error}")]
    answer = _answer(bot, response)
    return [*expiry, answer or note("relay", f"{bot.name} answers {response.status} to a request without a token")]


async def _address(target: Target, bot: RelayTarget, parts: SplitResult) -> Finding | None:
    """Return the finding, or the reason for none, if no request can be sent to the addresses of the host."""
    host = parts.hostname or ""
    if host in LOOPBACK:
        return None
    addresses = await resolve(host)
    allow_private = target.settings.relay_allow_private_addresses
    refused = [address for address in addresses if not is_allowed(address, allow_private=allow_private)]
    if refused:
        return REFUSED_ADDRESS.found(f"{bot.name}: its name leads to {_described(refused[0])}")
    if target.deployment and any(reach_of(address) is not Reach.PUBLIC for address in addresses):
        return Finding(Severity.SKIP, "relay", f"{bot.name}: only the app's network leads to its private address")
    return None


def _described(address: Address) -> str:
    kind = "a private address" if reach_of(address) is Reach.PRIVATE else "a link-local address or Azure's platform"
    return f"{address}, {kind}"


async def _expiry(bot: RelayTarget, parts: SplitResult) -> list[Finding]:
    if parts.scheme != "https":
        return []
    expires_at = await certificate_expiry(parts.hostname or "", parts.port or 443)
    remaining = expires_at - now()
    if remaining < MIN_CERTIFICATE_LIFE:
        return [EXPIRES.found(f"{bot.name}: its certificate expires on {_day(expires_at)}")]
    return [note("relay", f"{bot.name}: its certificate is valid until {_day(expires_at)}")]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _answer(bot: RelayTarget, response: Response) -> Finding | None:
    """Return the finding about the answer to a request without a token; None for a healthy one.

    A receiver of events may look at the body first, so 400 is healthy there.
    """
    healthy = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    healthy |= {HTTPStatus.BAD_REQUEST} if bot.format == "events" else set()
    if response.status in healthy:
        return None
    if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
        return OPEN.found(f"{bot.name} answers {response.status} to a request without a token")
    return NOT_A_BOT.found(f"{bot.name} answers {response.status}")


async def _token_for(target: Target, tokens: GraphTokens, bot: RelayTarget) -> Finding:
    app = target.settings.apps.get(bot.app_id) or target.settings.apps.default
    try:
        check_credential_is_here(target, app)
        await tokens.get(_tenant(target, app), app.app_id, audience=bot.audience)
    except CannotCheck as reason:
        return Finding(Severity.SKIP, "relay tokens", f"{bot.name}: {reason}")
    except TokenUnavailable as error:
        if bot.secret:
            return note("relay tokens", f"{bot.name}: late deliveries are only signed. {error}")
        return NO_TOKEN.found(f"{bot.name}: {error}")
    return note("relay tokens", f"{bot.name}: a token for {bot.audience} was issued")


def _tenant(target: Target, app: BotApp) -> str:
    """Return the tenant of the token: in the app, it is that of the call."""
    found = target.options.tenant or app.tenant_id
    if app.credential == "managedIdentity":
        return found or app.app_id  # a managed identity gets tokens of its own tenant only
    if not found:
        raise CannotCheck("no tenant to request a token for: set its tenantId, or give --tenant ID")
    return found
