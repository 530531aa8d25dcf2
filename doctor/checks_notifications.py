"""Checks of inbound tokens: the accepted audiences and issuers, and the reachability of the signing keys."""

from collections.abc import AsyncIterator

from doctor.check import check
from doctor.checks_token import unreachable_authority
from doctor.finding import Fault, Finding, Severity
from doctor.probe import ConnectionFailed, fetch
from doctor.target import Target
from shared.auth.signing_keys import jwks_url, usable_keys
from shared.auth.token_kinds import entra_metadata_urls

ISSUER = "https://api.botframework.com"  # Microsoft Learn: authentication of calling bots

AUDIENCE = Fault(
    "audience-wrong",
    "NOTIFICATION_AUDIENCES lacks the bot's app id, the audience of Graph's notifications: all get 401.",
    "Remove NOTIFICATION_AUDIENCES (GRAPH_APP_ID is its default), or add GRAPH_APP_ID to it.",
)
ISSUERS = Fault(
    "issuer-missing",
    "NOTIFICATION_ISSUERS lacks the issuer of Graph's notifications: they get 401.",
    f"Remove NOTIFICATION_ISSUERS, or add {ISSUER} to it.",
)
KEYS = Fault(
    "keys-unreachable",
    "The keys that sign notifications cannot be fetched. Such notifications get 503, and reasons get lost.",
    "Let the app reach the metadata and the address in its jwks_uri. Correct NOTIFICATION_METADATA_URLS, "
    "AZURE_AUTHORITY_HOST or SIGNING_KEY_HOSTS.",
)
NO_AUDIENCE = Fault(
    "management-audience-missing",
    "MANAGEMENT_AUDIENCE is not set in a deployed app, so only the function key, a shared secret, protects calls.",
    "Register an app with the roles Calls.Read, Calls.Manage and Recordings.Read. Set MANAGEMENT_AUDIENCE to it.",
    Severity.WARN,
)
MANAGEMENT_KEYS = Fault(
    "management-keys-unreachable",
    "The keys that sign management tokens cannot be fetched: bots and operators get 503.",
    "Correct MANAGEMENT_TENANT_ID or MANAGEMENT_METADATA_URL and let the app reach that address.",
)


@check("notifications", "Are Graph's notifications accepted?", AUDIENCE, ISSUERS, KEYS)
async def notifications(target: Target) -> AsyncIterator[Finding]:
    """Compare audiences and issuers, and fetch the keys of both kinds of tokens as the webhook does."""
    settings = target.settings
    if settings.graph_app_id not in {audience.lower() for audience in settings.notification_audiences}:
        yield AUDIENCE.found("NOTIFICATION_AUDIENCES does not contain GRAPH_APP_ID")
    if ISSUER not in {issuer.lower().rstrip("/") for issuer in settings.notification_issuers}:
        yield ISSUERS.found(f"NOTIFICATION_ISSUERS does not contain {ISSUER}")
    urls = list(settings.notification_metadata_urls)
    if not await unreachable_authority(target):  # if the authority cannot be reached, the check `token` reports it
        urls += entra_metadata_urls(settings)
    for url in urls:
        if problem := await _keys_problem(target, url):
            yield KEYS.found(f"{url}: {problem}")


@check("management", "Are the management routes protected by tokens?", NO_AUDIENCE, MANAGEMENT_KEYS)
async def management(target: Target) -> AsyncIterator[Finding]:
    """Check that tokens are required. On a laptop the function key is enough."""
    settings = target.settings
    if not settings.management_audience:
        if target.deployment:
            yield NO_AUDIENCE.found("MANAGEMENT_AUDIENCE is not set")
        return
    url = settings.management_metadata_url or ""
    if problem := await _keys_problem(target, url):
        yield MANAGEMENT_KEYS.found(f"{url}: {problem}")


async def _keys_problem(target: Target, metadata_url: str) -> str | None:
    """Return why the keys cannot be fetched by their metadata; None if they can."""
    try:
        document = await _document(target, metadata_url)
        found = jwks_url(document, metadata_url, target.settings.signing_key_hosts)
        usable_keys(await _document(target, found), document)
    except (ConnectionFailed, ValueError) as error:
        return str(error)
    return None


async def _document(target: Target, url: str) -> dict[str, object]:
    response = await fetch(target.client, url)
    document = response.json()
    if not response.succeeded or not isinstance(document, dict):
        raise ValueError(f"a response {response.status} without a JSON object")
    return document
