"""Health, the OpenAPI document, and the catalogue of termination codes."""

import json

import azure.functions as func

from functions.routing import Caller, Route, endpoint, reply
from shared.api.views import HealthView, TerminationCode, TerminationCodeList, TerminationReason
from shared.domain.termination import catalogue
from shared.errors import SettingsInvalid
from shared.health import settings_view
from shared.services import services

blueprint = func.Blueprint()


@endpoint(
    blueprint,
    Route(
        name="health",
        method="GET",
        path="health",
        summary="Can Call Keeper do its work?",
        description="Open, and says nothing secret. degraded: it works, but sweeps are late. unhealthy: settings or "
        "storage; `checks` names what.",
        role=None,
        auth_level=func.AuthLevel.ANONYMOUS,
        responses={200: HealthView, 503: HealthView},
    ),
)
async def health(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """The state of settings, storage and sweeps."""
    try:
        view = await services().health.run()
    except SettingsInvalid as error:
        view = settings_view(error)
    return reply(view, 503 if view.status == "unhealthy" else 200)


@endpoint(
    blueprint,
    Route(
        name="openapi",
        method="GET",
        path="openapi.json",
        summary="This document",
        role=None,
        auth_level=func.AuthLevel.ANONYMOUS,
        responses={200: None},
    ),
)
async def openapi(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """The API, as OpenAPI 3.1."""
    from functions.openapi import document  # noqa: PLC0415 (only this route needs it)

    return func.HttpResponse(json.dumps(document()), mimetype="application/json")


@endpoint(
    blueprint,
    Route(
        name="list_termination_codes",
        method="GET",
        path="termination-codes",
        summary="The catalogue of end codes",
        responses={200: TerminationCodeList},
        errors=(400, 401, 403, 500, 503),
    ),
)
async def list_termination_codes(_req: func.HttpRequest, _caller: Caller) -> func.HttpResponse:
    """Code, subcode, reason, category, source, whose doing it is, and what to do."""
    known = catalogue()
    rows = [TerminationCode.model_validate(entry) for entry in known.entries]
    reasons = [TerminationReason.model_validate(named) for named in known.named]
    return reply(TerminationCodeList(value=rows, termination_reasons=reasons))
