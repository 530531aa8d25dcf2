"""The control API's handlers for calls: create, list, end, forget, notify, tones, operations."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.calls import NewCall
from simulator.control import models, views
from simulator.control.responses import ProblemError, list_response, object_response, read_body
from simulator.notifications import custom_notification, joining_notification, tone_notification
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
        is_ringing = body.state == "incoming"
        incoming = is_ringing or body.direction is CallDirection.INCOMING
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
                    details=body.details or (_somebody_who_calls(body.app_id) if is_ringing else {}),
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

    async def press_key(self, request: Request) -> Response:
        """Let the person press a key: it stops a recording, and is notified if the bot has subscribed to tones."""
        call, body = self._active_call(request), await read_body(request, models.ToneBody)
        if call.state is not CallState.ESTABLISHED:
            raise ProblemError(409, f"The call {call.id} is {call.state}. Keys can be pressed when it is established.")
        is_heard = self._simulation.operations.stop_by_tone(call, body.tone)
        if call.hears_tones:
            call.tones += 1
            delivery = self._simulation.delivery
            delivery.send(call, tone_notification(call, body.tone, call.tones, delivery.settings_of(call).shape))
        elif not is_heard:
            raise ProblemError(
                409,
                f"The bot does not hear {body.tone}: it has not sent subscribeToTone for the call {call.id}, "
                "and no recording with this stop tone is running.",
            )
        return await self.get_call(request)

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


def _somebody_who_calls(app_id: str) -> JsonObject:
    """Return a user who calls the bot, as members of Graph's call (Graph: call-answer page)."""
    bot = _identity_set("application", app_id, "Calling Bot")
    return {
        "source": {"@odata.type": "#microsoft.graph.participantInfo", "identity": _somebody()},
        "targets": [{"@odata.type": "#microsoft.graph.invitationParticipantInfo", "identity": bot}],
        "requestedModalities": ["audio"],
    }


def _somebody_who_joins() -> JsonObject:
    """Return a participant who joins, as members of Graph's call."""
    return {
        "state": "incoming",
        "direction": "incoming",
        "source": {"@odata.type": "#microsoft.graph.participantInfo", "identity": _somebody()},
        "incomingContext": {
            "@odata.type": "#microsoft.graph.incomingContext",
            "observedParticipantId": str(uuid.uuid4()),
            "sourceParticipantId": str(uuid.uuid4()),
        },
    }


def _somebody() -> JsonObject:
    return _identity_set("user", str(uuid.uuid4()), "Somebody")


def _identity_set(kind: str, identity_id: str, name: str) -> JsonObject:
    identity = {"@odata.type": "#microsoft.graph.identity", "id": identity_id, "displayName": name}
    return {"@odata.type": "#microsoft.graph.identitySet", kind: identity}
