"""HTTP triggers: finds the function of a request, checks the key, and converts the outcome to a response."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from azure_functions_runtime.bindings.datumdef import Datum
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.host.admin import Admin
from local.host.errors import HostError
from local.host.functions import Function, Outcome, Trace
from local.host.keys import Keys
from local.host.routes import Route, decoded
from local.host.worker import Worker

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context
_BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED}
_SERVER_HEADERS = {"content-length", "transfer-encoding", "connection"}  # set by the server, not by the app


@dataclass(frozen=True, slots=True)
class _Endpoint:
    route: Route
    function: Function


class FrontEnd:
    """The ASGI application of the host. If several routes match, it uses the most specific one, as ASP.NET does."""

    def __init__(self, functions: Iterable[Function], worker: Worker, keys: Keys, prefix: str, admin: Admin) -> None:
        http = [function for function in functions if function.trigger.type == "httpTrigger"]
        self._endpoints = sorted((_endpoint(function) for function in http), key=lambda found: found.route.rank)
        _refuse_conflicts(self._endpoints)
        self._worker = worker
        self._keys = keys
        self._prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = Request(scope, receive)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        path = decoded(request.scope["raw_path"].decode("latin-1"))
        key = request.headers.get("x-functions-key") or request.query_params.get("code") or ""
        if path.lower().startswith("/admin/"):
            return await self._admin.respond(request, path, key)
        endpoint, parameters = self._find(path, request.method)
        if endpoint is None:  # also for a wrong method: azure-functions-host issue 10098
            return Response(status_code=HTTPStatus.NOT_FOUND)
        if not self._keys.allow(endpoint.function.trigger.level, key):
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        value = await _request_datum(request, parameters)
        outcome = await self._worker.invoke(endpoint.function, value, trace=_trace(request.headers))
        return _response(endpoint.function, outcome)

    def _find(self, path: str, method: str) -> tuple[_Endpoint | None, dict[str, str]]:
        if path.lower() == self._prefix.lower() or path.lower().startswith(f"{self._prefix}/".lower()):
            rest = path[len(self._prefix) :]
            for endpoint in self._endpoints:
                if (parameters := endpoint.route.match(rest, method)) is not None:
                    return endpoint, parameters
        return None, {}


def _endpoint(function: Function) -> _Endpoint:
    trigger = function.trigger
    template = trigger.route if trigger.route is not None else function.name
    return _Endpoint(Route.of(template, trigger.methods, function=function.name), function)


def _refuse_conflicts(endpoints: list[_Endpoint]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for endpoint in endpoints:
        for method in endpoint.route.methods or {"every method"}:
            route = (endpoint.route.template.strip("/").lower(), method)
            if other := seen.get(route):
                raise HostError(
                    f"functions {other} and {endpoint.function.name} have the same route {route[0]} ({method}):"
                    " change one of them"
                )
            seen[route] = endpoint.function.name


async def _request_datum(request: Request, parameters: dict[str, str]) -> Datum:
    """Return the request as Azure's host sends it to the Python worker.

    Repeated headers and query parameters are joined by a comma. Query parameters without a value are left out.
    Source: azure-functions-host, GrpcMessageConversionExtensions.ToRpcHttp.
    """
    value = {
        "method": Datum(request.method, "string"),
        "url": Datum(str(request.url), "string"),
        "headers": _joined(request.headers),
        "query": {name: datum for name, datum in _joined(request.query_params).items() if datum.value},
        "params": {name: Datum(text, "string") for name, text in parameters.items()},
        "body": Datum(await request.body(), "bytes"),
    }
    return Datum(value, "http")


def _joined(pairs: Headers | QueryParams) -> dict[str, Datum]:
    found: dict[str, list[str]] = {}
    for name, value in pairs.items() if isinstance(pairs, Headers) else pairs.multi_items():
        found.setdefault(name, []).append(value)
    return {name: Datum(",".join(values), "string") for name, values in found.items()}


def _trace(headers: Headers) -> Trace | None:
    parent = headers.get("traceparent", "")
    return Trace(parent, headers.get("tracestate", "")) if _TRACEPARENT.fullmatch(parent) else None


def _response(function: Function, outcome: Outcome) -> Response:
    if outcome.error is not None:
        return Response(status_code=HTTPStatus.INTERNAL_SERVER_ERROR)
    output = outcome.value_of(function, "http")
    if output is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if output.type != "http":
        return Response(output.value, media_type="text/plain")
    status = int(output.value["status_code"].value)
    body = b"" if status in _BODILESS else output.value["body"].value
    response = Response(body, status_code=status)
    for name, datum in output.value["headers"].items():
        if name.lower() not in _SERVER_HEADERS:
            response.headers[name] = datum.value
    for jar in output.value.get("cookies") or []:
        for cookie in jar.values():
            response.headers.append("set-cookie", cookie.OutputString())
    return response
