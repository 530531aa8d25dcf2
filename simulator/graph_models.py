"""Models of the request bodies of Graph's clients, with the documented limits.

Graph's `call` is an open type, but these models refuse unknown members: a simulator should find misspelt members,
which Graph ignores silently.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from simulator.wire import Json

type Seconds = Annotated[int, Field(ge=1, le=120)]  # Graph: call-record page
type ClientContext = Annotated[str, Field(max_length=256)]  # Graph: call-record, call-playprompt pages


class GraphModel(BaseModel):
    """A JSON object of Graph. `@odata.type` is optional. Numbers and text are not converted into each other."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, frozen=True)

    odata_type: str | None = Field(None, alias="@odata.type")


class Identity(GraphModel):
    """`identity`. `tenantId` is in the examples, but not in the type, which is open."""

    id: str | None = None
    display_name: str | None = None
    tenant_id: str | None = None
    identity_provider: str | None = None


class IdentitySet(GraphModel):
    """`identitySet`, with the members that Teams adds to this open type."""

    application: Identity | None = None
    application_instance: Identity | None = None
    device: Identity | None = None
    user: Identity | None = None
    phone: Identity | None = None
    guest: Identity | None = None
    encrypted: Identity | None = None


class Participant(GraphModel):
    """`participantInfo`."""

    identity: IdentitySet
    country_code: str | None = None
    endpoint_type: str | None = None
    language_id: str | None = None
    participant_id: str | None = None
    region: str | None = None


class InvitedParticipant(GraphModel):
    """`invitationParticipantInfo`."""

    identity: IdentitySet
    hidden: bool | None = None
    endpoint_type: str | None = None
    participant_id: str | None = None
    remove_from_default_audio_routing_group: bool | None = None
    replaces_call_id: str | None = None


class MediaInfo(GraphModel):
    """`mediaInfo`."""

    uri: str
    resource_id: str | None = None


class Prompt(GraphModel):
    """`mediaPrompt`. `loop` is a member of 2018."""

    odata_type: Literal["#microsoft.graph.mediaPrompt"] | None = Field(None, alias="@odata.type")
    media_info: MediaInfo
    loop: int | None = None


class ServiceHosted(GraphModel):
    """`serviceHostedMediaConfig`. `removeFromDefaultAudioGroup` is in the example of a group call."""

    odata_type: Literal["#microsoft.graph.serviceHostedMediaConfig"] = Field(alias="@odata.type")
    pre_fetch_media: list[MediaInfo] | None = None
    remove_from_default_audio_group: bool | None = None


class AppHosted(GraphModel):
    """`appHostedMediaConfig`."""

    odata_type: Literal["#microsoft.graph.appHostedMediaConfig"] = Field(alias="@odata.type")
    blob: str | None = None
    remove_from_default_audio_group: bool | None = None


type MediaConfig = Annotated[ServiceHosted | AppHosted, Field(discriminator="odata_type")]


class ChatInfo(GraphModel):
    """`chatInfo`."""

    thread_id: str | None = None
    message_id: str | None = None
    reply_chain_message_id: str | None = None


class OrganizerMeeting(GraphModel):
    """`organizerMeetingInfo`."""

    odata_type: Literal["#microsoft.graph.organizerMeetingInfo"] = Field(alias="@odata.type")
    organizer: IdentitySet
    allow_conversation_without_host: bool | None = None


class TokenMeeting(GraphModel):
    """`tokenMeetingInfo`."""

    odata_type: Literal["#microsoft.graph.tokenMeetingInfo"] = Field(alias="@odata.type")
    token: str


class JoinIdMeeting(GraphModel):
    """`joinMeetingIdMeetingInfo`."""

    odata_type: Literal["#microsoft.graph.joinMeetingIdMeetingInfo"] = Field(alias="@odata.type")
    join_meeting_id: str
    passcode: str | None = None
    allow_conversation_without_host: bool | None = None


class CallOptions(GraphModel):
    """`outgoingCallOptions` and `incomingCallOptions`."""

    hide_bot_after_escalation: bool | None = None
    is_content_sharing_notification_enabled: bool | None = None
    is_delta_roster_enabled: bool | None = None
    is_interactive_roster_enabled: bool | None = None


def _uncapitalized(value: object) -> object:
    """Return a word with a small initial. Microsoft's calling SDK sends enum values with a capital, as `Audio`."""
    return value[:1].lower() + value[1:] if isinstance(value, str) else value


type Modality = Annotated[Literal["audio", "video", "videoBasedScreenSharing", "data"], BeforeValidator(_uncapitalized)]
type Outgoing = Annotated[Literal["outgoing"], BeforeValidator(_uncapitalized)]
type RejectReason = Annotated[Literal["none", "busy", "forbidden"], BeforeValidator(_uncapitalized)]


class CreateCall(GraphModel):
    """The body of POST /communications/calls (Graph: application-post-calls page)."""

    callback_uri: str
    requested_modalities: list[Modality] | None = None
    media_config: MediaConfig
    targets: list[InvitedParticipant] | None = None
    source: Participant | None = None
    direction: Outgoing | None = None
    subject: str | None = None
    call_options: CallOptions | None = None
    call_chain_id: str | None = None
    chat_info: ChatInfo | None = None
    meeting_info: (
        Annotated[OrganizerMeeting | TokenMeeting | JoinIdMeeting, Field(discriminator="odata_type")] | None
    ) = None
    incoming_context: dict[str, Json] | None = None
    tenant_id: str | None = None


class Answer(GraphModel):
    """The body of answer (Graph: call-answer page)."""

    callback_uri: str | None = None
    accepted_modalities: list[Modality]
    media_config: MediaConfig
    call_options: CallOptions | None = None
    participant_capacity: int | None = None


class Reject(GraphModel):
    """The body of reject (Graph: call-reject page)."""

    reason: RejectReason | None = None
    callback_uri: str | None = None


class RecordResponse(GraphModel):
    """The body of recordResponse (Graph: call-record page)."""

    prompts: list[Prompt] | None = Field(None, max_length=1)
    barge_in_allowed: bool = False
    initial_silence_timeout_in_seconds: Seconds = 5
    max_silence_timeout_in_seconds: Seconds = 5
    max_record_duration_in_seconds: Seconds = 5
    play_beep: bool = True
    stop_tones: list[str] | None = None
    client_context: ClientContext | None = None


# The page of 2018 has no upper limit, and its example has 1800. The limit here keeps the sums within timedelta.
type SecondsOf2018 = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Record(GraphModel):
    """The body of the record action of 2018 (Graph: call-record page of November 2018)."""

    prompts: list[Prompt] | None = None
    barge_in_allowed: bool = False
    initial_silence_timeout_in_seconds: SecondsOf2018 = 5
    max_silence_timeout_in_seconds: SecondsOf2018 = 5
    max_record_duration_in_seconds: SecondsOf2018 = 5
    play_beep: bool = True
    stream_while_recording: bool = False
    recording_format: Literal["wav", "wma", "mp3"] | None = None
    stop_tones: list[str] | None = None
    client_context: ClientContext | None = None


class PlayPrompt(GraphModel):
    """The body of playPrompt (Graph: call-playprompt page, at most 20 prompts)."""

    prompts: list[Prompt] = Field(min_length=1, max_length=20)
    client_context: ClientContext | None = None


class SubscribeToTone(GraphModel):
    """The body of subscribeToTone (Graph: call-subscribeToTone page)."""

    client_context: ClientContext | None = None


class CancelMediaProcessing(GraphModel):
    """The body of cancelMediaProcessing (Graph: call-cancelmediaprocessing page)."""

    client_context: ClientContext | None = None
