"""The control API: look into the simulator, and make things happen. No authentication; a local tool."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from simulator import control_models as bodies
from simulator import control_views as views
from simulator.calls import Call, Direction, End, NewCall, State
from simulator.entra import LIFE, App, Grant, Identity
from simulator.faults import Fault, OperationName
from simulator.notifications import custom
from simulator.operations import Operation, Outcome, Status
from simulator.wire import JsonObject, canonical_id, instant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from simulator.simulation import Simulation

    type Handler = Callable[[Request], Awaitable[Response]]


class ProblemError(Exception):
    """A request that cannot be served: a status, and a sentence that says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def routes(simulation: Simulation) -> list[Route]:
    """The control API's routes."""
    served = _Routes(simulation)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/health", served.health),
        ("GET", "/clock", served.clock),
        ("POST", "/clock", served.change_clock),
        ("POST", "/calls", served.create_call),
        ("GET", "/calls", served.list_calls),
        ("GET", "/calls/{call_id}", served.get_call),
        ("POST", "/calls/{call_id}/end", served.end_call),
        ("POST", "/calls/{call_id}/forget", served.forget_call),
        ("POST", "/calls/{call_id}/notify", served.notify),
        ("POST", "/calls/{call_id}/operations/{operation_id}/finish", served.finish_operation),
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


def problem(status: int, detail: str) -> Response:
    """An RFC 9457 problem."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


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
        return _shown({"status": "ok", "now": instant(self._simulation.clock.now())})

    async def clock(self, _request: Request) -> Response:
        """The simulated time and its speed."""
        clock = self._simulation.clock
        return _shown({"now": instant(clock.now()), "speed": clock.speed})

    async def change_clock(self, request: Request) -> Response:
        """Set the speed, step forward, or both; answers when what the step set off is done."""
        change = await _read(request, bodies.ClockChange)
        if change.speed is not None:
            self._simulation.clock.set_speed(change.speed)
        if change.advance is not None:
            await self._simulation.advance(change.advance)
        return await self.clock(request)

    async def create_call(self, request: Request) -> Response:
        """201 with a new call."""
        wanted = await _read(request, bodies.CallWanted)
        incoming = wanted.state == "incoming" or wanted.direction is Direction.INCOMING
        try:
            call = self._simulation.calls.create(
                NewCall(
                    tenant_id=wanted.tenant_id,
                    app_id=wanted.app_id,
                    callback_uri=wanted.callback_uri,
                    direction=Direction.INCOMING if incoming else Direction.OUTGOING,
                    state=State(wanted.state or "established"),
                    age=timedelta(seconds=wanted.age_seconds),
                    quiet=wanted.quiet,
                    details=wanted.details,
                    id=wanted.id,
                )
            )
        except ValueError as error:
            raise ProblemError(409, str(error)) from error
        return _shown(views.CallView.of(call, self._simulation.clock.now()), 201)

    async def list_calls(self, _request: Request) -> Response:
        """Every call, oldest first."""
        now = self._simulation.clock.now()
        return _listed([views.CallSummary.of(call, now) for call in self._simulation.calls.all()])

    async def get_call(self, request: Request) -> Response:
        """One call, with its keepAlives, operations and notifications."""
        return _shown(views.CallView.of(self._call(request), self._simulation.clock.now()))

    async def end_call(self, request: Request) -> Response:
        """End a call as Graph would, with any code."""
        call, wanted = self._living(request), await _read(request, bodies.EndWanted)
        end = End(wanted.code, wanted.subcode, wanted.message)
        self._simulation.calls.end(call, end, notify=wanted.notify)
        return await self.get_call(request)

    async def forget_call(self, request: Request) -> Response:
        """The call is gone, and no notification says so."""
        self._simulation.calls.forget(self._living(request))
        return await self.get_call(request)

    async def notify(self, request: Request) -> Response:
        """Send a notification of a call: one again, or any other."""
        call, wanted = self._call(request), await _read(request, bodies.NotifyWanted)
        delivery = self._simulation.delivery
        if wanted.notification_id is None:
            shape = delivery.modes_of(call).shape
            item = custom(call, wanted.change_type, wanted.suffix, wanted.resource_data, shape)
        else:
            found = [each.item for each in call.notifications if each.id == wanted.notification_id]
            if not found:
                raise ProblemError(404, f"This call has no notification {wanted.notification_id}.")
            item = found[0]
        return _shown(views.NotificationView.of(delivery.send(call, item)), 202)

    async def finish_operation(self, request: Request) -> Response:
        """Finish an operation now, with any outcome."""
        call, wanted = self._living(request), await _read(request, bodies.FinishWanted)
        operation = self._operation(call, request)
        outcome = Outcome(Status(wanted.status), wanted.code, wanted.subcode, wanted.message, wanted.completion_reason)
        self._simulation.operations.finish(call, operation, outcome)
        return _shown(views.OperationView.of(operation))

    async def add_fault(self, request: Request) -> Response:
        """201 with a fault that is at work from now on."""
        fault = await _read(request, Fault)
        return _shown(views.FaultView.of(self._simulation.faults.add(fault)), 201)

    async def list_faults(self, _request: Request) -> Response:
        """The faults that are not over."""
        return _listed([views.FaultView.of(active) for active in self._simulation.faults.all()])

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
        return _shown({**delivery.modes.model_dump(mode="json", by_alias=True), "calls": own})

    async def put_delivery(self, request: Request) -> Response:
        """Set how notifications travel."""
        wanted = await _read(request, bodies.DeliveryWanted)
        modes = wanted.modes()
        if wanted.call_id is None:
            self._simulation.delivery.modes = modes
        else:
            self._simulation.delivery.modes_of_calls[canonical_id(wanted.call_id)] = modes
        return await self.get_delivery(request)

    async def put_app(self, request: Request) -> Response:
        """Describe an app registration; from now on it is held to that."""
        app = await _read(request, App)
        self._simulation.entra.apps[request.path_params["app_id"].lower()] = app
        return _shown(app)

    async def put_identity(self, request: Request) -> Response:
        """Who the managed identity is."""
        self._simulation.entra.identity = await _read(request, Identity)
        return _shown(self._simulation.entra.identity)

    async def rotate_keys(self, request: Request) -> Response:
        """Sign with a new key from now on."""
        wanted = await _read(request, bodies.RotationWanted)
        simulation = self._simulation
        ring = simulation.notification_keys if wanted.kind == "notification" else simulation.entra.keys
        return _shown({"kind": wanted.kind, "kid": ring.rotate(keep_old=wanted.keep_old).kid})

    async def mint_token(self, request: Request) -> Response:
        """A signed token, for tests."""
        return _shown({"token": _mint(await _read(request, bodies.TokenWanted), self._simulation)})

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
        return _shown({"counts": counts, "value": [_dumped(views.RequestView.of(entry)) for entry in found]})

    async def reset(self, _request: Request) -> Response:
        """As just started."""
        self._simulation.reset()
        return Response(status_code=204)

    def _call(self, request: Request) -> Call:
        call_id = request.path_params["call_id"]
        call = self._simulation.calls.find(call_id)
        if call is None:
            raise ProblemError(404, f"There is no call {call_id}. GET /control/calls lists all.")
        return call

    def _living(self, request: Request) -> Call:
        call = self._call(request)
        if call.over:
            raise ProblemError(
                409, f"The call {call.id} is over already, since {instant(call.ended_at or call.started_at)}."
            )
        return call

    def _operation(self, call: Call, request: Request) -> Operation:
        operation = call.operations.get(canonical_id(request.path_params["operation_id"]))
        if operation is None:
            raise ProblemError(
                404, f"The call {call.id} has no such operation. GET /control/calls/{call.id} lists them."
            )
        if operation.finished:
            raise ProblemError(409, f"The operation {operation.id} has finished already.")
        return operation


async def _read[Body: BaseModel](request: Request, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()]
        raise ProblemError(400, "; ".join(lines)) from error


def _dumped(view: BaseModel) -> JsonObject:
    return view.model_dump(mode="json", by_alias=True)


def _shown(view: BaseModel | JsonObject, status: int = 200) -> Response:
    return JSONResponse(_dumped(view) if isinstance(view, BaseModel) else view, status)


def _listed(found: list[views.CallSummary] | list[views.FaultView]) -> Response:
    return JSONResponse({"value": [_dumped(view) for view in found]})


def _mint(wanted: bodies.TokenWanted, simulation: Simulation) -> str:
    app_id, tenant_id = wanted.app_id.lower(), wanted.tenant_id.lower()
    if wanted.kind == "notification":
        delivery = simulation.delivery
        return delivery.token(wanted.audience or app_id, tenant_id, wanted.expires_in, wanted.issuer)
    audience = wanted.audience or simulation.entra.base_url
    roles = wanted.roles if wanted.roles is not None else simulation.entra.roles(app_id, audience)
    life = LIFE if wanted.expires_in is None else wanted.expires_in
    return simulation.entra.issue(Grant(app_id, tenant_id, audience, roles, life, wanted.issuer))
