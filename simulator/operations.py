"""The media operations of a call: recordings and prompts. They queue, finish by time, or are cancelled."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from simulator.records import Operation, OperationKind, OperationStatus, Outcome, Recording

if TYPE_CHECKING:
    from simulator.calls import Calls
    from simulator.clock import Clock
    from simulator.records import Call, Tone

SPEECH_DURATION = timedelta(seconds=20)  # simulated: the person speaks without a pause, then is silent
PROMPT_DURATION = timedelta(seconds=2)  # simulated
FILE_RETENTION = timedelta(minutes=5)  # after the call. Graph: "discarded shortly after the call ends", no figure
_SAMPLE_RATE, _SAMPLE_WIDTH = 16_000, 2  # Graph: call-record page, whose example has 160,696 bytes for some seconds

DURATION_REACHED = Outcome(
    OperationStatus.COMPLETED, 200, 8515, "Action completed, max record duration reached.", "maxRecordDurationReached"
)
SILENCE_REACHED = Outcome(
    OperationStatus.COMPLETED, 200, 8509, "Action completed, max silence timeout reached.", "maxSilenceTimeout"
)
STOPPED_BY_TONE = Outcome(
    OperationStatus.COMPLETED, 200, 8514, "Action completed, stop tone detected.", "stopToneDetected"
)
PROMPT_PLAYED = Outcome(OperationStatus.COMPLETED, 200, 0, "Action completed successfully.", "none")
CANCELLED = Outcome(
    OperationStatus.FAILED, 400, 8508, "Action failed, the operation was cancelled.", "operationCanceled"
)


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """The parameters of a recording. `base_url` is the server on which the file is published."""

    kind: OperationKind
    base_url: str
    max_duration: timedelta
    max_silence: timedelta
    client_context: str | None = None
    prompts: int = 0
    barge_in: bool = False
    stream: bool = False
    stop_tones: tuple[str, ...] = ()


class OperationNotifier(Protocol):
    """Notifies the bot of an operation's present status."""

    def __call__(self, call: Call, operation: Operation) -> None:
        """Send the notification."""


@dataclass(slots=True)
class Operations:
    """Runs the media operations of every call: one at a time per call, in the order of the requests."""

    clock: Clock
    calls: Calls
    notify: OperationNotifier
    files: dict[str, tuple[Call, Operation]] = field(default_factory=dict)

    def record(self, call: Call, request: RecordingRequest) -> Operation:
        """Queue a recording. With `barge_in`, cancel everything that is queued first (Graph: call-record page)."""
        if request.barge_in:
            self._cancel_queue(call)
        until_silence = SPEECH_DURATION + request.max_silence
        duration = request.prompts * PROMPT_DURATION + min(request.max_duration, until_silence)
        operation = self._new(call, request.kind, request.client_context, duration)
        operation.outcome_when_done = SILENCE_REACHED if until_silence < request.max_duration else DURATION_REACHED
        operation.stream, operation.stop_tones = request.stream, request.stop_tones
        operation.recording = self._reserve_file(call, operation, request.base_url)
        return self._queue(call, operation)

    def play(self, call: Call, prompts: int, client_context: str | None) -> Operation:
        """Queue a playPrompt with this number of prompts."""
        return self._queue(call, self._new(call, OperationKind.PLAY_PROMPT, client_context, prompts * PROMPT_DURATION))

    def cancel(self, call: Call, client_context: str | None) -> Operation:
        """Cancel the running operation and the queued ones. Return an operation that is completed already."""
        operation = self._new_completed(call, OperationKind.CANCEL, client_context)
        self._cancel_queue(call)
        return operation

    def subscribe_to_tone(self, call: Call, client_context: str | None) -> Operation:
        """Notify the bot of tones from now on. Return an operation that is completed already."""
        call.hears_tones = True
        return self._new_completed(call, OperationKind.SUBSCRIBE_TO_TONE, client_context)

    def stop_by_tone(self, call: Call, tone: Tone) -> bool:
        """Finish the running recording if this is one of its stop tones. Return False if it is not."""
        running = [each for each in call.operations.values() if each.status is OperationStatus.RUNNING]
        stopped = [each for each in running if tone.key in each.stop_tones]
        for operation in stopped:
            self.finish(call, operation, STOPPED_BY_TONE)
        return bool(stopped)

    def finish(self, call: Call, operation: Operation, outcome: Outcome) -> None:
        """Finish an operation, notify the bot and start the next one.

        On a call that is over the operation never finishes, and its file is lost, as observed.
        """
        if operation.is_finished or call.is_over:
            return
        operation.status, operation.outcome, operation.finished_at = outcome.status, outcome, self.clock.now()
        self.notify(call, operation)
        self._start_next(call)

    def file(self, file_id: str) -> tuple[Operation, bytes] | None:
        """Return a recording and its .wav file, or None.

        The file exists from the completion of the recording until FILE_RETENTION after the end of the call.
        """
        call, operation = self.files.get(file_id, (None, None))
        if call is None or operation is None or operation.status is not OperationStatus.COMPLETED:
            return None
        if call.ended_at is not None and self.clock.now() > call.ended_at + FILE_RETENTION:
            return None
        return operation, _silent_wav(operation.duration)

    def _new(self, call: Call, kind: OperationKind, client_context: str | None, duration: timedelta) -> Operation:
        operation = Operation(
            id=self.calls.new_id(),
            kind=kind,
            client_context=client_context,
            created_at=self.clock.now(),
            duration=duration,
            outcome_when_done=PROMPT_PLAYED,
        )
        call.operations[operation.id] = operation
        return operation

    def _new_completed(self, call: Call, kind: OperationKind, client_context: str | None) -> Operation:
        operation = self._new(call, kind, client_context, timedelta())
        operation.status, operation.finished_at = OperationStatus.COMPLETED, self.clock.now()
        return operation

    def _reserve_file(self, call: Call, operation: Operation, base_url: str) -> Recording:
        file_id = self.calls.new_id()
        self.files[file_id] = (call, operation)
        return Recording(file_id, f"{base_url}/recordings/{file_id}", f"recording-{self.calls.new_id()}")

    def _queue(self, call: Call, operation: Operation) -> Operation:
        if not _is_busy(call):
            self._start(call, operation)
        return operation

    def _start(self, call: Call, operation: Operation) -> None:
        operation.status = OperationStatus.RUNNING
        self.clock.after(operation.duration, lambda: self.finish(call, operation, operation.outcome_when_done))
        if operation.stream:
            self.notify(call, operation)

    def _start_next(self, call: Call) -> None:
        waiting = [other for other in call.operations.values() if other.status is OperationStatus.NOT_STARTED]
        if waiting and not _is_busy(call):
            self._start(call, waiting[0])

    def _cancel_queue(self, call: Call) -> None:
        for operation in [other for other in call.operations.values() if not other.is_finished]:
            # Set the status without `finish`, which would start the next operation of the queue.
            operation.status = OperationStatus.FAILED
            operation.outcome, operation.finished_at = CANCELLED, self.clock.now()
            self.notify(call, operation)


def _is_busy(call: Call) -> bool:
    return any(operation.status is OperationStatus.RUNNING for operation in call.operations.values())


def _silent_wav(duration: timedelta) -> bytes:
    """Return a valid .wav of this duration, 16 kHz mono, without sound."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(_SAMPLE_WIDTH)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(bytes(int(duration.total_seconds() * _SAMPLE_RATE) * _SAMPLE_WIDTH))
    return data.getvalue()
