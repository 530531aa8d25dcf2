"""The parameters of a recording, under Graph's names."""

import re
import secrets
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo
from pydantic.alias_generators import to_camel

_MAX_SECONDS = 120  # seconds. Graph: call-record page
_MAX_TONES = 16  # there are 16 DTMF tones
_OWN_CONTEXT = re.compile(r"call-keeper:[0-9a-f]{32}")
_OLD_ACTION_ONLY = "belongs to Graph's old record action: leave it out, or set GRAPH_RECORD_API=record"


def _is_old_action(info: ValidationInfo) -> bool:
    return info.context == "record"


def _only_with_old_action[Value](value: Value, info: ValidationInfo) -> Value:
    if value is not None and not _is_old_action(info):
        raise ValueError(_OLD_ACTION_ONLY)
    return value


def _check_seconds(value: int | None, info: ValidationInfo) -> int | None:
    if value is not None and value > _MAX_SECONDS and not _is_old_action(info):
        raise ValueError(f"must be 1 to {_MAX_SECONDS} seconds: Graph records short responses, not whole calls")
    return value


def _check_tone(value: str, info: ValidationInfo) -> str:
    # The example on the page of the old action has the tone "11".
    if not re.fullmatch(r"[0-9*#A-D]{1,2}" if _is_old_action(info) else r"[0-9*#A-D]", value):
        raise ValueError("must be one DTMF tone: 0 to 9, *, #, A to D")
    return value


def _check_https(value: str) -> str:
    if not (value.startswith("https://") and value.isprintable() and " " not in value and urlsplit(value).hostname):
        raise ValueError("must be an https URL that Graph can fetch")
    return value


type _OldBool = Annotated[bool | None, AfterValidator(_only_with_old_action)]
type _OldText = Annotated[
    Annotated[str, Field(min_length=1, max_length=32)] | None, AfterValidator(_only_with_old_action)
]
type _OldCount = Annotated[Annotated[int, Field(ge=1, le=1000)] | None, AfterValidator(_only_with_old_action)]
type _Seconds = Annotated[Annotated[int, Field(ge=1, le=2**31 - 1)] | None, AfterValidator(_check_seconds)]
type _Tone = Annotated[str, AfterValidator(_check_tone)]


class _GraphType(BaseModel):
    """A complex type of Graph, in its camelCase. Only members that were set are sent."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)


class MediaInfo(_GraphType):
    """The location of the sound of a prompt."""

    odata_type: Literal["#microsoft.graph.mediaInfo"] | None = Field(None, alias="@odata.type")
    uri: Annotated[str, Field(max_length=2048), AfterValidator(_check_https)] = Field(
        description="https URL of a WAV file (16-bit mono PCM, 16 kHz) that Graph fetches."
    )
    resource_id: str | None = Field(
        None, max_length=256, description="A name of the sound, so that Graph may cache it."
    )


_PromptType = Literal["#microsoft.graph.mediaPrompt"]
_MEDIA_PROMPT: _PromptType = "#microsoft.graph.mediaPrompt"


def _with_default_type(given: object) -> object:
    """Return the type that Graph requires if the caller left it out. Null means left out, as in all bodies."""
    return _MEDIA_PROMPT if given is None else given


class MediaPrompt(_GraphType):
    """A sound that Graph plays before the recording."""

    odata_type: Annotated[
        _PromptType, BeforeValidator(_with_default_type, json_schema_input_type=_PromptType | None)
    ] = Field(_MEDIA_PROMPT, alias="@odata.type")
    media_info: MediaInfo
    loop: _OldCount = Field(None, description="How often the sound is played. Only with GRAPH_RECORD_API=record.")


class RecordRequest(_GraphType):
    """A recording of one participant's short response, after an optional prompt. Graph has a default for each member.

    Durations are whole seconds, 1 to 120. The context of the validation is GRAPH_RECORD_API: `record` also accepts the
    values of the old action. Graph: call-record page.
    """

    prompts: Annotated[tuple[MediaPrompt, ...], Field(max_length=1)] | None = Field(
        None, description="At most one prompt to play first."
    )
    barge_in_allowed: bool | None = Field(None, description="True to interrupt media that is queued or playing.")
    initial_silence_timeout_in_seconds: _Seconds = Field(
        None, description="Seconds of silence at the start after which it fails."
    )
    max_silence_timeout_in_seconds: _Seconds = Field(None, description="Seconds of silence after speech that end it.")
    max_record_duration_in_seconds: _Seconds = Field(None, description="Its longest duration, in seconds.")
    play_beep: bool | None = Field(None, description="True to play a beep before it.")
    stop_tones: Annotated[tuple[_Tone, ...], Field(max_length=_MAX_TONES)] | None = Field(
        None, description="Tones that end it: 0 to 9, *, #, A to D."
    )
    client_context: str | None = Field(
        None, max_length=256, description="Returned in the operation. If it is left out, Graph gets one of our own."
    )
    stream_while_recording: _OldBool = Field(None, description="Only with GRAPH_RECORD_API=record.")
    recording_format: _OldText = Field(None, description="Such as wav. Only with GRAPH_RECORD_API=record.")

    def graph_body(self) -> dict[str, object]:
        """Return the JSON body for Graph: the members that the caller set, and the type of each prompt."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def with_context(self) -> "RecordRequest":
        """Return the request with a `clientContext`: the caller's, else one of our own.

        A bot on Microsoft's calling SDK answers 400 to a whole body of notifications if one operation in it has none.
        """
        if self.client_context:
            return self
        return self.model_copy(update={"client_context": f"call-keeper:{secrets.token_hex(16)}"})


def caller_context(client_context: str | None) -> str | None:
    """Return the context that a caller gave, or None for one of our own."""
    return None if client_context and _OWN_CONTEXT.fullmatch(client_context) else client_context
