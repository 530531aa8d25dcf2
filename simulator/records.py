"""The records of calls, of their operations and of their notifications, with the enums and durations of a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.wire import JsonObject

LEASE = timedelta(minutes=45)  # Graph: call-keepAlive page
ANSWER_TIMEOUT = timedelta(seconds=15)  # Graph: call-answer page
RINGING_DELAY = timedelta(seconds=0.1)  # simulated: from the creation or answer to the notified `establishing`
ESTABLISHING_DELAY = timedelta(seconds=1)  # simulated: from the creation or answer to `established`
TERMINATING_DELAY = timedelta(seconds=1)  # simulated: from the hang-up to `terminated`

_FIRST_REDIRECT = 300  # the statuses below it are 2xx


class CallState(StrEnum):
    """Graph's `callState`, as far as the simulator uses it."""

    INCOMING = "incoming"
    ESTABLISHING = "establishing"
    ESTABLISHED = "established"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class CallDirection(StrEnum):
    """Graph's `callDirection`."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The reason why a call ended: Graph's `resultInfo`."""

    code: int
    subcode: int
    message: str


class OperationKind(StrEnum):
    """The media actions, named like Graph's operation types."""

    RECORD_RESPONSE = "recordResponse"
    RECORD = "record"
    PLAY_PROMPT = "playPrompt"
    CANCEL = "cancelMediaProcessing"
    SUBSCRIBE_TO_TONE = "subscribeToTone"


class Tone(StrEnum):
    """The keys of a telephone: Graph's `tone`."""

    TONE0 = "tone0"
    TONE1 = "tone1"
    TONE2 = "tone2"
    TONE3 = "tone3"
    TONE4 = "tone4"
    TONE5 = "tone5"
    TONE6 = "tone6"
    TONE7 = "tone7"
    TONE8 = "tone8"
    TONE9 = "tone9"
    STAR = "star"
    POUND = "pound"
    A = "a"
    B = "b"
    C = "c"
    D = "d"
    FLASH = "flash"

    @property
    def key(self) -> str:
        """Return the tone as `stopTones` of a recording name it (Graph: the example of the call-record page)."""
        return {"star": "*", "pound": "#"}.get(self.value, self.value.removeprefix("tone"))


class OperationStatus(StrEnum):
    """Graph's `operationStatus`, in the spelling of its examples."""

    NOT_STARTED = "notStarted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a finished operation: Graph's `resultInfo` and `completionReason`."""

    status: OperationStatus
    code: int
    subcode: int
    message: str
    completion_reason: str


@dataclass(frozen=True, slots=True)
class Recording:
    """The URL of a recording's file, and the bearer token that gives access to it."""

    id: str
    location: str
    access_token: str


@dataclass(slots=True)
class Operation:
    """One operation of a call. `stream` is `streamWhileRecording` of the record page of 2018."""

    id: str
    kind: OperationKind
    client_context: str | None
    created_at: datetime
    duration: timedelta
    outcome_when_done: Outcome
    status: OperationStatus = OperationStatus.NOT_STARTED
    outcome: Outcome | None = None
    finished_at: datetime | None = None
    recording: Recording | None = None
    stream: bool = False
    stop_tones: tuple[str, ...] = ()
    etag: str = 'W/"54451"'

    @property
    def is_recording(self) -> bool:
        """True if the operation makes a recording."""
        return self.kind in {OperationKind.RECORD, OperationKind.RECORD_RESPONSE}

    @property
    def is_finished(self) -> bool:
        """True if the operation has completed or failed."""
        return self.status in {OperationStatus.COMPLETED, OperationStatus.FAILED}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST to the bot: the status, headers and body of its response, or the error if there was no response."""

    at: datetime
    status: int | None
    error: str | None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(slots=True)
class Notification:
    """One member of a body's `value`, with every attempt to deliver it. A `lost` one is never sent."""

    id: str
    item: JsonObject
    created_at: datetime
    lost: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def is_delivered(self) -> bool:
        """True if the bot answered at least one attempt with a 2xx."""
        return any(attempt.status is not None and attempt.status < _FIRST_REDIRECT for attempt in self.attempts)


@dataclass(slots=True)
class Call:
    """One call as Graph knows it.

    `details` holds the members that the client sent; responses return them unchanged. A `quiet` call sends no
    notification by itself. A `forgotten` call ended without a notification. `hears_tones` is true if the bot has
    subscribed to tones, and `tones` is the number of those that were notified.
    """

    id: str
    tenant_id: str
    app_id: str
    callback_uri: str | None
    direction: CallDirection
    state: CallState
    started_at: datetime
    chain_id: str
    participant_id: str
    details: JsonObject = field(default_factory=dict)
    quiet: bool = False
    keep_alives: list[datetime] = field(default_factory=list)
    ended_at: datetime | None = None
    end: CallEnd | None = None
    forgotten: bool = False
    hears_tones: bool = False
    tones: int = 0
    operations: dict[str, Operation] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)

    @property
    def renewed_at(self) -> datetime:
        """Return when the lease last began: at the last successful keepAlive, or else at the start of the call."""
        return self.keep_alives[-1] if self.keep_alives else self.started_at

    @property
    def expires_at(self) -> datetime:
        """Return when the call ends if no further keepAlive succeeds."""
        return self.renewed_at + LEASE

    @property
    def is_over(self) -> bool:
        """True if the call has terminated or is forgotten, so that Graph no longer knows it."""
        return self.forgotten or self.state is CallState.TERMINATED
