"""Entra's codes for a refused credential, and what to do about each, in words that hold nothing of its own text."""

import re

_CODE = re.compile(r"AADSTS\d{5,7}")
_DEFAULT_ADVICE = "Look the code up at https://login.microsoftonline.com/error."
_CONSENT = "Have an administrator of the tenant consent to the app; that is what makes it known there."
_FEDERATION = (
    "Add a federated credential to the app registration: the issuer of the identity's tenant, as subject the "
    "identity's object id, the audience of the cloud."
)

# Microsoft: "Microsoft Entra authentication and authorization error codes" page.
ADVICE = {
    "AADSTS50020": "The account is of another tenant. See that the call's tenant is right.",
    "AADSTS53003": "Conditional Access blocks the app. Exempt the app, or the addresses that it comes from.",
    "AADSTS65001": f"Consent is missing. {_CONSENT}",
    "AADSTS70021": f"The app registration does not trust the managed identity. {_FEDERATION}",
    "AADSTS90002": "There is no such tenant. Correct the call's tenant, or GRAPH_CLOUD: each cloud has its own.",
    "AADSTS90033": "Entra has trouble of its own. It is asked again; wait.",
    "AADSTS500011": "The tenant does not know Graph by that address. See that GRAPH_CLOUD is the tenant's cloud.",
    "AADSTS700016": f"The tenant does not know the app. Correct the app's id. {_CONSENT}",
    "AADSTS700024": "The assertion's time is over or not yet come. Set the clock.",
    "AADSTS700027": "The certificate is not one of the app's, or has expired. Upload its public part to the app.",
    "AADSTS700211": f"The app trusts no identity of that issuer. {_FEDERATION}",
    "AADSTS700212": f"The app trusts the identity for another audience. {_FEDERATION}",
    "AADSTS700213": f"The app trusts an identity with another subject. {_FEDERATION}",
    "AADSTS900023": "That is no tenant. Correct the call's tenant.",
    "AADSTS7000112": "The app is disabled in its tenant. Enable it there.",
    "AADSTS7000215": "The secret is wrong. Set its value, not its id, and see that it is this app's.",
    "AADSTS7000222": "The secret has expired. Make a new one; better, use `federated`, which has none.",
    "AADSTS7000229": f"The app has no service principal in the tenant. {_CONSENT}",
}


def entra_code_of(error: Exception) -> str | None:
    """Entra's code in what azure-identity raised, if it has one."""
    found = _CODE.search(str(error))
    return found[0] if found else None


def advice_for(code: str) -> str:
    """What to do about it."""
    return ADVICE.get(code, _DEFAULT_ADVICE)
