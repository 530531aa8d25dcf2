"""Response objects of the control API."""

from datetime import datetime
from typing import Self

from simulator.faults import ActiveFault, Fault, OperationName
from simulator.journal import JournalEntry
from simulator.records import Attempt, Call, CallDirection, CallState, Notification, Operation, OperationStatus
from simulator.wire import ControlModel, Json


class AttemptView(ControlModel):
    """One POST to the bot: the status, headers and body of its response, or an error. Header names are lower case."""

    at: datetime
    status: int | None
    error: str | None
    headers: dict[str, str]
    body: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """Return the view of an attempt."""
        return cls(**{name: getattr(attempt, name) for name in cls.model_fields})


class NotificationView(ControlModel):
    """One notification and its attempts. A lost one is never sent."""

    id: str
    created_at: datetime
    change_type: str
    resource: str
    state: str | None
    delivered: bool
    lost: bool
    attempts: list[AttemptView]
    item: dict[str, Json]

    @classmethod
    def of(cls, notification: Notification) -> Self:
        """Return the view of a notification."""
        item, data = dict(notification.item), notification.item.get("resourceData")
        state = data.get("state") or data.get("status") if isinstance(data, dict) else None
        return cls(
            id=notification.id,
            created_at=notification.created_at,
            change_type=str(item["changeType"]),
            resource=str(item.get("resourceUrl") or item.get("resource")),
            state=str(state) if state else None,
            delivered=notification.is_delivered,
            lost=notification.lost,
            attempts=[AttemptView.of(each) for each in notification.attempts],
            item=item,
        )


class OperationView(ControlModel):
    """One operation of a call."""

    id: str
    kind: str
    status: OperationStatus
    client_context: str | None
    created_at: datetime
    finished_at: datetime | None
    code: int | None
    subcode: int | None
    completion_reason: str | None
    recording_location: str | None

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """Return the view of an operation."""
        outcome, recording = operation.outcome, operation.recording
        return cls(
            id=operation.id,
            kind=operation.kind,
            status=operation.status,
            client_context=operation.client_context,
            created_at=operation.created_at,
            finished_at=operation.finished_at,
            code=outcome.code if outcome else None,
            subcode=outcome.subcode if outcome else None,
            completion_reason=outcome.completion_reason if outcome else None,
            recording_location=recording.location if recording else None,
        )


class LeaseView(ControlModel):
    """The lease of a call. `remainingSeconds` is simulated time, and 0 if the call is over."""

    renewed_at: datetime
    expires_at: datetime
    remaining_seconds: float


class CallSummary(ControlModel):
    """A call in the list of all calls. It is over if it has terminated or is forgotten."""

    id: str
    tenant_id: str
    app_id: str
    direction: CallDirection
    state: CallState
    over: bool
    forgotten: bool
    started_at: datetime
    lease: LeaseView
    keep_alives: int
    ended_at: datetime | None
    code: int | None
    subcode: int | None
    message: str | None

    @classmethod
    def of(cls, call: Call, now: datetime) -> "CallSummary":
        """Return the view of a call at this simulated time."""
        remaining = 0.0 if call.is_over else (call.expires_at - now).total_seconds()
        return CallSummary(
            id=call.id,
            tenant_id=call.tenant_id,
            app_id=call.app_id,
            direction=call.direction,
            state=call.state,
            over=call.is_over,
            forgotten=call.forgotten,
            started_at=call.started_at,
            lease=LeaseView(renewed_at=call.renewed_at, expires_at=call.expires_at, remaining_seconds=remaining),
            keep_alives=len(call.keep_alives),
            ended_at=call.ended_at,
            code=call.end.code if call.end else None,
            subcode=call.end.subcode if call.end else None,
            message=call.end.message if call.end else None,
        )


class CallView(CallSummary):
    """A call with its keepAlives, operations and notifications."""

    callback_uri: str | None
    keep_alive_times: list[datetime]
    operations: list[OperationView]
    notifications: list[NotificationView]

    @classmethod
    def of(cls, call: Call, now: datetime) -> "CallView":
        """Return the view of a call at this simulated time."""
        return CallView(
            **CallSummary.of(call, now).model_dump(),
            callback_uri=call.callback_uri,
            keep_alive_times=call.keep_alives,
            operations=[OperationView.of(each) for each in call.operations.values()],
            notifications=[NotificationView.of(each) for each in call.notifications],
        )


class FaultView(ControlModel):
    """A fault that is not over."""

    id: str
    hits: int
    until: datetime | None
    fault: Fault

    @classmethod
    def of(cls, active: ActiveFault) -> Self:
        """Return the view of a fault."""
        return cls(id=active.id, hits=active.hits, until=active.until, fault=active.fault)


class RequestView(ControlModel):
    """One request that the simulator received. `status` is null for a dropped connection."""

    at: datetime
    operation: OperationName
    method: str
    path: str
    call_id: str | None
    tenant_id: str | None
    app_id: str | None
    headers: dict[str, str]
    status: int | None
    fault_id: str | None

    @classmethod
    def of(cls, entry: JournalEntry) -> Self:
        """Return the view of a request."""
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})
