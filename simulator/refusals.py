"""Refusals and how each side words them: Graph's `error` object, Entra's OAuth errors, the control API's problems.

Refusal                     an answer other than the one asked for
├── unauthorized()          401, no or a bad token
├── forbidden()             403, 7504 missing permission · 7505 another tenant's call
├── call_not_found()        404, 8522
├── not_established()       400, 8501
├── bad_request()           400, the request is not one that Graph reads
└── invalid_argument()      400, 8523, a value outside of its documented limits
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_WORDS = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}


class Refusal(Exception):
    """An answer other than the one asked for. `code` is Graph's word, or a calling subcode as text."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _WORDS.get(status, "GeneralException")
        self.message = message
        self.headers = dict(headers or {})


def unauthorized(message: str) -> Refusal:
    """401, as Graph answers a token that it cannot accept."""
    challenge = 'Bearer realm="", client_id="00000003-0000-0000-c000-000000000000"'
    return Refusal(401, "InvalidAuthenticationToken", message, {"WWW-Authenticate": challenge})


def missing_permission() -> Refusal:
    """403, 7504."""
    return Refusal(403, "7504", "Insufficient application permissions for the call.")


def other_tenant(message: str = "Mismatch between request authorization tenant and call tenant.") -> Refusal:
    """403, 7505, in the words that are observed on a call."""
    return Refusal(403, "7505", message)


def call_not_found() -> Refusal:
    """404, 8522, in the words that are observed."""
    return Refusal(404, "8522", "Call not found.")


def not_established() -> Refusal:
    """400, 8501: the call is not in a state for this."""
    return Refusal(400, "8501", "The call is not established.")


def bad_request(message: str) -> Refusal:
    """400, for a body that is no JSON or has members that the action does not have."""
    return Refusal(400, "BadRequest", message)


def invalid_argument(message: str) -> Refusal:
    """400, 8523, for a value outside of its documented limits."""
    return Refusal(400, "8523", message)


def as_graph(refusal: Refusal, request: Request) -> Response:
    """Graph's error object; the request's ids are in it and, by `graph_headers`, in the headers."""
    ids = graph_headers(request)
    inner = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": ids["request-id"],
        "client-request-id": ids["client-request-id"],
    }
    error = {"code": refusal.code, "message": refusal.message, "innerError": inner}
    return JSONResponse({"error": error}, refusal.status, headers=ids | refusal.headers)


def stranger(status: int, form: str, headers: Mapping[str, str]) -> Response:
    """What a proxy or a gateway answers in Graph's place: a page, nothing, or JSON of its own."""
    match form:
        case "page":
            return HTMLResponse("<html><body>Sign in to go on</body></html>", status, headers=dict(headers))
        case "json":
            return JSONResponse({"message": "no route and no API found with those values"}, status, headers=headers)
        case _:
            return Response(status_code=status, headers=headers)


def as_entra(refusal: Refusal, _request: Request) -> Response:
    """OAuth's error object with Entra's additions."""
    content = {
        "error": refusal.code,
        "error_description": refusal.message,
        "error_codes": [int(digits)] if (digits := _aadsts(refusal.message)) else [],
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }
    return JSONResponse(content, refusal.status, headers=refusal.headers)


def graph_headers(request: Request) -> dict[str, str]:
    """The headers that every answer of Graph has. Without a client-request-id Graph makes one up."""
    request_id: str = request.scope.setdefault("simulator.request-id", str(uuid.uuid4()))
    return {
        "request-id": request_id,
        "client-request-id": request.headers.get("client-request-id", request_id),
        "x-ms-ags-diagnostic": '{"ServerInfo":{"DataCenter":"Simulator","Slice":"E","Ring":"1"}}',
    }


def _aadsts(message: str) -> str:
    head, found, _ = message.partition(":")
    return head.removeprefix("AADSTS") if found and head.startswith("AADSTS") else ""
