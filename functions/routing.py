"""Declares routes, for the host and OpenAPI; authorization, and what a request may hold: once, for all."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func
from pydantic import BaseModel

from functions.bodies import STRICTLY_JSON, check_is_plain_json
from functions.problems import internal_error, problem_response
from shared import telemetry
from shared.api.validation import check_query
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
    scope: Scope = UNRESTRICTED

    def has_role(self, role: Role) -> bool:
        """Whether the role is theirs; who may manage calls may read them."""
        return role in self.roles or (role is Role.READ and Role.MANAGE in self.roles)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route, for OpenAPI; `schema` is JSON Schema."""

    name: str
    location: str
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
    max_body_bytes: int = MAX_BODY_BYTES
    description: str = ""
    response_headers: dict[str, str] = field(default_factory=dict)
    hide_details: bool = False  # its problems tell strangers nothing but the status


type Handler = Callable[[func.HttpRequest, Caller], Awaitable[func.HttpResponse]]

ROUTES: list[Route] = []


def endpoint(blueprint: func.Blueprint, route: Route) -> Callable[[Handler], Handler]:
    """Make a handler answer a route: register it with the host, guard it, and turn its errors into problems."""
    ROUTES.append(route)

    def register(handler: Handler) -> Handler:
        async def entry(req: func.HttpRequest) -> func.HttpResponse:
            return await _respond(route, handler, req)

        entry.__name__ = route.name
        methods = [route.method, "HEAD"] if route.method == "GET" else [route.method]  # RFC 9110, 9.1: both, or neither
        decorate = blueprint.route(route.path, methods=methods, auth_level=route.auth_level)
        blueprint.function_name(route.name)(decorate(entry))
        return handler

    return register


def reply(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """A JSON answer."""
    return json_reply(model.model_dump_json(by_alias=True), status, headers)


def json_reply(text: str, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """An answer that is JSON already."""
    return func.HttpResponse(
        text,
        status_code=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        mimetype="application/json",
    )


async def _respond(route: Route, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    """Answer; and whatever became of it, notice whether sweeps still happen: that of an availability test does."""
    response = await _handle(route, handler, req)
    with suppress(SettingsInvalid):
        await services().staleness_check.run()
    return response


async def _handle(route: Route, handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    try:
        caller = await _authorize(route, req)
        if route.role is not None:
            check_query(req.url, {parameter.name for parameter in route.parameters if parameter.location == "query"})
            _check_body(route, req)
        return await handler(req, caller)
    except CallKeeperError as error:
        response = problem_response(error, hide_details=route.hide_details)
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            telemetry.REQUEST_FAILED(route=route.name, error=safe_message(error), location=traceback_summary(error))
        return response
    except Exception as error:  # noqa: BLE001 (the log gets its kind and place: its text may hold secrets)
        telemetry.REQUEST_FAILED(route=route.name, error=type(error).__name__, location=traceback_summary(error))
        return internal_error()


def check_size(req: func.HttpRequest, limit: int) -> None:
    """Raise `PayloadTooLarge` if the body has more bytes."""
    if len(req.get_body()) > limit:
        raise PayloadTooLarge(f"The body may have {limit} bytes at most.")


def _check_body(route: Route, req: func.HttpRequest) -> None:
    """A body where one is wanted, not too large, and plain JSON by its own word."""
    if route.request is None and req.get_body().strip() not in {b"", b"{}"}:  # many clients send an empty object
        raise InvalidRequest("This request takes no body: leave it out.", (("", "no body here"),))
    check_size(req, route.max_body_bytes)
    if req.get_body():
        check_is_plain_json(req, STRICTLY_JSON)


async def _authorize(route: Route, req: func.HttpRequest) -> Caller:
    """The function key was checked by the host. Once MANAGEMENT_AUDIENCE is set, a token with a role is needed too."""
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
    """The calling app."""
    if claims.app_id is None:  # an ID token looks much the same, and is no leave to call anything
        raise Unauthenticated("The token names no calling app: send an access token, which has `azp` or `appid`.")
    return settings.management_client(claims.app_id, claims.tenant_id)


def _caller_name(client: str, claims: "Claims") -> str:
    """The app, and the user for whom it asks, so that users of one app do not pass for each other."""
    if claims.user_id == "":
        raise Unauthenticated("The token has a user's `scp`, and does not say who: its `oid` is missing or no GUID.")
    return client if claims.user_id is None else f"{client}/{claims.user_id}"
