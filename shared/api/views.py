"""What the API takes and gives, in camelCase: the models that answer requests and describe themselves in OpenAPI."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)
from pydantic.alias_generators import to_camel

from shared.domain.calls import Call, Operation, Status, TerminationSource
from shared.domain.explanation import LOST_OPERATION, Facts, explain_keep_alive, explain_operation
from shared.domain.leases import RenewalFailure, Timing, Watermark
from shared.graph.recording import caller_context
from shared.identifiers import NOT_A_GUID, is_guid

MAX_METADATA_KEYS = 50
MAX_METADATA_SIZE = 16_384  # characters in all; Table Storage takes 32,768 a property
GUID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

_REFUSED_CHARACTERS = re.compile(
    "[\x7f\ufffe\uffff]"
)  # JSON writes other control characters as escapes, and these as they are
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_MIN_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)  # no call of Graph's is older; Table Storage's times begin in 1601


def _check_rfc3339(given: object) -> object:
    """Pydantic takes a number in quotes, too: for seconds or milliseconds, by its size."""
    if not isinstance(given, str) or not _RFC3339.fullmatch(given):
        raise ValueError("must be a time of RFC 3339 with an offset, such as 2026-11-21T09:00:12Z")
    return given


def _without_nulls(given: object) -> object:
    """Null means left out: generated clients (NSwag) write every member that was not set as null."""
    if given is None:
        return {}
    return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


def _check_plausible(moment: datetime) -> datetime:
    if moment < _MIN_MOMENT:
        raise ValueError("must lie after the year 2000")
    return moment


def _check_guid(text: str) -> str:
    if not is_guid(text):
        raise ValueError(NOT_A_GUID)
    return text


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years that UTC has") from None


type Guid = Annotated[str, AfterValidator(_check_guid), Field(json_schema_extra={"pattern": GUID_PATTERN})]
type Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
type PlausibleMoment = Annotated[
    AwareDatetime, BeforeValidator(_check_rfc3339), AfterValidator(_check_plausible), AfterValidator(_to_utc)
]

MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=128)]
MetadataValue = Annotated[str, StringConstraints(max_length=4096)]


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Hold metadata to its bounds.

    Raises
    ------
    ValueError
        There are too many keys, too many characters in all, or some that storage refuses.
    """
    if any(_REFUSED_CHARACTERS.search(text) for pair in metadata.items() for text in pair):
        raise ValueError("keep U+007F, U+FFFE and U+FFFF out of metadata: storage refuses them")
    if len(metadata) > MAX_METADATA_KEYS:
        raise ValueError(f"keep metadata to {MAX_METADATA_KEYS} texts")
    if sum(len(key) + len(text) for key, text in metadata.items()) > MAX_METADATA_SIZE:
        raise ValueError(f"keep metadata below {MAX_METADATA_SIZE} characters in all")


class Model(BaseModel):
    """The base of all: camelCase outside, snake_case inside, made from what has the same attributes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True, frozen=True)


class RegisterCall(Model):
    """A bot makes a call known."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="forbid")

    tenant_id: Guid | None = Field(
        default=None, description="The tenant of the call. May be left out where GRAPH_TENANT_ID is set."
    )
    app_id: Guid | None = Field(
        default=None,
        description="The bot whose call it is. Needed with GRAPH_APPS, while the call is not known.",
    )
    started_at: PlausibleMoment | None = Field(
        default=None,
        description="When the call began, or was last renewed by the bot; RFC 3339 with an offset. Default: now.",
    )
    metadata: Annotated[
        dict[MetadataKey, MetadataValue],
        BeforeValidator(_without_nulls, json_schema_input_type=dict[MetadataKey, MetadataValue | None] | None),
    ] = Field(
        default_factory=dict,
        max_length=MAX_METADATA_KEYS,
        description=f"The bot's own words, at most {MAX_METADATA_KEYS} texts and {MAX_METADATA_SIZE} characters in "
        "all. No secrets: it is shown to every reader.",
    )

    @field_validator("metadata")
    @classmethod
    def _bounded(cls, value: dict[str, str]) -> dict[str, str]:
        check_metadata(value)
        return value


type Owner = Literal["bot", "people", "network", "service", "tenantPolicy", "keeper", "unknown"]
FAULT_OWNERS = frozenset(get_args(Owner.__value__))


def _owner_or_unknown(given: str) -> str:
    """A newer version may have written a word that this one does not know; that must not spoil a list of calls."""
    return given if given in FAULT_OWNERS else "unknown"


type FaultOwner = Annotated[Owner, BeforeValidator(_owner_or_unknown)]
_OWNER = "Who can change it."
_RETRYABLE = "Whether the same again, unchanged, may succeed."


class ExplanationView(Model):
    """Why something failed."""

    reason: str = Field(description="In plain words.")
    category: str = Field(description="See /api/termination-codes.")
    action: str | None = Field(description="What to do about it.")
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)


class FailingView(Model):
    """That keepAlive does not succeed at the moment."""

    since: Moment
    attempts: int = Field(description="keepAlives that failed in a row.")
    retry_at: Moment
    reason: str
    status: int | None = Field(description="Graph's HTTP status, null where it did not answer.")
    subcode: int | None
    explanation: ExplanationView


class LeaseView(Model):
    """How safe an active call is."""

    renewed_at: Moment = Field(description="The last renewal that can be proved; at first the start of the call.")
    expires_at: Moment = Field(description="When Graph ends the call if nobody renews it.")
    at_risk: bool = Field(description="Not renewed for 30 of the 45 minutes.")
    failing: FailingView | None


class TerminationView(Model):
    """Why the call ended."""

    ended_at: Moment = Field(description="The first evidence of the end.")
    code: int | None
    subcode: int | None
    reason: str = Field(description="In plain words.")
    category: str = Field(description="See /api/termination-codes.")
    source: TerminationSource = Field(description="Who told.")
    action: str | None = Field(description="What to do about it.")
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)
    message: str | None = Field(description="Graph's own words.")
    message_truncated: bool
    raw_code: str | None = Field(description="Graph's code where it was no number.")
    raw_subcode: str | None
    termination_reason: str | None = Field(description="Graph's older word for the end, e.g. AppTransferred.")


class HangupView(Model):
    """Who asked for the hang-up."""

    requested_at: Moment
    requested_by: str


class CallView(Model):
    """A call on record."""

    id: str
    tenant_id: str
    app_id: str | None = Field(description="The bot whose call it is: its client id.")
    status: Status
    state: str = Field(description="Graph's word for the state, camelCase.")
    ever_established: bool
    started_at: Moment
    registered_at: Moment | None = Field(description="Null: known by notifications only.")
    direction: str | None
    call_chain_id: str | None
    metadata: dict[str, str]
    lease: LeaseView | None = Field(description="Null once the call has ended.")
    hangup: HangupView | None
    termination: TerminationView | None = Field(description="Null while the call is active.")
    unreadable: list[str] = Field(
        description="Parts of the record that are damaged, or of a newer version: they are shown as if left out."
    )


class CallList(Model):
    """A page of calls."""

    value: list[CallView]
    continuation: str | None = Field(description="Ask for the next page with it; null after the last.")
    unreadable: list[str] = Field(
        description="Ids of calls of this page whose record cannot be read at all; only for callers of all calls."
    )


class EventView(Model):
    """A line of a call's story."""

    at: Moment
    kind: str
    detail: dict[str, str | int | bool | None]


class EventList(Model):
    """The story of a call, oldest first."""

    value: list[EventView]
    continuation: None = None


class OperationView(Model):
    """An operation of a call, without what only a reader of recordings may see."""

    id: str
    call_id: str
    kind: str
    status: str = Field(
        description="notStarted, running, completed, failed; or lost: the call ended before Graph told of it."
    )
    client_context: str | None
    requested_at: Moment | None
    requested_by: str | None
    finished_at: Moment | None
    code: int | None
    subcode: int | None
    raw_code: str | None = Field(description="Graph's code if it was no number.")
    raw_subcode: str | None
    message: str | None
    completion_reason: str | None
    explanation: ExplanationView | None = Field(description="Why it failed or is lost; else null.")
    unreadable: list[str] = Field(description="As of a call.")


class RecordingView(OperationView):
    """An operation with the place of its recording and the token to fetch it: null for who may not read recordings."""

    recording_location: str | None = Field(
        description="GET it soon, with `Authorization: Bearer` and the recordingAccessToken."
    )
    recording_access_token: str | None


class OperationList(Model):
    """The operations of a call, oldest first."""

    value: list[OperationView]
    continuation: None = None


class TerminationCode(Model):
    """One row of the catalogue of end codes."""

    code: int | None = Field(description="Null: any code.")
    subcode: int | None = Field(description="Null: what the code means by itself.")
    reason: str
    category: str
    source: str
    evidence: Literal["documented", "observed"]
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)
    action: str


class TerminationReason(Model):
    """What a `terminationReason` of Graph's means."""

    termination_reason: str
    reason: str
    category: str
    source: str
    evidence: Literal["documented", "observed"]
    fault_owner: FaultOwner = Field(description=_OWNER)
    retryable: bool = Field(description=_RETRYABLE)
    action: str


class TerminationCodeList(Model):
    """The catalogue of end codes."""

    value: list[TerminationCode]
    termination_reasons: list[TerminationReason] = Field(description="Words that Graph sent instead of codes.")
    continuation: None = None


class SweepView(Model):
    """What a sweep did."""

    renewed: int
    ended: int
    failing: int
    handed_over: int = Field(description="Shards left to the queue.")
    purged: int = Field(description="Ended calls deleted after their retention.")


class HealthView(Model):
    """Whether Call Keeper can do its work."""

    status: Literal["healthy", "degraded", "unhealthy"]
    checks: dict[str, str] = Field(description="ok, or what is wrong; no values of settings.")
    version: str
    build: str | None = Field(
        default=None, description="The package that answers, a hash of its content; null in a working copy."
    )


class ProblemError(Model):
    """One fault of a request."""

    pointer: str
    detail: str


class Problem(Model):
    """An error (RFC 9457)."""

    type: str = Field(description="The type of problem, a URN that never changes; docs/api.md lists all types.")
    title: str = Field(description="The same for all problems of this type.")
    status: int
    detail: str = Field(description="What happened here, and what to do.")
    errors: list[ProblemError] | None = None
    graph_status: int | None = None
    graph_subcode: int | None = None
    graph_request_id: str | None = None


def call_view(call: Call, watermark: Watermark | None, timing: Timing, now: datetime) -> CallView:
    """A call as the API shows it."""
    shown = {name: getattr(call, name) for name in CallView.model_fields if name not in {"lease", "termination"}}
    lease = None if call.ended_at else _lease_view(call, watermark, timing, now)
    return CallView.model_validate({**shown, "lease": lease, "termination": _termination_view(call)})


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
    """An operation as its own route shows it; the place and token of a recording only with `show_secrets`.

    A `clientContext` that we made up is not shown: it is none of the caller's.
    """
    shown = {name: getattr(operation, name) for name in RecordingView.model_fields if name != "explanation"}
    if call.ended_at is not None and not operation.is_finished:
        shown["status"] = "lost"
    shown["explanation"] = _explain_operation(operation, str(shown["status"]))
    shown["client_context"] = caller_context(operation.client_context)
    if not show_secrets:
        shown["recording_location"] = shown["recording_access_token"] = None
    return RecordingView.model_validate(shown)


def _explain_operation(operation: Operation, status: str) -> ExplanationView | None:
    match status:
        case "lost":
            return ExplanationView.model_validate(LOST_OPERATION)
        case "failed":
            facts = Facts(operation.code, operation.subcode, message=operation.message)
            return ExplanationView.model_validate(explain_operation(facts, operation.completion_reason))
        case _:
            return None


def operation_view(operation: Operation, call: Call) -> OperationView:
    """An operation as a list shows it."""
    return OperationView.model_validate(recording_view(operation, call, show_secrets=False))
