"""Entra's codes for a refused credential, with advice for each. Entra's own text is never repeated."""

import re

_CODE = re.compile(r"AADSTS\d{5,7}")
_DEFAULT_ADVICE = "Look up the code at https://login.microsoftonline.com/error."
_CONSENT = "Ask an administrator of the tenant to consent to the app. The consent makes the app known in the tenant."
_FEDERATION = (
    "Add a federated credential to the app registration. Its issuer is that of the identity's tenant, its subject is "
    "the identity's object id, and its audience is that of the cloud."
)

# Microsoft: "Microsoft Entra authentication and authorization error codes" page.
ADVICE = {
    "AADSTS50020": "The account belongs to another tenant. Check the call's tenant.",
    "AADSTS53003": "Conditional Access blocks the app. Exempt the app, or the addresses of its requests.",
    "AADSTS65001": f"Consent is missing. {_CONSENT}",
    "AADSTS70021": f"The app registration does not trust the managed identity. {_FEDERATION}",
    "AADSTS90002": "The tenant does not exist. Correct the call's tenant or GRAPH_CLOUD: tenants belong to one cloud.",
    "AADSTS90033": "Entra failed. Wait: Call Keeper repeats the request.",
    "AADSTS500011": "The tenant does not know Graph by this address. Set GRAPH_CLOUD to the tenant's cloud.",
    "AADSTS700016": f"The tenant does not know the app. Correct the app's id. {_CONSENT}",
    "AADSTS700024": "The assertion has expired, or is not valid yet. Set the clock.",
    "AADSTS700027": "The certificate has expired, or does not belong to the app. Upload its public part to the app.",
    "AADSTS700211": f"The app trusts no identity of this issuer. {_FEDERATION}",
    "AADSTS700212": f"The app trusts the identity, but for another audience. {_FEDERATION}",
    "AADSTS700213": f"The app trusts an identity, but with another subject. {_FEDERATION}",
    "AADSTS900023": "This is not a tenant. Correct the call's tenant.",
    "AADSTS7000112": "The app is disabled in its tenant. Enable it there.",
    "AADSTS7000215": "The secret is wrong. Set its value, not its id, and check that it belongs to this app.",
    "AADSTS7000222": "The secret has expired. Create a new one, or use `federated`, which needs no secret.",
    "AADSTS7000229": f"The app has no service principal in the tenant. {_CONSENT}",
}


def entra_code_of(error: Exception) -> str | None:
    """Return Entra's code in an error of azure-identity, if it has one."""
    found = _CODE.search(str(error))
    return found[0] if found else None


def advice_for(code: str) -> str:
    """Return what the code means and what to do."""
    return ADVICE.get(code, _DEFAULT_ADVICE)
