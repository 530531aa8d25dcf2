"""Models of responses, in camelCase, which OpenAPI describes too, and the functions that make them of records."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from shared.domain.calls import Call, Operation, Status, TerminationSource
from shared.domain.explanation import explain_keep_alive
from shared.domain.leases import RenewalFailure, Timing, Watermark
from shared.domain.outcomes import explanation_of, status_of
from shared.graph.recording import caller_context
from shared.model import Model, Moment

type Owner = Literal["bot", "people", "network", "service", "tenantPolicy", "keeper", "unknown"]
FAULT_OWNERS = frozenset(get_args(Owner.__value__))


def _owner_or_unknown(given: str) -> str:
    """Return "unknown" for a word of a newer version, so that one record does not make a whole list fail."""
    return given if given in FAULT_OWNERS else "unknown"


type FaultOwner = Annotated[Owner, BeforeValidator(_owner_or_unknown)]
_OWNER = "The party that caused it and can change it."
_RETRYABLE = "True if the same request, unchanged, may succeed."
_CATEGORY = "See /api/termination-codes."


class ExplanationView(Model):
    """The explanation of a failure."""

    reason: str = Field(description="The explanation, as a sentence.")
    category: str = Field(description=_CATEGORY)
    action: str | None = Field(description="The advice, as a sentence.")
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)


class FailingView(Model):
    """The failures of keepAlive since its last success."""

    since: Moment
    attempts: int = Field(description="The number of keepAlives that failed in a row.")
    retry_at: Moment
    reason: str
    status: int | None = Field(description="Graph's HTTP status; null without an answer.")
    subcode: int | None
    explanation: ExplanationView


class LeaseView(Model):
    """The lease of an active call."""

    renewed_at: Moment = Field(description="The last renewal that is proved; until then the start of the call.")
    expires_at: Moment = Field(description="The time at which Graph ends the call if its lease is not renewed.")
    at_risk: bool = Field(description="True if the lease was not renewed for 30 of its 45 minutes.")
    failing: FailingView | None


class TerminationView(Model):
    """The end of a call and its reason."""

    ended_at: Moment = Field(description="The time of the first evidence of the end.")
    code: int | None
    subcode: int | None
    reason: str = Field(description="The explanation, as a sentence.")
    category: str = Field(description=_CATEGORY)
    source: TerminationSource = Field(description="The source of the evidence.")
    action: str | None = Field(description="The advice, as a sentence.")
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)
    message: str | None = Field(description="Graph's message.")
    message_truncated: bool
    raw_code: str | None = Field(description="Graph's code, if it was not a number.")
    raw_subcode: str | None
    termination_reason: str | None = Field(description="Graph's older name for the end, such as AppTransferred.")


class HangupView(Model):
    """The hang-up request that Graph accepted."""

    requested_at: Moment
    requested_by: str


class CallView(Model):
    """A call on record."""

    id: str
    tenant_id: str
    app_id: str | None = Field(description="The client id of the call's bot.")
    status: Status
    state: str = Field(description="Graph's name for the state, in camelCase.")
    ever_established: bool
    started_at: Moment
    registered_at: Moment | None = Field(description="Null if the call is known only from notifications.")
    direction: str | None
    call_chain_id: str | None
    to: str | None = Field(description="The bot's instance, for the relay, as the bot registered it.")
    metadata: dict[str, str]
    lease: LeaseView | None = Field(description="Null once the call has ended.")
    hangup: HangupView | None
    termination: TerminationView | None = Field(description="Null while the call is active.")
    unreadable: list[str] = Field(
        description="Parts of the record that are damaged or of a newer version. They are shown as if left out."
    )


class CallList(Model):
    """A page of calls."""

    value: list[CallView]
    continuation: str | None = Field(description="The parameter that asks for the next page; null on the last.")
    unreadable: list[str] = Field(
        description="Ids of calls of this page whose record cannot be read at all. Empty for a bound caller."
    )


class EventView(Model):
    """A line of a call's event log."""

    at: Moment
    kind: str
    detail: dict[str, str | int | bool | None]


class EventList(Model):
    """The event log of a call, oldest first."""

    value: list[EventView]
    continuation: None = None


class OperationView(Model):
    """An operation of a call, without the recording's location and access token."""

    id: str
    call_id: str
    kind: str
    status: str = Field(
        description="notStarted, running, completed or failed; or lost: the call ended before Graph reported a result."
    )
    client_context: str | None
    requested_at: Moment | None
    requested_by: str | None
    finished_at: Moment | None
    code: int | None
    subcode: int | None
    raw_code: str | None = Field(description="Graph's code, if it was not a number.")
    raw_subcode: str | None
    message: str | None
    completion_reason: str | None
    explanation: ExplanationView | None = Field(description="The reason for failed or lost; otherwise null.")
    unreadable: list[str] = Field(description="Parts of the record that cannot be read, as in a call.")


class RecordingView(OperationView):
    """An operation with the recording's location and access token: null for a caller that may not read recordings."""

    recording_location: str | None = Field(
        description="GET this URL soon, with `Authorization: Bearer` and the recordingAccessToken."
    )
    recording_access_token: str | None


class OperationList(Model):
    """The operations of a call, oldest first."""

    value: list[OperationView]
    continuation: None = None


class _CatalogueEntry(Model):
    """The catalogue's entry of an end."""

    reason: str
    category: str
    source: str
    evidence: Literal["documented", "observed"]
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)
    action: str


class _Codes(Model):
    code: int | None = Field(description="Null: any code.")
    subcode: int | None = Field(description="Null: the meaning of the code without a subcode.")


class _Reason(Model):
    termination_reason: str


# Pydantic lists the fields of the last base first: code and subcode come before the rest.
class TerminationCode(_CatalogueEntry, _Codes):
    """One entry of the catalogue: the meaning of a code and subcode."""


class TerminationReason(_CatalogueEntry, _Reason):
    """The meaning of one of Graph's `terminationReason` values."""


class TerminationCodeList(Model):
    """The catalogue of termination codes."""

    value: list[TerminationCode]
    termination_reasons: list[TerminationReason] = Field(description="Names that Graph sent instead of codes.")
    continuation: None = None


class SweepView(Model):
    """The result of a sweep: numbers of calls, and of shards."""

    renewed: int
    ended: int
    failing: int
    handed_over: int = Field(description="Shards that were left to the queue.")
    purged: int = Field(description="Ended calls that were deleted after their retention.")


class HealthView(Model):
    """The health of Call Keeper."""

    status: Literal["healthy", "degraded", "unhealthy"]
    checks: dict[str, str] = Field(description="ok, or the fault. No value of a setting is shown.")
    version: str
    build: str | None = Field(
        default=None, description="The id of the package that answers, a hash of its content; null in a working copy."
    )


class ProblemError(Model):
    """One fault of a request."""

    pointer: str
    detail: str


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = Field(description="The type of problem, a URN that never changes; docs/api.md lists all types.")
    title: str = Field(description="The same text for all problems of this type.")
    status: int
    detail: str = Field(description="The fault of this request, and the remedy.")
    errors: list[ProblemError] | None = None
    graph_status: int | None = None
    graph_subcode: int | None = None
    graph_request_id: str | None = None


def call_view(call: Call, watermark: Watermark | None, timing: Timing, now: datetime) -> CallView:
    """Return the view of a call. `watermark` is of its shard, and `now` decides if it is at risk."""
    shown = {name: getattr(call, name) for name in CallView.model_fields if name not in {"lease", "termination", "to"}}
    lease = None if call.ended_at else _lease_view(call, watermark, timing, now)
    return CallView.model_validate(
        {**shown, "to": call.relay_to, "lease": lease, "termination": _termination_view(call)}
    )


def _lease_view(call: Call, watermark: Watermark | None, timing: Timing, now: datetime) -> LeaseView:
    renewed_at = call.lease.last_renewal(watermark, timing)
    return LeaseView(
        renewed_at=renewed_at,
        expires_at=renewed_at + timing.lease,
        at_risk=now - renewed_at >= timing.at_risk_after,
        failing=_failing_view(call.failing) if call.failing else None,
    )


def _failing_view(failing: RenewalFailure) -> FailingView:
    shown = {name: getattr(failing, name) for name in FailingView.model_fields if name != "explanation"}
    explanation = explain_keep_alive(failing.reason, failing.status, failing.subcode)
    return FailingView.model_validate({**shown, "explanation": ExplanationView.model_validate(explanation)})


def _termination_view(call: Call) -> TerminationView | None:
    termination = call.termination
    if termination is None or call.ended_at is None:
        return None
    shown = {name: getattr(termination, name) for name in TerminationView.model_fields if name != "ended_at"}
    return TerminationView.model_validate({**shown, "ended_at": call.ended_at})


def recording_view(operation: Operation, call: Call, *, show_secrets: bool) -> RecordingView:
    """Return the view of an operation, with the recording's location and token only if `show_secrets` is true.

    A `clientContext` that Call Keeper made up is not shown, because the caller did not send it.
    """
    shown = {name: getattr(operation, name) for name in RecordingView.model_fields if name != "explanation"}
    shown["status"] = status = status_of(operation, call)
    explanation = explanation_of(operation, status)
    shown["explanation"] = ExplanationView.model_validate(explanation) if explanation else None
    shown["client_context"] = caller_context(operation.client_context)
    if not show_secrets:
        shown["recording_location"] = shown["recording_access_token"] = None
    return RecordingView.model_validate(shown)


def operation_view(operation: Operation, call: Call) -> OperationView:
    """Return the view of an operation in a list, without the recording's location and token."""
    return OperationView.model_validate(recording_view(operation, call, show_secrets=False))
