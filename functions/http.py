"""Declares routes, for the host and OpenAPI; errors → problem+json, authorization, body limits: once, for all."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus

import azure.functions as func
from pydantic import BaseModel

from shared import telemetry
from shared.errors import (
    CallKeeperError,
    Conflict,
    Forbidden,
    GraphError,
    GraphThrottled,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    SettingsInvalid,
    Unauthenticated,
    Unavailable,
    UnsupportedBody,
    place,
    words,
)
from shared.services import services
from shared.views import Problem, ProblemError

BODY_LIMIT = 64 * 1024
RETRY_AFTER = 5  # seconds: our own trouble is most often a storage hiccup


class Role(StrEnum):
    """The app roles of the Entra app registration that guards management routes."""

    READ = "Calls.Read"
    MANAGE = "Calls.Manage"
    RECORDINGS = "Recordings.Read"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may."""

    name: str
    roles: frozenset[str]

    def may(self, role: Role) -> bool:
        """Whether the role is theirs; who may manage calls may read them."""
        return role in self.roles or (role is Role.READ and Role.MANAGE in self.roles)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route, for OpenAPI; `schema` is JSON Schema."""

    name: str
    place: str
    description: str
    schema: dict[str, object] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True)
class Route:
    """One route: what the host, the authorization and OpenAPI need to know of it."""

    name: str
    method: str
    path: str
    summary: str
    responses: dict[int, type[BaseModel] | None]
    errors: tuple[int, ...] = ()
    role: Role | None = Role.READ
    request: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    auth_level: func.AuthLevel = func.AuthLevel.FUNCTION
    body_limit: int = BODY_LIMIT
    description: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)
    is_discreet: bool = False  # its problems tell strangers nothing but the status


# The first kind that fits counts.
STATUSES: tuple[tuple[type[CallKeeperError], int], ...] = (
    (PayloadTooLarge, 413),
    (UnsupportedBody, 415),
    (InvalidRequest, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
    (GraphThrottled, 503),
    (GraphError, 502),
    (SettingsInvalid, 500),
)

DISCREET = {
    400: "The body is not what this address takes.",
    401: "A token that Graph has signed for this address is needed.",
    403: "The token may not tell this.",
    413: "The body is too large.",
    415: "The body must be JSON in UTF-8, not compressed.",
}
LATER = "This cannot be taken now. Send it again later."

type Handler = Callable[[func.HttpRequest, Caller], Awaitable[func.HttpResponse]]

ROUTES: list[Route] = []


def endpoint(blueprint: func.Blueprint, route: Route) -> Callable[[Handler], Handler]:
    """Make a handler answer a route: register it with the host, guard it, and turn its errors into problems."""
    ROUTES.append(route)

    def register(handler: Handler) -> Handler:
        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            return await _answer(route, handler, req)

        entry.__name__ = route.name
        decorate = blueprint.route(route.path, methods=[route.method], auth_level=route.auth_level)
        blueprint.function_name(route.name)(decorate(entry))
        return handler

    return register


def reply(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """A JSON answer."""
    return func.HttpResponse(
        model.model_dump_json(by_alias=True),
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype="application/json",
    )


async def _answer(route: Route, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    try:
        caller = await _authorize(route, req)
        check_size(req, route.body_limit)
        response = await handler(req, caller)
        if route.role is not None:
            await services().keeper.notice()
    except CallKeeperError as error:
        response = problem(error, is_discreet=route.is_discreet)
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            telemetry.REQUEST_FAILED(route=route.name, error=words(error), where=place(error))
        return response
    except Exception as error:  # noqa: BLE001 (the log gets its kind and place: its text may hold secrets)
        telemetry.REQUEST_FAILED(route=route.name, error=type(error).__name__, where=place(error))
        return _problem_response(500, "An unforeseen error. It is in the log of Call Keeper.", {})
    return response


def check_size(req: func.HttpRequest, limit: int) -> None:
    """Raise `PayloadTooLarge` if the body has more bytes."""
    if len(req.get_body()) > limit:
        raise PayloadTooLarge(f"The body may have {limit} bytes at most.")


async def _authorize(route: Route, req: func.HttpRequest) -> Caller:
    """The function key was checked by the host. Once MANAGEMENT_AUDIENCE is set, a token with a role is needed too."""
    if route.role is None:
        return Caller("anonymous", frozenset())
    verifier = services().management_verifier
    if verifier is None:
        return Caller("function key", frozenset(Role))
    claims = await verifier.verify(req.headers.get("Authorization"))
    caller = Caller(claims.app_id or claims.subject or "unknown", claims.roles)
    if not caller.may(route.role):
        raise Forbidden(f"The token lacks the app role {route.role.value}.")
    return caller


def problem(error: CallKeeperError, *, is_discreet: bool = False) -> func.HttpResponse:
    """The one place where errors become HTTP. A discreet answer tells no more than its status."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 503)
    if isinstance(error, GraphError) and error.status is None:
        status = 504
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        asked = error.retry_after if isinstance(error, GraphError) else None
        headers["Retry-After"] = str(max(math.ceil(asked), 1) if asked else RETRY_AFTER)
    if is_discreet:
        return _problem_response(status, DISCREET.get(status, LATER), headers)
    return _problem_response(status, str(error), headers, error)


def _problem_response(
    status: int, detail: str, headers: dict[str, str], error: CallKeeperError | None = None
) -> func.HttpResponse:
    faults = error.errors if isinstance(error, InvalidRequest) else ()
    graph = error if isinstance(error, GraphError) else None
    body = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=[ProblemError(pointer=pointer, detail=text) for pointer, text in faults] or None,
        graph_status=graph.status if graph else None,
        graph_subcode=graph.subcode if graph else None,
        graph_request_id=graph.request_id if graph else None,
    )
    return func.HttpResponse(
        body.model_dump_json(by_alias=True, exclude_none=True),
        status_code=status,
        headers={"Cache-Control": "no-store", **headers},
        mimetype="application/problem+json",
    )
