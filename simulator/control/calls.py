"""The control API's handlers for calls: create, list, end, forget, notify, let somebody join, finish an operation."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.calls import NewCall
from simulator.control import models, views
from simulator.control.responses import ProblemError, list_response, object_response, read_body
from simulator.notifications import custom_notification, joining_notification
from simulator.records import Call, CallDirection, CallEnd, CallState, Operation, OperationStatus, Outcome
from simulator.wire import canonical_id, rfc3339

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from simulator.simulation import Simulation
    from simulator.wire import JsonObject


class CallHandlers:
    """The handlers under /control/calls."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def create_call(self, request: Request) -> Response:
        """Create a call: 201."""
        body = await read_body(request, models.NewCallBody)
        incoming = body.state == "incoming" or body.direction is CallDirection.INCOMING
        try:
            call = self._simulation.calls.create(
                NewCall(
                    tenant_id=body.tenant_id,
                    app_id=body.app_id,
                    callback_uri=body.callback_uri,
                    direction=CallDirection.INCOMING if incoming else CallDirection.OUTGOING,
                    state=CallState(body.state or CallState.ESTABLISHED),
                    age=timedelta(seconds=body.age_seconds),
                    quiet=body.quiet,
                    details=body.details,
                    id=body.id,
                )
            )
        except ValueError as error:
            raise ProblemError(409, str(error)) from error
        return object_response(views.CallView.of(call, self._simulation.clock.now()), 201)

    async def list_calls(self, _request: Request) -> Response:
        """Return every call, oldest first."""
        now = self._simulation.clock.now()
        return list_response([views.CallSummary.of(call, now) for call in self._simulation.calls.all()])

    async def get_call(self, request: Request) -> Response:
        """Return one call, with its keepAlives, operations and notifications."""
        return object_response(views.CallView.of(self._call(request), self._simulation.clock.now()))

    async def end_call(self, request: Request) -> Response:
        """End a call as Graph does, with any code."""
        call, body = self._active_call(request), await read_body(request, models.EndBody)
        end = CallEnd(body.code, body.subcode, body.message)
        self._simulation.calls.end(call, end, notify=body.notify)
        return await self.get_call(request)

    async def forget_call(self, request: Request) -> Response:
        """End a call without a notification."""
        self._simulation.calls.forget(self._active_call(request))
        return await self.get_call(request)

    async def notify(self, request: Request) -> Response:
        """Send a notification of a call: an earlier one again, or one with any content."""
        call, body = self._call(request), await read_body(request, models.NotifyBody)
        delivery = self._simulation.delivery
        if body.notification_id is None:
            shape = delivery.settings_of(call).shape
            item = custom_notification(call, body.change_type, body.suffix, body.resource_data, shape)
        else:
            items = [each.item for each in call.notifications if each.id == body.notification_id]
            if not items:
                raise ProblemError(404, f"This call has no notification {body.notification_id}.")
            item = items[0]
        return object_response(views.NotificationView.of(delivery.send(call, item)), 202)

    async def participant_joins(self, request: Request) -> Response:
        """Notify the bot that somebody under a recording policy joins. Respond when the bot has answered."""
        call, body = self._active_call(request), await read_body(request, models.JoiningBody)
        delivery = self._simulation.delivery
        joining = body.joining or _somebody_who_joins()
        shape = delivery.settings_of(call).shape
        notification = delivery.send(call, joining_notification(call, joining, body.change_type, body.suffix, shape))
        await delivery.settle()
        return object_response(views.NotificationView.of(notification), 202)

    async def finish_operation(self, request: Request) -> Response:
        """Finish an operation now, with any outcome."""
        call, body = self._active_call(request), await read_body(request, models.FinishBody)
        operation = self._operation(call, request)
        status = OperationStatus(body.status)
        outcome = Outcome(status, body.code, body.subcode, body.message, body.completion_reason)
        self._simulation.operations.finish(call, operation, outcome)
        return object_response(views.OperationView.of(operation))

    def _call(self, request: Request) -> Call:
        call_id = request.path_params["call_id"]
        call = self._simulation.calls.find(call_id)
        if call is None:
            raise ProblemError(404, f"There is no call {call_id}. GET /control/calls lists all calls.")
        return call

    def _active_call(self, request: Request) -> Call:
        call = self._call(request)
        if call.is_over:
            raise ProblemError(
                409, f"The call {call.id} is over already, since {rfc3339(call.ended_at or call.started_at)}."
            )
        return call

    def _operation(self, call: Call, request: Request) -> Operation:
        operation = call.operations.get(canonical_id(request.path_params["operation_id"]))
        if operation is None:
            raise ProblemError(
                404, f"The call {call.id} has no such operation. GET /control/calls/{call.id} lists them."
            )
        if operation.is_finished:
            raise ProblemError(409, f"The operation {operation.id} has finished already.")
        return operation


def _somebody_who_joins() -> JsonObject:
    """Return a participant who joins, as members of Graph's call."""
    user = {"@odata.type": "#microsoft.graph.identity", "id": str(uuid.uuid4()), "displayName": "Somebody"}
    return {
        "state": "incoming",
        "direction": "incoming",
        "source": {
            "@odata.type": "#microsoft.graph.participantInfo",
            "identity": {"@odata.type": "#microsoft.graph.identitySet", "user": user},
        },
        "incomingContext": {
            "@odata.type": "#microsoft.graph.incomingContext",
            "observedParticipantId": str(uuid.uuid4()),
            "sourceParticipantId": str(uuid.uuid4()),
        },
    }
