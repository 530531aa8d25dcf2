"""Models of our own events, as their receivers read them.

Rules of version 1, so that a receiver never has to change:

- A member keeps its name, type and meaning. A new member has a default, so that older events still fit the schema.
- A word such as `category` is a plain string, because lists of words grow.
- An event is thin. It has no message of Graph, no metadata of the bot, and no `recordingLocation` or
  `recordingAccessToken`: these may be personal or secret, and the API shows them to those who may read them.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from shared.model import Model, to_utc

VERSION: Literal["1"] = "1"
# Not a `type` statement: that would make a schema of its own, and generators of clients lose a date behind a reference.
_Moment = Annotated[AwareDatetime, AfterValidator(to_utc)]


class _OfCall(Model):
    call_id: str = Field(description="The id of the call, as `GET /api/calls/{callId}` takes it.")
    tenant_id: str = Field(description="The tenant of the call.")
    app_id: str | None = Field(
        description="The client id of the call's bot; null for one that is on record without it."
    )


class _OfWholeCall(_OfCall):
    call_chain_id: str | None = Field(description="Graph's id of the conversation that the call belongs to.")
    direction: str | None = Field(description="incoming or outgoing; null if Graph did not report it.")
    started_at: _Moment = Field(description="The start of the call. If it is unknown: when the call became known.")


class _Codes(Model):
    code: int | None = Field(description="Graph's code; null if it gave none, or one that is not a number.")
    subcode: int | None = Field(description="Graph's subcode, likewise.")
    raw_code: str | None = Field(description="Graph's code, if it was not a number.")
    raw_subcode: str | None = Field(description="Graph's subcode, if it was not a number.")


class _Explained(Model):
    reason: str = Field(description="The explanation, as a sentence.")
    category: str = Field(description="A category of `GET /api/termination-codes`. More may come.")
    action: str | None = Field(description="The advice, as a sentence.")
    fault_owner: str = Field(
        description="The party that caused it and can change it: bot, people, network, service, tenantPolicy, keeper "
        "or unknown. More may come."
    )
    retryable: bool = Field(description="True if the same request, unchanged, may succeed.")


class _OfRecording(_OfCall):
    operation_id: str = Field(
        description="The recording's id. `GET /api/calls/{callId}/operations/{operationId}` shows where it lies."
    )
    client_context: str | None = Field(description="The clientContext that the bot gave the recording.")
    requested_at: _Moment | None = Field(description="Null if it was not requested through Call Keeper.")


# Pydantic lists the fields of the last base first: the ids come before the codes, and these before the explanation.
class CallEstablishedData(_OfWholeCall):
    """A call that was answered."""


class CallEndedData(_Explained, _Codes, _OfWholeCall):
    """The end of a call, and its explanation."""

    revision: int = Field(
        ge=1, description="From 1. It grows each time the end is better explained: the highest one counts."
    )
    ended_at: _Moment = Field(description="The time of the first evidence of the end.")
    ever_established: bool = Field(description="True if the call was answered.")
    source: str = Field(
        description="The evidence: notification, keepAliveNotFound, hangupNotFound or lookupNotFound. More may come."
    )
    termination_reason: str | None = Field(description="Graph's older name for the end, such as AppTransferred.")
    hung_up_by: str | None = Field(
        description="Who hung up through Call Keeper, if Graph accepted that: the name of a caller, or `function key`."
    )


class CallAtRiskData(_Explained, _OfWholeCall):
    """A call whose lease was not renewed for 30 minutes, and why. Graph ends it 45 minutes after its last renewal."""

    renewed_at: _Moment | None = Field(description="The last renewal that is proved; null if there was none.")
    failing_since: _Moment = Field(description="When the keepAlives began to fail.")
    attempts: int = Field(description="The number of keepAlives that failed in a row.")
    retry_at: _Moment = Field(description="When Call Keeper tries again.")
    failure: str = Field(
        description="The failure in a word: throttled, forbidden, notFoundYet, rejected, unavailable, noToken, "
        "postponed or internalError. More may come."
    )
    status: int | None = Field(description="Graph's HTTP status; null without an answer.")
    subcode: int | None = Field(description="The subcode of Graph's answer.")


class RecordingCompletedData(_Codes, _OfRecording):
    """A recording that can be fetched."""

    finished_at: _Moment | None = Field(description="When Graph reported the result.")
    completion_reason: str | None = Field(description="Graph's name for the reason, such as stopToneDetected.")


class RecordingLostData(_Explained, _Codes, _OfRecording):
    """A recording that failed, or whose call ended while it ran, and why."""

    status: str = Field(
        description="failed: Graph reported it. lost: the call ended before Graph reported a result. More may come."
    )
    finished_at: _Moment | None = Field(description="When Graph reported the result; null if it did not.")
    completion_reason: str | None = Field(description="Graph's name for the reason, such as maxSilenceTimeout.")


type EventData = CallEstablishedData | CallEndedData | CallAtRiskData | RecordingCompletedData | RecordingLostData


class _Envelope[Type: str, Data: Model](Model):
    id: str = Field(description="The `webhook-id`. All attempts of a delivery have the same, so it tells repetitions.")
    type: Type = Field(description="What happened.")
    timestamp: _Moment = Field(description="When Call Keeper learned of it.")
    version: Literal["1"] = Field(description="The version of the schema. Members that are added do not change it.")
    data: Data


class CallEstablishedEvent(_Envelope[Literal["call.established"], CallEstablishedData]):
    """A call was answered. Once a call; after call.ended if it is learned late."""


class CallEndedEvent(_Envelope[Literal["call.ended"], CallEndedData]):
    """A call ended. Again, with a higher revision, each time the end is better explained."""


class CallAtRiskEvent(_Envelope[Literal["call.at_risk"], CallAtRiskData]):
    """A call was not renewed for 30 minutes, because its keepAlives fail. Once until a keepAlive succeeds."""


class RecordingCompletedEvent(_Envelope[Literal["recording.completed"], RecordingCompletedData]):
    """A recording can be fetched."""


class RecordingLostEvent(_Envelope[Literal["recording.lost"], RecordingLostData]):
    """A recording failed, or its call ended while it ran."""


EVENT_MODELS: Mapping[str, type[Model]] = {
    "call.established": CallEstablishedEvent,
    "call.ended": CallEndedEvent,
    "call.at_risk": CallAtRiskEvent,
    "recording.completed": RecordingCompletedEvent,
    "recording.lost": RecordingLostEvent,
}


class EventSchema(GenerateJsonSchema):
    """Makes the JSON Schemas of events in a form that generators of typed clients read.

    They understand `"type": ["string", "null"]`, and not the `anyOf` of a type and null that pydantic writes. They
    print titles that repeat the name of a member.
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Return the schema of a value that may be null."""
        inner = self.generate_inner(schema["schema"])
        return {**inner, "type": [inner["type"], "null"]}

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 (pydantic's signature)
        """Return False: no member has a title."""
        return False


def event_schema(event_type: str) -> JsonSchemaValue:
    """Return the JSON Schema (draft 2020-12) of an event."""
    schema = EVENT_MODELS[event_type].model_json_schema(mode="serialization", schema_generator=EventSchema)
    return {
        "$schema": EventSchema.schema_dialect,
        "$id": f"urn:call-keeper:event:{event_type}:{VERSION}",
        **schema,
    }
