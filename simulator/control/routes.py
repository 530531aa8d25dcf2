"""The control API: look into the simulator, and make things happen. No authentication; a local tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from simulator.control import models as bodies
from simulator.control import views
from simulator.control.answers import ProblemError, dumped, listed, problem, read, shown
from simulator.control.calls import CallRoutes
from simulator.entra import LIFE, App, Grant, Identity
from simulator.faults import Fault, OperationName
from simulator.wire import canonical_id, instant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from simulator.simulation import Simulation

    type Handler = Callable[[Request], Awaitable[Response]]


def routes(simulation: Simulation) -> list[Route]:
    """The control API's routes."""
    served, calls = _Routes(simulation), CallRoutes(simulation)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/health", served.health),
        ("GET", "/clock", served.clock),
        ("POST", "/clock", served.change_clock),
        ("POST", "/calls", calls.create_call),
        ("GET", "/calls", calls.list_calls),
        ("GET", "/calls/{call_id}", calls.get_call),
        ("POST", "/calls/{call_id}/end", calls.end_call),
        ("POST", "/calls/{call_id}/forget", calls.forget_call),
        ("POST", "/calls/{call_id}/notify", calls.notify),
        ("POST", "/calls/{call_id}/operations/{operation_id}/finish", calls.finish_operation),
        ("POST", "/faults", served.add_fault),
        ("GET", "/faults", served.list_faults),
        ("DELETE", "/faults", served.clear_faults),
        ("DELETE", "/faults/{fault_id}", served.remove_fault),
        ("GET", "/delivery", served.get_delivery),
        ("PUT", "/delivery", served.put_delivery),
        ("PUT", "/apps/{app_id}", served.put_app),
        ("PUT", "/identity", served.put_identity),
        ("POST", "/keys/rotate", served.rotate_keys),
        ("POST", "/tokens", served.mint_token),
        ("GET", "/requests", served.list_requests),
        ("POST", "/reset", served.reset),
    ]
    return [_route(method, f"/control{path}", handler) for method, path, handler in table]


def _route(method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ProblemError as error:
            return problem(error.status, error.detail)

    return Route(path, endpoint, methods=[method], name=f"{method} {path}")


class _Routes:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def health(self, _request: Request) -> Response:
        """200 while it runs."""
        return shown({"status": "ok", "now": instant(self._simulation.clock.now())})

    async def clock(self, _request: Request) -> Response:
        """The simulated time and its speed."""
        clock = self._simulation.clock
        return shown({"now": instant(clock.now()), "speed": clock.speed})

    async def change_clock(self, request: Request) -> Response:
        """Set the speed, step forward, or both; answers when what the step set off is done."""
        change = await read(request, bodies.ClockChange)
        if change.speed is not None:
            self._simulation.clock.set_speed(change.speed)
        if change.advance is not None:
            await self._simulation.advance(change.advance)
        return await self.clock(request)

    async def add_fault(self, request: Request) -> Response:
        """201 with a fault that is at work from now on."""
        fault = await read(request, Fault)
        return shown(views.FaultView.of(self._simulation.faults.add(fault)), 201)

    async def list_faults(self, _request: Request) -> Response:
        """The faults that are not over."""
        return listed([views.FaultView.of(active) for active in self._simulation.faults.all()])

    async def clear_faults(self, _request: Request) -> Response:
        """No more faults."""
        self._simulation.faults.clear()
        return Response(status_code=204)

    async def remove_fault(self, request: Request) -> Response:
        """One fault less."""
        fault_id = request.path_params["fault_id"]
        if not self._simulation.faults.remove(fault_id):
            raise ProblemError(404, f"There is no fault {fault_id} at work. GET /control/faults lists them.")
        return Response(status_code=204)

    async def get_delivery(self, _request: Request) -> Response:
        """How notifications travel: for all, and for single calls."""
        delivery = self._simulation.delivery
        own = {
            call_id: modes.model_dump(mode="json", by_alias=True) for call_id, modes in delivery.modes_of_calls.items()
        }
        return shown({**delivery.modes.model_dump(mode="json", by_alias=True), "calls": own})

    async def put_delivery(self, request: Request) -> Response:
        """Set how notifications travel."""
        wanted = await read(request, bodies.DeliveryWanted)
        modes = wanted.modes()
        if wanted.call_id is None:
            self._simulation.delivery.modes = modes
        else:
            self._simulation.delivery.modes_of_calls[canonical_id(wanted.call_id)] = modes
        return await self.get_delivery(request)

    async def put_app(self, request: Request) -> Response:
        """Describe an app registration; from now on it is held to that."""
        app = await read(request, App)
        self._simulation.entra.apps[request.path_params["app_id"].lower()] = app
        return shown(app)

    async def put_identity(self, request: Request) -> Response:
        """Who the managed identity is."""
        self._simulation.entra.identity = await read(request, Identity)
        return shown(self._simulation.entra.identity)

    async def rotate_keys(self, request: Request) -> Response:
        """Sign with a new key from now on."""
        wanted = await read(request, bodies.RotationWanted)
        simulation = self._simulation
        ring = simulation.notification_keys if wanted.kind == "notification" else simulation.entra.keys
        return shown({"kind": wanted.kind, "kid": ring.rotate(keep_old=wanted.keep_old).kid})

    async def mint_token(self, request: Request) -> Response:
        """A signed token, for tests."""
        return shown({"token": _mint(await read(request, bodies.TokenWanted), self._simulation)})

    async def list_requests(self, request: Request) -> Response:
        """What the simulator was sent, newest last, and how often."""
        query, journal = request.query_params, self._simulation.journal
        try:
            operation = OperationName(query["operation"]) if "operation" in query else None
            limit = int(query.get("limit", "1000"))
        except ValueError as error:
            raise ProblemError(400, f"operation is one of {', '.join(OperationName)}; limit is a number.") from error
        call_id = canonical_id(query["callId"]) if "callId" in query else None
        found = journal.entries(operation, call_id, limit)
        counts: dict[str, dict[str, int]] = {}
        for (name, status), count in sorted(journal.counts.items(), key=str):
            of_name = counts.setdefault(name, {"total": 0})
            of_name["dropped" if status is None else str(status)] = count
            of_name["total"] += count
        return shown({"counts": counts, "value": [dumped(views.RequestView.of(entry)) for entry in found]})

    async def reset(self, _request: Request) -> Response:
        """As just started."""
        self._simulation.reset()
        return Response(status_code=204)


def _mint(wanted: bodies.TokenWanted, simulation: Simulation) -> str:
    app_id, tenant_id = wanted.app_id.lower(), wanted.tenant_id.lower()
    if wanted.kind == "notification":
        audience = wanted.audience or app_id
        return simulation.signers.token(wanted.token, audience, tenant_id, wanted.expires_in, wanted.issuer)
    audience = wanted.audience or simulation.entra.base_url
    roles = wanted.roles if wanted.roles is not None else simulation.entra.roles(app_id, audience)
    life = LIFE if wanted.expires_in is None else wanted.expires_in
    return simulation.entra.issue(Grant(app_id, tenant_id, audience, roles, life, wanted.issuer))
