"""Refusals of requests, and their formats: Graph's `error` object, Entra's OAuth error, a proxy's response.

Refusal                     an error response instead of the requested one
├── unauthorized()          401, the token is missing or not valid
├── missing_permission()    403, 7504
├── other_tenant()          403, 7505, the call belongs to another tenant
├── call_not_found()        404, 8522
├── not_established()       400, 8501
├── bad_request()           400, Graph cannot read the request
└── invalid_argument()      400, 8523, a value is outside of its documented limits

The control API has an error of its own, ProblemError.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_CODES = {
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
    """An error response. `code` is Graph's name of the error, or a calling subcode as text."""

    def __init__(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _CODES.get(status, "GeneralException")
        self.message = message
        self.headers = dict(headers or {})


def unauthorized(message: str) -> Refusal:
    """Return the 401 with which Graph refuses a token."""
    challenge = 'Bearer realm="", client_id="00000003-0000-0000-c000-000000000000"'
    return Refusal(401, "InvalidAuthenticationToken", message, {"WWW-Authenticate": challenge})


def missing_permission() -> Refusal:
    """Return 403, 7504: the token lacks a role."""
    return Refusal(403, "7504", "Insufficient application permissions for the call.")


def other_tenant(message: str = "Mismatch between request authorization tenant and call tenant.") -> Refusal:
    """Return 403, 7505. The default message is observed on requests for a call."""
    return Refusal(403, "7505", message)


def call_not_found() -> Refusal:
    """Return 404, 8522, with the observed message."""
    return Refusal(404, "8522", "Call not found.")


def not_established() -> Refusal:
    """Return 400, 8501: the state of the call does not allow the action."""
    return Refusal(400, "8501", "The call is not established.")


def bad_request(message: str) -> Refusal:
    """Return 400 for a body that is no JSON, or has members that the action does not have."""
    return Refusal(400, "BadRequest", message)


def invalid_argument(message: str) -> Refusal:
    """Return 400, 8523, for a value outside of its documented limits."""
    return Refusal(400, "8523", message)


def graph_error(refusal: Refusal, request: Request) -> Response:
    """Return Graph's error object. The request's ids are in the object and in the headers."""
    ids = graph_headers(request)
    inner = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": ids["request-id"],
        "client-request-id": ids["client-request-id"],
    }
    error = {"code": refusal.code, "message": refusal.message, "innerError": inner}
    return JSONResponse({"error": error}, refusal.status, headers=ids | refusal.headers)


def proxy_response(status: int, content: str, headers: Mapping[str, str]) -> Response:
    """Return the response of a proxy or a gateway instead of Graph's: a page, JSON of its own, or nothing."""
    match content:
        case "page":
            return HTMLResponse("<html><body>Sign in to go on</body></html>", status, headers=dict(headers))
        case "json":
            return JSONResponse({"message": "no route and no API found with those values"}, status, headers=headers)
        case _:
            return Response(status_code=status, headers=headers)


def entra_error(refusal: Refusal, _request: Request) -> Response:
    """Return OAuth's error object with Entra's additional members."""
    content = {
        "error": refusal.code,
        "error_description": refusal.message,
        "error_codes": [int(digits)] if (digits := _aadsts_number(refusal.message)) else [],
        "timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ"),
        "trace_id": str(uuid.uuid4()),
        "correlation_id": str(uuid.uuid4()),
    }
    return JSONResponse(content, refusal.status, headers=refusal.headers)


def graph_headers(request: Request) -> dict[str, str]:
    """Return the headers of all Graph responses. The client-request-id is the client's, or else the request-id."""
    request_id: str = request.scope.setdefault("simulator.request-id", str(uuid.uuid4()))
    return {
        "request-id": request_id,
        "client-request-id": request.headers.get("client-request-id", request_id),
        "x-ms-ags-diagnostic": '{"ServerInfo":{"DataCenter":"Simulator","Slice":"E","Ring":"1"}}',
    }


def _aadsts_number(message: str) -> str:
    """Return the number of an AADSTS message, or "" if it has none."""
    head, found, _ = message.partition(":")
    return head.removeprefix("AADSTS") if found and head.startswith("AADSTS") else ""
