"""The token for Graph, from Entra or the managed identity, and why there is none."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from doctor.check import check, fine
from doctor.finding import CannotCheck, Fault, Finding
from doctor.patient import NAMED_OTHERWISE, Patient
from doctor.probe import NoWay, look, proxy_hint
from shared.errors import TokenUnavailable

UNREACHABLE = Fault(
    "authority-unreachable",
    "The authority that issues tokens cannot be reached.",
    "Let the app reach it over https, without a proxy; trust a private authority's certificate with SSL_CERT_FILE.",
)
CERTIFICATE = Fault(
    "token-certificate-unreadable",
    "The certificate file that GRAPH_CERTIFICATE_PATH names is not there, or cannot be read.",
    "Put a PEM or PKCS12 file with certificate and key there, and its password into GRAPH_CERTIFICATE_PASSWORD.",
)
CERTIFICATE_UNKNOWN = Fault(
    "token-certificate-unknown",
    "Entra does not know the certificate, or it has expired (AADSTS700027).",
    "Upload the certificate's public part to the bot's app registration.",
)
SECRET_WRONG = Fault(
    "token-secret-wrong",
    "Entra says that the app's secret is wrong (AADSTS7000215).",
    "GRAPH_CLIENT_SECRET must be the secret's value, not its id, and of the app that GRAPH_APP_ID names.",
)
SECRET_EXPIRED = Fault(
    "token-secret-expired",
    "Entra says that the app's secret has expired (AADSTS7000222).",
    "Make a new secret and set GRAPH_CLIENT_SECRET; better, use GRAPH_CREDENTIAL=federated, which has none.",
)
APP_UNKNOWN = Fault(
    "token-app-unknown",
    "Entra does not know the app in this tenant (AADSTS700016, 7000229).",
    "Correct GRAPH_APP_ID, or have the tenant's administrator consent to the app: that is what puts it there.",
)
TENANT_UNKNOWN = Fault(
    "token-tenant-unknown",
    "Entra does not know the tenant (AADSTS90002, 900023).",
    "Correct GRAPH_TENANT_ID (or --tenant), and see that GRAPH_CLOUD is the tenant's cloud.",
)
FEDERATION = Fault(
    "token-federation-missing",
    "The bot's app registration does not trust the managed identity (AADSTS70021, 700211, 700212, 700213).",
    "Add a federated credential to the app registration: issuer of the identity's tenant, subject the identity's "
    "object id, audience api://AzureADTokenExchange (GRAPH_CLOUD usgov-…: api://AzureADTokenExchangeUSGov).",
)
NO_IDENTITY = Fault(
    "token-no-managed-identity",
    "There is no managed identity here to prove the app.",
    "In Azure: assign the identity to the app and set AZURE_CLIENT_ID to its client id. On a laptop: "
    "GRAPH_CREDENTIAL=secret or certificate.",
)
REFUSED = Fault(
    "token-refused",
    "Entra refuses the credential for another reason.",
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
_OF_IDENTITY = {"managedIdentity", "federated"}
_CODE = re.compile(r"AADSTS(\d+)")


@check(
    "token",
    "Does Entra give the app a token?",
    *(UNREACHABLE, CERTIFICATE, SECRET_WRONG, SECRET_EXPIRED, APP_UNKNOWN, TENANT_UNKNOWN, FEDERATION),
    *(CERTIFICATE_UNKNOWN, NO_IDENTITY, REFUSED),
)
async def token(patient: Patient) -> AsyncIterator[Finding]:
    """Asks for one as the app does, and explains a refusal by Entra's code."""
    check_credential_is_here(patient)
    kind = patient.settings.graph_credential
    finding = _certificate(patient) if kind == "certificate" else None
    yield finding or await authority(patient) or await _asked(patient, kind)


def check_credential_is_here(patient: Patient) -> None:
    """Raise `CannotCheck` where the credential is Azure's alone."""
    kind = patient.settings.graph_credential
    if patient.deployment and kind in _OF_IDENTITY:
        raise CannotCheck("the managed identity is the app's alone; its permissions are looked up by az instead")
    if patient.deployment and kind == "certificate":
        raise CannotCheck("the certificate's file is the app's alone")
    if any((value or "").startswith(NAMED_OTHERWISE) for value in map(patient.value, ("GRAPH_CLIENT_SECRET",))):
        raise CannotCheck("the secret is in Key Vault, where the doctor does not look")


async def _asked(patient: Patient, kind: str) -> Finding:
    try:
        await patient.token()
    except TokenUnavailable as error:
        return _explained(kind, error)
    return fine("token", f"there is one, by {kind}")


def _certificate(patient: Patient) -> Finding | None:
    path = Path(patient.settings.graph_certificate_path or "")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return CERTIFICATE.found(f"GRAPH_CERTIFICATE_PATH: {error.strerror or type(error).__name__}")
    return None


async def authority(patient: Patient) -> Finding | None:
    """What is in the way to the authority, if a token is asked of it from here.

    The Functions app reaches it without a proxy.
    """
    if patient.settings.graph_credential == "managedIdentity":
        return None
    try:
        check_credential_is_here(patient)
    except CannotCheck:
        return None
    try:
        await look(patient.client, f"{patient.settings.authority}/common/discovery/instance")
    except NoWay as error:
        return UNREACHABLE.found(f"{patient.settings.authority}: {error}{proxy_hint()}")
    return None


def _explained(kind: str, error: TokenUnavailable) -> Finding:
    if code := _CODE.search(str(error)):
        fault = _BY_CODE.get(code[1], REFUSED)
        return fault.found(f"Entra answers {code[0]}")
    if kind in _OF_IDENTITY:
        return NO_IDENTITY.found(f"the managed identity's endpoint gives no token ({_kind_of(error)})")
    if kind == "certificate":
        return CERTIFICATE.found(f"azure-identity cannot use the certificate ({_kind_of(error)})")
    return REFUSED.found(f"azure-identity gives none ({_kind_of(error)})")


def _kind_of(error: TokenUnavailable) -> str:
    return type(error.__cause__ or error).__name__
