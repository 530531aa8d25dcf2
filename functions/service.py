"""Routes about the service: health, the OpenAPI document, and the catalogue of termination codes."""

import json

import azure.functions as func

from functions.routing import COMMON_ERRORS, Caller, Route, endpoint, reply
from shared.api.views import HealthView, TerminationCode, TerminationCodeList, TerminationReason
from shared.domain.termination import catalogue
from shared.errors import SettingsInvalid
from shared.health import settings_view
from shared.services import services

blueprint = func.Blueprint()


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="health",
        role=None,
        auth_level=func.AuthLevel.ANONYMOUS,
        responses={200: HealthView, 503: HealthView},
    ),
)
async def health(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """Report the health of Call Keeper.

    Open to everybody, and without secrets. degraded: it works, but sweeps are late, most calls could not be renewed,
    or signing keys were never loaded. unhealthy: settings or storage fail. If only settings of the relay are wrong,
    the relay is off and everything else works. `checks` names the fault.
    """
    try:
        view = await services().health.run()
    except SettingsInvalid as error:
        view = settings_view(error)
    return reply(view, 503 if view.status == "unhealthy" else 200)


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="openapi.json",
        role=None,
        auth_level=func.AuthLevel.ANONYMOUS,
        responses={200: None},
    ),
)
async def openapi(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """Return this document.

    The API as OpenAPI 3.1.
    """
    from functions.openapi import document  # noqa: PLC0415 (only this route needs it)

    return func.HttpResponse(json.dumps(document()), mimetype="application/json")


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="termination-codes",
        responses={200: TerminationCodeList},
        errors=COMMON_ERRORS,
    ),
)
async def list_termination_codes(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """List the termination codes.

    Each with its reason, category, source, fault owner and advice.
    """
    known = catalogue()
    rows = [TerminationCode.model_validate(entry) for entry in known.entries]
    reasons = [TerminationReason.model_validate(named) for named in known.named]
    return reply(TerminationCodeList(value=rows, termination_reasons=reasons))
