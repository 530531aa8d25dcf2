"""The check of the token for Graph, from Entra or the managed identity, and the causes of a refusal."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from doctor.check import check, note
from doctor.finding import CannotCheck, Fault, Finding
from doctor.probe import ConnectionFailed, fetch, proxy_hint
from doctor.target import KEY_VAULT_REFERENCE, Target
from shared.config.apps import BotApp
from shared.errors import TokenUnavailable

UNREACHABLE = Fault(
    "authority-unreachable",
    "The authority that issues tokens cannot be reached.",
    "Let the app reach it over https, without a proxy. If its certificate is private, set SSL_CERT_FILE.",
)
CERTIFICATE = Fault(
    "token-certificate-unreadable",
    "The file of GRAPH_CERTIFICATE_PATH is missing or cannot be read.",
    "Put a PEM or PKCS12 file with certificate and key there. Set GRAPH_CERTIFICATE_PASSWORD to its password.",
)
CERTIFICATE_UNKNOWN = Fault(
    "token-certificate-unknown",
    "Entra does not know the certificate, or it has expired (AADSTS700027).",
    "Upload the certificate's public part to the bot's app registration.",
)
SECRET_WRONG = Fault(
    "token-secret-wrong",
    "Entra answers that the app's secret is wrong (AADSTS7000215).",
    "Set GRAPH_CLIENT_SECRET to the secret's value, not its id. It must belong to the app of GRAPH_APP_ID.",
)
SECRET_EXPIRED = Fault(
    "token-secret-expired",
    "Entra answers that the app's secret has expired (AADSTS7000222).",
    "Create a secret and set GRAPH_CLIENT_SECRET or, better, use GRAPH_CREDENTIAL=federated, which needs no secret.",
)
APP_UNKNOWN = Fault(
    "token-app-unknown",
    "Entra does not know the app in this tenant (AADSTS700016, 7000229).",
    "Correct GRAPH_APP_ID, or let the tenant's administrator consent to the app, which adds it to the tenant.",
)
TENANT_UNKNOWN = Fault(
    "token-tenant-unknown",
    "Entra does not know the tenant (AADSTS90002, 900023).",
    "Correct GRAPH_TENANT_ID (or --tenant), and check that GRAPH_CLOUD is the tenant's cloud.",
)
FEDERATION = Fault(
    "token-federation-missing",
    "The bot's app registration does not trust the managed identity (AADSTS70021, 700211, 700212, 700213).",
    "Add a federated credential to the app registration: the issuer of the identity's tenant, the identity's object id "
    "as subject, the audience api://AzureADTokenExchange (GRAPH_CLOUD usgov-…: api://AzureADTokenExchangeUSGov).",
)
NO_IDENTITY = Fault(
    "token-no-managed-identity",
    "The app uses a managed identity for its token, but this machine has none.",
    "In Azure, assign the identity to the app and set AZURE_CLIENT_ID to its client id. On a laptop, use "
    "GRAPH_CREDENTIAL=secret or certificate.",
)
REFUSED = Fault(
    "token-refused",
    "Entra rejects the credential for another reason.",
    "Look up the AADSTS code at https://login.microsoftonline.com/error.",
)

_BY_CODE = {
    "7000215": SECRET_WRONG,
    "7000222": SECRET_EXPIRED,
    "700016": APP_UNKNOWN,
    "7000229": APP_UNKNOWN,
    "90002": TENANT_UNKNOWN,
    "900023": TENANT_UNKNOWN,
    "70021": FEDERATION,
    "700211": FEDERATION,
    "700212": FEDERATION,
    "700213": FEDERATION,
    "700027": CERTIFICATE_UNKNOWN,
}
_IDENTITY_CREDENTIALS = {"managedIdentity", "federated"}
_ENTRA_CODE = re.compile(r"AADSTS(\d+)")


@check(
    "token",
    "Does Entra issue a token for the app?",
    *(UNREACHABLE, CERTIFICATE, SECRET_WRONG, SECRET_EXPIRED, APP_UNKNOWN, TENANT_UNKNOWN, FEDERATION),
    *(CERTIFICATE_UNKNOWN, NO_IDENTITY, REFUSED),
)
async def token(target: Target) -> AsyncIterator[Finding]:
    """Request a token as the app does. Entra's error code names the cause of a refusal."""
    check_credential_is_here(target)
    kind = target.settings.graph_credential
    finding = _certificate(target) if kind == "certificate" else None
    yield finding or await unreachable_authority(target) or await _request_token(target, kind)


def check_credential_is_here(target: Target, app: BotApp | None = None) -> None:
    """Raise `CannotCheck` if the doctor cannot use a bot's credential, because it exists in Azure only.

    The bot is that of GRAPH_APP_ID if `app` is None.
    """
    bot = app or target.settings.apps.default
    kind = bot.credential
    if target.deployment and kind in _IDENTITY_CREDENTIALS:
        raise CannotCheck("only the app can use its managed identity; az reads its permissions instead")
    if target.deployment and kind == "certificate":
        raise CannotCheck("only the app has the certificate's file")
    if (target.value(bot.client_secret_setting or "GRAPH_CLIENT_SECRET") or "").startswith(KEY_VAULT_REFERENCE):
        raise CannotCheck("the secret is in Key Vault, which the doctor does not read")


async def _request_token(target: Target, kind: str) -> Finding:
    try:
        await target.token()
    except TokenUnavailable as error:
        return _explain(kind, error)
    return note("token", f"a token was issued for the credential {kind}")


def _certificate(target: Target) -> Finding | None:
    path = Path(target.settings.graph_certificate_path or "")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return CERTIFICATE.found(f"GRAPH_CERTIFICATE_PATH: {error.strerror or type(error).__name__}")
    return None


async def unreachable_authority(target: Target) -> Finding | None:
    """Return the finding if the authority cannot be reached from this machine; None if the doctor does not use it.

    Like the app, the doctor uses no proxy.
    """
    if target.settings.graph_credential == "managedIdentity":
        return None
    try:
        check_credential_is_here(target)
    except CannotCheck:
        return None
    try:
        await fetch(target.client, f"{target.settings.authority}/common/discovery/instance")
    except ConnectionFailed as error:
        return UNREACHABLE.found(f"{target.settings.authority}: {error}{proxy_hint()}")
    return None


def _explain(kind: str, error: TokenUnavailable) -> Finding:
    if code := _ENTRA_CODE.search(str(error)):
        fault = _BY_CODE.get(code[1], REFUSED)
        return fault.found(f"Entra answers {code[0]}")
    if kind in _IDENTITY_CREDENTIALS:
        return NO_IDENTITY.found(f"the managed identity's endpoint gives no token ({_cause_name(error)})")
    if kind == "certificate":
        return CERTIFICATE.found(f"azure-identity cannot use the certificate ({_cause_name(error)})")
    return REFUSED.found(f"azure-identity gives no token ({_cause_name(error)})")


def _cause_name(error: TokenUnavailable) -> str:
    return type(error.__cause__ or error).__name__
