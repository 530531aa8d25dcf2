"""Routes: their declaration for the host and OpenAPI, authorization, and the checks that all of them share."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, Self

import azure.functions as func
from pydantic import BaseModel

from functions.bodies import STRICTLY_JSON, check_is_plain_json
from functions.problems import internal_error, problem_response
from shared import telemetry
from shared.api.validation import NoQuery, check_query, query_names
from shared.domain.scopes import UNRESTRICTED, Scope, scope_of
from shared.errors import (
    CallKeeperError,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    SettingsInvalid,
    Unauthenticated,
    safe_message,
    traceback_summary,
)
from shared.services import services

if TYPE_CHECKING:
    from shared.auth.tokens import Claims
    from shared.config.settings import Settings

MAX_BODY_BYTES = 64 * 1024
COMMON_ERRORS = (400, 401, 403, 500, 503)  # of every management route


class Role(StrEnum):
    """The app roles of the Entra app registration that guards management routes."""

    READ = "Calls.Read"
    MANAGE = "Calls.Manage"
    RECORDINGS = "Recordings.Read"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: its name, its app roles, and the calls that it may see and change."""

    name: str
    roles: frozenset[str]
    scope: Scope = UNRESTRICTED

    def has_role(self, role: Role) -> bool:
        """True if the caller has the role. `Calls.Manage` includes `Calls.Read`."""
        return role in self.roles or (role is Role.READ and Role.MANAGE in self.roles)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or header parameter of a route, for OpenAPI. `location` is "path" or "header"; `schema` is JSON Schema."""

    name: str
    location: str
    description: str
    schema: dict[str, object]


@dataclass(frozen=True, slots=True)
class Route:
    """One route, as the host, the authorization and OpenAPI need it. `endpoint` adds the facts of its handler.

    Parameters
    ----------
    name
        The name of the Azure function and the operationId: the name of the handler.
    summary, description
        The first line of the handler's docstring, and the rest of it.
    responses
        The model of each successful status; None for a body that has no model, or no body.
    errors
        The statuses of problems.
    role
        The app role that a token must have. None: everybody may ask, and query and body are not checked here.
    request
        The model of the JSON body. None: the route takes no body.
    parameters
        Path and header parameters.
    query
        The model of the query: OpenAPI lists its fields, and the handler parses the query with it.
    hide_details
        True: problems of this route tell strangers only the status.
    """

    method: str
    path: str
    responses: Mapping[int, type[BaseModel] | None]
    errors: tuple[int, ...] = ()
    role: Role | None = Role.READ
    request: type[BaseModel] | None = None
    parameters: tuple[Parameter, ...] = ()
    query: type[BaseModel] = NoQuery
    auth_level: func.AuthLevel = func.AuthLevel.FUNCTION
    max_body_bytes: int = MAX_BODY_BYTES
    response_headers: Mapping[str, str] = field(default_factory=dict)
    hide_details: bool = False
    name: str = ""
    summary: str = ""
    description: str = ""

    def described_by(self, handler: "Handler") -> Self:
        """Return the route with the name of its handler, and with summary and description from its docstring."""
        summary, _, description = (inspect.getdoc(handler) or "").partition("\n\n")
        return replace(
            self,
            name=handler.__name__,
            summary=summary.removesuffix("."),
            description=description.replace("\n", " "),
        )


class Handler(Protocol):
    """A function that answers the requests of one route."""

    __name__: str

    async def __call__(self, req: func.HttpRequest, caller: Caller, /) -> func.HttpResponse:
        """Return the response to an authorized request."""
        ...


ROUTES: list[Route] = []


def endpoint[SomeHandler: Handler](blueprint: func.Blueprint, declared: Route) -> Callable[[SomeHandler], SomeHandler]:
    """Register a handler for a route: with the host, behind authorization, and with its errors as problems."""

    def register(handler: SomeHandler) -> SomeHandler:
        route = declared.described_by(handler)
        ROUTES.append(route)

        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            return await _respond(route, handler, req)

        entry.__name__ = route.name
        methods = [route.method, "HEAD"] if route.method == "GET" else [route.method]  # RFC 9110, 9.1: both, or neither
        decorate = blueprint.route(route.path, methods=methods, auth_level=route.auth_level)
        blueprint.function_name(route.name)(decorate(entry))
        return handler

    return register


def reply(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """Return a model as a JSON response."""
    return json_reply(model.model_dump_json(by_alias=True), status, headers)


def json_reply(text: str, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """Return text that is already JSON as a response."""
    return func.HttpResponse(
        text,
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype="application/json",
    )


async def _respond(route: Route, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    """Return the response, after a check for stale sweeps.

    The check runs for every route and outcome, so that the requests of an availability test are enough to trigger it.
    """
    response = await _handle(route, handler, req)
    with suppress(SettingsInvalid):
        await services().staleness_check.run()
    return response


async def _handle(route: Route, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    try:
        caller = await _authorize(route, req)
        if route.role is not None:
            check_query(req.url, query_names(route.query))
            _check_body(route, req)
        return await handler(req, caller)
    except CallKeeperError as error:
        response = problem_response(error, hide_details=route.hide_details)
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            telemetry.REQUEST_FAILED(route=route.name, error=safe_message(error), location=traceback_summary(error))
        return response
    except Exception as error:  # noqa: BLE001 (the log gets the error's class and location; its text may hold secrets)
        telemetry.REQUEST_FAILED(route=route.name, error=type(error).__name__, location=traceback_summary(error))
        return internal_error()


def check_size(req: func.HttpRequest, limit: int) -> None:
    """Raise `PayloadTooLarge` if the body has more bytes than `limit`."""
    if len(req.get_body()) > limit:
        raise PayloadTooLarge(f"The body has more than {limit} bytes.")


def _check_body(route: Route, req: func.HttpRequest) -> None:
    """Raise an error if the route takes no body and there is one, or if it is too large or not declared as JSON."""
    if route.request is None and req.get_body().strip() not in {b"", b"{}"}:  # many clients send an empty object
        raise InvalidRequest("This route takes no body. Send the request without one.", (("", "no body expected"),))
    check_size(req, route.max_body_bytes)
    if req.get_body():
        check_is_plain_json(req, STRICTLY_JSON)


async def _authorize(route: Route, req: func.HttpRequest) -> Caller:
    """Return the caller of a request.

    The host has checked the function key already. Once MANAGEMENT_AUDIENCE is set, a token with a role is needed too.
    """
    if route.role is None:
        return Caller("anonymous", frozenset())
    verifier = services().management_verifier
    if verifier is None:
        return Caller("function key", frozenset(Role))
    claims = await verifier.verify(req.headers.get("Authorization"))
    settings = services().settings
    client = _client_name(claims, settings)
    caller = Caller(_caller_name(client, claims), claims.roles, scope_of(client, settings.management_callers))
    if not caller.has_role(route.role):
        raise Forbidden(f"The token lacks the app role {route.role.value}.")
    return caller


def _client_name(claims: "Claims", settings: "Settings") -> str:
    """Return the name of the calling app, as MANAGEMENT_CALLERS writes it."""
    if claims.app_id is None:  # an ID token looks much the same, but does not authorize requests
        raise Unauthenticated("The token names no calling app. Send an access token, which has `azp` or `appid`.")
    return settings.management_client(claims.app_id, claims.tenant_id)


def _caller_name(client: str, claims: "Claims") -> str:
    """Return the app and the user that it acts for, so that users of one app have different names."""
    if claims.user_id == "":
        raise Unauthenticated("The token has a user's `scp`, but its `oid` is missing or not a GUID.")
    return client if claims.user_id is None else f"{client}/{claims.user_id}"
