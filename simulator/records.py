"""Calls, their operations and their notifications as data: states, results, times and the rules of one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.wire import JsonObject

LEASE = timedelta(minutes=45)  # Graph: call-keepAlive page
ANSWER_WITHIN = timedelta(seconds=15)  # Graph: call-answer page
RINGING_DELAY = 0.1  # simulated seconds until `establishing` is notified
ESTABLISHING_DELAY = 1.0  # simulated seconds until a call is established
TERMINATING_DELAY = 1.0  # simulated seconds from hang-up to the end


class State(StrEnum):
    """Graph's `callState`, as far as a call gets here."""

    INCOMING = "incoming"
    ESTABLISHING = "establishing"
    ESTABLISHED = "established"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


class Direction(StrEnum):
    """Graph's `callDirection`."""

    INCOMING = "incoming"
    OUTGOING = "outgoing"


@dataclass(frozen=True, slots=True)
class End:
    """Why a call ended: Graph's `resultInfo`."""

    code: int
    subcode: int
    message: str


class Kind(StrEnum):
    """What is done, named as Graph's operation types are."""

    RECORD_RESPONSE = "recordResponse"
    RECORD = "record"
    PLAY_PROMPT = "playPrompt"
    CANCEL = "cancelMediaProcessing"


class Status(StrEnum):
    """Graph's `operationStatus`, written as its examples write it."""

    NOT_STARTED = "notStarted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation finished: `resultInfo`, and Graph's `completionReason`."""

    status: Status
    code: int
    subcode: int
    message: str
    completion_reason: str


@dataclass(frozen=True, slots=True)
class Recording:
    """Where a recording can be had, and the token that opens it."""

    id: str
    location: str
    access_token: str


@dataclass(slots=True)
class Operation:
    """One operation of a call. `stream` is the old page's `streamWhileRecording`."""

    id: str
    kind: Kind
    client_context: str | None
    created_at: datetime
    length: timedelta
    outcome_when_done: Outcome
    status: Status = Status.NOT_STARTED
    outcome: Outcome | None = None
    finished_at: datetime | None = None
    recording: Recording | None = None
    stream: bool = False
    etag: str = 'W/"54451"'

    @property
    def records(self) -> bool:
        """Whether it makes a recording."""
        return self.kind in {Kind.RECORD, Kind.RECORD_RESPONSE}

    @property
    def finished(self) -> bool:
        """Whether it has come to its end, good or bad."""
        return self.status in {Status.COMPLETED, Status.FAILED}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST to the bot: its answer, or the error that took its place."""

    at: datetime
    status: int | None
    error: str | None


@dataclass(slots=True)
class Notification:
    """One member of a body's `value`, and every attempt to deliver it."""

    id: str
    item: JsonObject
    created_at: datetime
    lost: bool = False
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def delivered(self) -> bool:
        """Whether the bot ever answered with a 2xx."""
        return any(attempt.status is not None and attempt.status < 300 for attempt in self.attempts)  # noqa: PLR2004 2xx


@dataclass(slots=True)
class Call:
    """One call as the service knows it. `details` are the client's own words, returned as they came."""

    id: str
    tenant_id: str
    app_id: str
    callback_uri: str | None
    direction: Direction
    state: State
    started_at: datetime
    chain_id: str
    participant_id: str
    details: JsonObject = field(default_factory=dict)
    quiet: bool = False
    keep_alives: list[datetime] = field(default_factory=list)
    ended_at: datetime | None = None
    end: End | None = None
    forgotten: bool = False
    operations: dict[str, Operation] = field(default_factory=dict)
    notifications: list[Notification] = field(default_factory=list)

    @property
    def renewed_at(self) -> datetime:
        """When the lease last began: the start of the call, or its last successful keepAlive."""
        return self.keep_alives[-1] if self.keep_alives else self.started_at

    @property
    def expires_at(self) -> datetime:
        """When the call ends unless it is kept alive before."""
        return self.renewed_at + LEASE

    @property
    def over(self) -> bool:
        """Whether Graph no longer knows this call."""
        return self.forgotten or self.state is State.TERMINATED
