"""The control API's routes of calls: make them, look at them, end them, let them speak."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.calls import NewCall
from simulator.control import models as bodies
from simulator.control import views
from simulator.control.answers import ProblemError, listed, read, shown
from simulator.notifications import custom
from simulator.records import Call, Direction, End, Operation, Outcome, State, Status
from simulator.wire import canonical_id, instant

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from simulator.simulation import Simulation


class CallRoutes:
    """Handlers of /control/calls."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def create_call(self, request: Request) -> Response:
        """201 with a new call."""
        wanted = await read(request, bodies.CallWanted)
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
        return shown(views.CallView.of(call, self._simulation.clock.now()), 201)

    async def list_calls(self, _request: Request) -> Response:
        """Every call, oldest first."""
        now = self._simulation.clock.now()
        return listed([views.CallSummary.of(call, now) for call in self._simulation.calls.all()])

    async def get_call(self, request: Request) -> Response:
        """One call, with its keepAlives, operations and notifications."""
        return shown(views.CallView.of(self._call(request), self._simulation.clock.now()))

    async def end_call(self, request: Request) -> Response:
        """End a call as Graph would, with any code."""
        call, wanted = self._living(request), await read(request, bodies.EndWanted)
        end = End(wanted.code, wanted.subcode, wanted.message)
        self._simulation.calls.end(call, end, notify=wanted.notify)
        return await self.get_call(request)

    async def forget_call(self, request: Request) -> Response:
        """The call is gone, and no notification says so."""
        self._simulation.calls.forget(self._living(request))
        return await self.get_call(request)

    async def notify(self, request: Request) -> Response:
        """Send a notification of a call: one again, or any other."""
        call, wanted = self._call(request), await read(request, bodies.NotifyWanted)
        delivery = self._simulation.delivery
        if wanted.notification_id is None:
            shape = delivery.modes_of(call).shape
            item = custom(call, wanted.change_type, wanted.suffix, wanted.resource_data, shape)
        else:
            found = [each.item for each in call.notifications if each.id == wanted.notification_id]
            if not found:
                raise ProblemError(404, f"This call has no notification {wanted.notification_id}.")
            item = found[0]
        return shown(views.NotificationView.of(delivery.send(call, item)), 202)

    async def finish_operation(self, request: Request) -> Response:
        """Finish an operation now, with any outcome."""
        call, wanted = self._living(request), await read(request, bodies.FinishWanted)
        operation = self._operation(call, request)
        outcome = Outcome(Status(wanted.status), wanted.code, wanted.subcode, wanted.message, wanted.completion_reason)
        self._simulation.operations.finish(call, operation, outcome)
        return shown(views.OperationView.of(operation))

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
