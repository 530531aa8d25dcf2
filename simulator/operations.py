"""Operations of a call: recordings and prompts, queued, finished by time, cancelled."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from simulator.records import Kind, Operation, Outcome, Recording, Status

if TYPE_CHECKING:
    from simulator.calls import Calls
    from simulator.clock import Clock
    from simulator.records import Call

SPEECH = 20  # simulated seconds that the person speaks before falling silent
PROMPT = 2  # simulated seconds that one prompt lasts
KEPT_AFTER_CALL = timedelta(minutes=5)  # Graph: "discarded shortly after the call ends", no figure given
_RATE, _WIDTH = 16_000, 2  # the example of the call-record page: 160,696 bytes for a few seconds


MAX_DURATION = Outcome(
    Status.COMPLETED, 200, 8515, "Action completed, max record duration reached.", "maxRecordDurationReached"
)
MAX_SILENCE = Outcome(
    Status.COMPLETED, 200, 8509, "Action completed, max silence timeout reached.", "maxSilenceTimeout"
)
PLAYED = Outcome(Status.COMPLETED, 200, 0, "Action completed successfully.", "none")
CANCELLED = Outcome(Status.FAILED, 400, 8508, "Action failed, the operation was cancelled.", "operationCanceled")


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What a recording needs to know. Times in seconds; `base_url` is where its file will be."""

    kind: Kind
    base_url: str
    client_context: str | None = None
    prompts: int = 0
    max_duration: int = 5
    max_silence: int = 5
    barge_in: bool = False
    stream: bool = False


class AnnounceOperation(Protocol):
    """Tells the bot what became of an operation."""

    def __call__(self, call: Call, operation: Operation) -> None:
        """The operation has changed."""


@dataclass(slots=True)
class Operations:
    """Runs the media operations of every call, one at a time a call, as they were queued."""

    clock: Clock
    calls: Calls
    announce: AnnounceOperation
    files: dict[str, tuple[Call, Operation]] = field(default_factory=dict)

    def record(self, call: Call, request: RecordingRequest) -> Operation:
        """Queue a recording; with `barge_in` it takes the place of all that is queued (Graph: call-record page)."""
        if request.barge_in:
            self._cancel_queue(call)
        silent = SPEECH + request.max_silence < request.max_duration
        seconds = request.prompts * PROMPT + min(request.max_duration, SPEECH + request.max_silence)
        operation = self._new(call, request.kind, request.client_context, seconds)
        operation.outcome_when_done = MAX_SILENCE if silent else MAX_DURATION
        operation.stream = request.stream
        operation.recording = self._reserve(call, operation, request.base_url)
        return self._queue(call, operation)

    def play(self, call: Call, prompts: int, client_context: str | None) -> Operation:
        """Queue a playPrompt of so many prompts."""
        return self._queue(call, self._new(call, Kind.PLAY_PROMPT, client_context, prompts * PROMPT))

    def cancel(self, call: Call, client_context: str | None) -> Operation:
        """Cancel what runs and what is queued. The answer is itself a completed operation."""
        operation = self._new(call, Kind.CANCEL, client_context, 0)
        operation.status, operation.finished_at = Status.COMPLETED, self.clock.now()
        self._cancel_queue(call)
        return operation

    def finish(self, call: Call, operation: Operation, outcome: Outcome) -> None:
        """End an operation and tell the bot. On a call that is over it never ends (observed: its file is lost)."""
        if operation.finished or call.over:
            return
        operation.status, operation.outcome, operation.finished_at = outcome.status, outcome, self.clock.now()
        self.announce(call, operation)
        self._start_next(call)

    def file(self, file_id: str) -> tuple[Operation, bytes] | None:
        """A finished recording as a .wav, until shortly after the call's end."""
        call, operation = self.files.get(file_id, (None, None))
        if call is None or operation is None or operation.status is not Status.COMPLETED:
            return None
        if call.ended_at is not None and self.clock.now() > call.ended_at + KEPT_AFTER_CALL:
            return None
        return operation, _silence(operation.length)

    def _new(self, call: Call, kind: Kind, client_context: str | None, seconds: int) -> Operation:
        operation = Operation(
            id=self.calls.new_id(),
            kind=kind,
            client_context=client_context,
            created_at=self.clock.now(),
            length=timedelta(seconds=seconds),
            outcome_when_done=PLAYED,
        )
        call.operations[operation.id] = operation
        return operation

    def _reserve(self, call: Call, operation: Operation, base_url: str) -> Recording:
        file_id = self.calls.new_id()
        self.files[file_id] = (call, operation)
        return Recording(file_id, f"{base_url}/recordings/{file_id}", f"recording-{self.calls.new_id()}")

    def _queue(self, call: Call, operation: Operation) -> Operation:
        if not any(other.status is Status.RUNNING for other in call.operations.values()):
            self._start(call, operation)
        return operation

    def _start(self, call: Call, operation: Operation) -> None:
        operation.status = Status.RUNNING
        seconds = operation.length.total_seconds()
        self.clock.after(seconds, lambda: self.finish(call, operation, operation.outcome_when_done))
        if operation.stream:
            self.announce(call, operation)

    def _start_next(self, call: Call) -> None:
        waiting = [other for other in call.operations.values() if other.status is Status.NOT_STARTED]
        if waiting and not any(other.status is Status.RUNNING for other in call.operations.values()):
            self._start(call, waiting[0])

    def _cancel_queue(self, call: Call) -> None:
        for operation in [other for other in call.operations.values() if not other.finished]:
            operation.status = Status.FAILED  # none of the queue may start while it is being emptied
            operation.outcome, operation.finished_at = CANCELLED, self.clock.now()
            self.announce(call, operation)


def _silence(length: timedelta) -> bytes:
    """A valid .wav of this length, 16 kHz mono."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_WIDTH)
        file.setframerate(_RATE)
        file.writeframes(bytes(int(length.total_seconds() * _RATE) * _WIDTH))
    return data.getvalue()
