"""The simulator as one ASGI application: Graph, Entra, the notification keys and the control API."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from simulator import entra, graph
from simulator.control import routes as control
from simulator.control.answers import problem
from simulator.delivery import ISSUER
from simulator.faults import OperationName
from simulator.refusals import Refusal, as_graph
from simulator.simulation import Options, Simulation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from starlette.requests import Request
    from starlette.routing import Route


def create_app(options: Options | None = None, callbacks: httpx.AsyncBaseTransport | None = None) -> Starlette:
    """An application with a simulation of its own. `callbacks` carries the notifications, instead of the network."""
    return application(Simulation(options or Options(), callbacks))


def application(simulation: Simulation) -> Starlette:
    """The application of this simulation; it ends with the application's lifespan, if the server has one."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await simulation.close()

    routes = [
        *control.routes(simulation),
        *graph.routes(simulation.calls, simulation.operations, simulation.authorization, simulation.gate),
        *_notification_keys(simulation),
        *entra.routes(simulation.entra, simulation.gate),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_such_route})


def _notification_keys(simulation: Simulation) -> list[Route]:
    """The OpenID metadata of the calling service, and the keys that sign notifications."""

    async def metadata(request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": ISSUER,
                "authorization_endpoint": "https://invalid.botframework.com/",
                "jwks_uri": f"{request.base_url}v1/keys",
                "id_token_signing_alg_values_supported": ["RSA256"],  # documented so, though no such name exists
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            }
        )

    async def keys(_request: Request) -> Response:
        return JSONResponse({"keys": simulation.notification_keys.published()})

    path, gate = "/v1/.well-known/OpenIdConfiguration", simulation.gate
    return [
        gate.route("GET", path, OperationName.BOT_DISCOVERY, metadata, as_graph),
        gate.route("GET", "/v1/keys", OperationName.BOT_KEYS, keys, as_graph),
    ]


async def _no_such_route(request: Request, error: Exception) -> Response:
    """What nothing here answers: in Graph's words under its paths, as a problem under /control."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    if request.url.path.startswith("/control"):
        return problem(status, f"{request.method} {request.url.path}: {detail}. See simulator/README.md")
    segment = request.url.path.rpartition("/")[2]
    message = f"Resource not found for the segment '{segment}'."
    return as_graph(Refusal(status, None, message if status == 404 else detail), request)  # noqa: PLR2004 404
