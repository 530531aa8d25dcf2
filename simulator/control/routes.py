"""The routes of the control API, and its handlers for everything but calls.

The control API has no authentication, because the simulator is a tool for one machine.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from simulator.control import models, views
from simulator.control.calls import CallHandlers
from simulator.control.responses import (
    ProblemError,
    as_json,
    list_response,
    object_response,
    problem_response,
    read_body,
)
from simulator.entra import TOKEN_LIFETIME, AppRegistration, ManagedIdentity, TokenSpec
from simulator.faults import Fault, OperationName
from simulator.wire import canonical_id, rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from simulator.simulation import Simulation

    type Handler = Callable[[Request], Awaitable[Response]]


def routes(simulation: Simulation) -> list[Route]:
    """Return the control API's routes."""
    handlers, calls = _Handlers(simulation), CallHandlers(simulation)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/health", handlers.health),
        ("GET", "/clock", handlers.clock),
        ("POST", "/clock", handlers.change_clock),
        ("POST", "/calls", calls.create_call),
        ("GET", "/calls", calls.list_calls),
        ("GET", "/calls/{call_id}", calls.get_call),
        ("POST", "/calls/{call_id}/end", calls.end_call),
        ("POST", "/calls/{call_id}/forget", calls.forget_call),
        ("POST", "/calls/{call_id}/notify", calls.notify),
        ("POST", "/calls/{call_id}/tone", calls.press_key),
        ("POST", "/calls/{call_id}/participantJoining", calls.participant_joins),
        ("POST", "/calls/{call_id}/operations/{operation_id}/finish", calls.finish_operation),
        ("POST", "/faults", handlers.add_fault),
        ("GET", "/faults", handlers.list_faults),
        ("DELETE", "/faults", handlers.clear_faults),
        ("DELETE", "/faults/{fault_id}", handlers.remove_fault),
        ("GET", "/delivery", handlers.get_delivery),
        ("PUT", "/delivery", handlers.put_delivery),
        ("PUT", "/apps/{app_id}", handlers.put_app),
        ("PUT", "/identity", handlers.put_identity),
        ("POST", "/keys/rotate", handlers.rotate_keys),
        ("POST", "/tokens", handlers.issue_token),
        ("GET", "/requests", handlers.list_requests),
        ("POST", "/reset", handlers.reset),
    ]
    return [_route(method, f"/control{path}", handler) for method, path, handler in table]


def _route(method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ProblemError as error:
            return problem_response(error.status, error.detail)

    return Route(path, endpoint, methods=[method], name=f"{method} {path}")


class _Handlers:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def health(self, _request: Request) -> Response:
        """Return 200 while the simulator runs."""
        return object_response({"status": "ok", "now": rfc3339(self._simulation.clock.now())})

    async def clock(self, _request: Request) -> Response:
        """Return the simulated time and its speed."""
        clock = self._simulation.clock
        return object_response({"now": rfc3339(clock.now()), "speed": clock.speed})

    async def change_clock(self, request: Request) -> Response:
        """Set the speed, step forward, or both. Respond when all effects of the step are complete."""
        change = await read_body(request, models.ClockChange)
        if change.speed is not None:
            self._simulation.clock.set_speed(change.speed)
        if change.advance is not None:
            await self._simulation.advance(timedelta(seconds=change.advance))
        return await self.clock(request)

    async def add_fault(self, request: Request) -> Response:
        """Start a fault: 201."""
        fault = await read_body(request, Fault)
        return object_response(views.FaultView.of(self._simulation.faults.add(fault)), 201)

    async def list_faults(self, _request: Request) -> Response:
        """Return the faults that are not over."""
        return list_response([views.FaultView.of(active) for active in self._simulation.faults.all()])

    async def clear_faults(self, _request: Request) -> Response:
        """Stop all faults."""
        self._simulation.faults.clear()
        return Response(status_code=204)

    async def remove_fault(self, request: Request) -> Response:
        """Stop one fault."""
        fault_id = request.path_params["fault_id"]
        if not self._simulation.faults.remove(fault_id):
            raise ProblemError(404, f"There is no active fault {fault_id}. GET /control/faults lists the active ones.")
        return Response(status_code=204)

    async def get_delivery(self, _request: Request) -> Response:
        """Return the delivery settings of all calls, and those of single calls."""
        delivery = self._simulation.delivery
        by_call = {call_id: as_json(settings) for call_id, settings in delivery.settings_by_call.items()}
        return object_response({**as_json(delivery.settings), "calls": by_call})

    async def put_delivery(self, request: Request) -> Response:
        """Replace the delivery settings of all calls, or of one call."""
        body = await read_body(request, models.DeliveryBody)
        if body.call_id is None:
            self._simulation.delivery.settings = body.settings()
        else:
            self._simulation.delivery.settings_by_call[canonical_id(body.call_id)] = body.settings()
        return await self.get_delivery(request)

    async def put_app(self, request: Request) -> Response:
        """Register an app. From now on Entra enforces the registration."""
        app = await read_body(request, AppRegistration)
        self._simulation.entra.apps[request.path_params["app_id"].lower()] = app
        return object_response(app)

    async def put_identity(self, request: Request) -> Response:
        """Set the app and the tenant of the managed identity."""
        self._simulation.entra.identity = await read_body(request, ManagedIdentity)
        return object_response(self._simulation.entra.identity)

    async def rotate_keys(self, request: Request) -> Response:
        """Create a new signing key, which signs from now on."""
        body = await read_body(request, models.RotationBody)
        simulation = self._simulation
        ring = simulation.notification_keys if body.kind == "notification" else simulation.entra.keys
        return object_response({"kind": body.kind, "kid": ring.rotate(keep_old=body.keep_old).kid})

    async def issue_token(self, request: Request) -> Response:
        """Issue a signed token for tests."""
        return object_response({"token": _issue(await read_body(request, models.TokenBody), self._simulation)})

    async def list_requests(self, request: Request) -> Response:
        """Return the requests that the simulator received, newest last, and their counts."""
        query, journal = request.query_params, self._simulation.journal
        try:
            operation = OperationName(query["operation"]) if "operation" in query else None
            limit = int(query.get("limit", "1000"))
        except ValueError as error:
            raise ProblemError(
                400, f"operation must be one of {', '.join(OperationName)}; limit must be a number."
            ) from error
        call_id = canonical_id(query["callId"]) if "callId" in query else None
        entries = journal.entries(operation, call_id, limit)
        counts: dict[str, dict[str, int]] = {}
        for (name, status), count in sorted(journal.counts.items(), key=str):
            by_status = counts.setdefault(name, {"total": 0})
            by_status["dropped" if status is None else str(status)] = count
            by_status["total"] += count
        return object_response({"counts": counts, "value": [as_json(views.RequestView.of(each)) for each in entries]})

    async def reset(self, _request: Request) -> Response:
        """Return to the state after the start, except for the signing keys."""
        self._simulation.reset()
        return Response(status_code=204)


def _issue(body: models.TokenBody, simulation: Simulation) -> str:
    app_id, tenant_id = body.app_id.lower(), body.tenant_id.lower()
    if body.kind == "notification":
        audience = body.audience or app_id
        return simulation.notification_tokens.issue(body.token, audience, tenant_id, body.lifetime, body.issuer)
    audience = body.audience or simulation.entra.base_url
    roles = body.roles if body.roles is not None else simulation.entra.roles(app_id, audience)
    lifetime = TOKEN_LIFETIME if body.lifetime is None else body.lifetime
    return simulation.entra.issue(TokenSpec(app_id, tenant_id, audience, roles, lifetime, body.issuer))
