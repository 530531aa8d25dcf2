"""What inbound tokens are verified with: audiences, issuers, and the keys that must be within reach."""

from collections.abc import AsyncIterator

from doctor.check import check
from doctor.checks_token import authority
from doctor.finding import Fault, Finding, Mark
from doctor.patient import Patient
from doctor.probe import NoWay, look
from shared.auth.signing_keys import jwks_url, usable_keys
from shared.auth.token_kinds import entra_metadata_urls

ISSUER = "https://api.botframework.com"  # MicrosoftDocs: calling bots' authentication

AUDIENCE = Fault(
    "audience-wrong",
    "NOTIFICATION_AUDIENCES lacks the bot's app id, which Graph's notifications are for: all are answered 401.",
    "Remove NOTIFICATION_AUDIENCES (GRAPH_APP_ID is its default), or add GRAPH_APP_ID to it.",
)
ISSUERS = Fault(
    "issuer-missing",
    "NOTIFICATION_ISSUERS lacks the issuer that Graph's notifications come with: they are answered 401.",
    f"Remove NOTIFICATION_ISSUERS, or add {ISSUER} to it.",
)
KEYS = Fault(
    "keys-unreachable",
    "Keys that notifications are signed with cannot be fetched: such notifications get 503, and reasons get lost.",
    "Let the app reach the metadata and the address of its jwks_uri; correct NOTIFICATION_METADATA_URLS, "
    "AZURE_AUTHORITY_HOST or SIGNING_KEY_HOSTS.",
)
OPEN = Fault(
    "management-audience-missing",
    "MANAGEMENT_AUDIENCE is not set in a deployed app: the function key, a shared secret, is all that guards calls.",
    "Register an app with the roles Calls.Read, Calls.Manage and Recordings.Read; set MANAGEMENT_AUDIENCE to it.",
    Mark.WARN,
)
MANAGEMENT_KEYS = Fault(
    "management-keys-unreachable",
    "The keys of management tokens cannot be fetched: bots and operators are answered 503.",
    "Correct MANAGEMENT_TENANT_ID or MANAGEMENT_METADATA_URL, and let the app reach that address.",
)


@check("notifications", "Will Graph's notifications be believed?", AUDIENCE, ISSUERS, KEYS)
async def notifications(patient: Patient) -> AsyncIterator[Finding]:
    """Compares the audiences, and fetches the keys of both kinds of tokens as the webhook does."""
    settings = patient.settings
    if settings.graph_app_id not in {audience.lower() for audience in settings.notification_audiences}:
        yield AUDIENCE.found("NOTIFICATION_AUDIENCES does not have GRAPH_APP_ID")
    if ISSUER not in {issuer.lower().rstrip("/") for issuer in settings.notification_issuers}:
        yield ISSUERS.found(f"NOTIFICATION_ISSUERS does not have {ISSUER}")
    urls = list(settings.notification_metadata_urls)
    if not await authority(patient):  # else the check `token` names the cause
        urls += entra_metadata_urls(settings)
    for url in urls:
        if trouble := await _keys_trouble(patient, url):
            yield KEYS.found(f"{url}: {trouble}")


@check("management", "Are management routes guarded by tokens?", OPEN, MANAGEMENT_KEYS)
async def management(patient: Patient) -> AsyncIterator[Finding]:
    """A laptop may do without."""
    settings = patient.settings
    if not settings.management_audience:
        if patient.deployment:
            yield OPEN.found("MANAGEMENT_AUDIENCE is not set")
        return
    url = settings.management_metadata_url or ""
    if trouble := await _keys_trouble(patient, url):
        yield MANAGEMENT_KEYS.found(f"{url}: {trouble}")


async def _keys_trouble(patient: Patient, metadata_url: str) -> str | None:
    """What is wrong on the way from the metadata to the keys."""
    try:
        document = await _document(patient, metadata_url)
        found = jwks_url(document, metadata_url, patient.settings.signing_key_hosts)
        usable_keys(await _document(patient, found), document)
    except NoWay as error:
        return str(error)
    except ValueError as error:
        return str(error)
    return None


async def _document(patient: Patient, url: str) -> dict[str, object]:
    answer = await look(patient.client, url)
    document = answer.json()
    if not answer.succeeded or not isinstance(document, dict):
        raise ValueError(f"an answer {answer.status} without a JSON object")
    return document
