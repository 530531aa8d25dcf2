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

NO_APP_REGISTRATION = (
    "If the bot is a managed identity without an app registration, it is no audience: "
    "set `secretSetting` of the relay target instead."
)
_ASSIGNMENT = (
    "The audience requires assignment, and the bot is not assigned. In the audience's enterprise application set "
    "`Assignment required?` to No, or grant the bot one of its app roles."
)
_AUDIENCE_UNKNOWN = (
    "The tenant does not know the audience. Correct `audience` of the relay target, or let an administrator of the "
    f"tenant consent to the app that it names. {NO_APP_REGISTRATION}"
)
_SCOPE_INVALID = (
    "The audience has a wrong form. Set `audience` of the relay target to an application id or an App ID URI."
)

# The advice if the token is for another audience than Graph. A code that is not here has the same advice as for Graph.
# Microsoft: the page above; for AADSTS501051 the page "Protected web API: App registration".
ADVICE_FOR_AUDIENCE = {
    "AADSTS50001": _AUDIENCE_UNKNOWN,
    "AADSTS50105": _ASSIGNMENT,
    "AADSTS65001": (
        "The tenant has not consented to the bot's use of the audience. Ask an administrator of the tenant to consent."
    ),
    "AADSTS70011": _SCOPE_INVALID,
    "AADSTS90009": (
        "The bot requests a token for itself by its App ID URI. Set `audience` of the relay target to the bot's app id."
    ),
    "AADSTS500011": _AUDIENCE_UNKNOWN,
    "AADSTS501051": _ASSIGNMENT,
    "AADSTS1002012": _SCOPE_INVALID,
}


def entra_code_of(error: Exception) -> str | None:
    """Return Entra's code in an error of azure-identity, if it has one."""
    found = _CODE.search(str(error))
    return found[0] if found else None


def advice_for(code: str, *, for_graph: bool = True) -> str:
    """Return what the code means and what to do, for a token for Graph or for another audience."""
    general = ADVICE.get(code, _DEFAULT_ADVICE)
    return general if for_graph else ADVICE_FOR_AUDIENCE.get(code, general)
