"""The simulator's ASGI application: Graph, Entra, the notification keys and the control API."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from simulator import entra, graph
from simulator.control import routes as control
from simulator.control.responses import problem_response
from simulator.delivery import ISSUER
from simulator.faults import OperationName
from simulator.refusals import Refusal, graph_error
from simulator.simulation import Options, Simulation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from starlette.requests import Request
    from starlette.routing import Route


def create_app(
    options: Options | None = None, notification_transport: httpx.AsyncBaseTransport | None = None
) -> Starlette:
    """Return an application with a new simulation.

    `notification_transport` takes the notifications instead of the network, for tests.
    """
    return application(Simulation(options or Options(), notification_transport))


def application(simulation: Simulation) -> Starlette:
    """Return the application of a simulation. A server with lifespan events also closes the simulation."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await simulation.close()

    routes = [
        *control.routes(simulation),
        *graph.routes(simulation.calls, simulation.operations, simulation.authorization, simulation.middleware),
        *_notification_keys(simulation),
        *entra.routes(simulation.entra, simulation.middleware),
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refuse_route})


def _notification_keys(simulation: Simulation) -> list[Route]:
    """Return the routes of the calling service's OpenID metadata, and of the keys that sign notifications."""

    async def metadata(request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": ISSUER,
                "authorization_endpoint": "https://invalid.botframework.com/",
                "jwks_uri": f"{request.base_url}v1/keys",
                "id_token_signing_alg_values_supported": ["RSA256"],  # as documented; no algorithm has this name
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            }
        )

    async def keys(_request: Request) -> Response:
        return JSONResponse({"keys": simulation.notification_keys.jwks()})

    path, middleware = "/v1/.well-known/OpenIdConfiguration", simulation.middleware
    return [
        middleware.route("GET", path, OperationName.NOTIFICATION_DISCOVERY, metadata, graph_error),
        middleware.route("GET", "/v1/keys", OperationName.NOTIFICATION_KEYS, keys, graph_error),
    ]


async def _refuse_route(request: Request, error: Exception) -> Response:
    """Refuse a request that no route serves: with a problem under /control, else with Graph's error."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    if request.url.path.startswith("/control"):
        return problem_response(status, f"{request.method} {request.url.path}: {detail}. See simulator/README.md")
    segment = request.url.path.rpartition("/")[2]
    message = f"Resource not found for the segment '{segment}'."
    return graph_error(Refusal(status, None, message if status == 404 else detail), request)  # noqa: PLR2004 404
