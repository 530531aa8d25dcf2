"""Examples of our events, and the files that are made of them and of their models. The lifecycle makes each change."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from shared.domain import lifecycle
from shared.domain.calls import Call, Operation, TerminationSource
from shared.domain.deliveries import EVENT_TYPES, delivery_id, sequence_at
from shared.domain.leases import RenewalFailure
from shared.domain.notifications import CallNotification, OperationNotification, ResultInfo
from shared.relay.event_models import event_schema
from shared.relay.events import CallEvent, events_of_change, render, with_end_revision
from shared.storage.rows import shard_of
from tools.row_examples import CALL_ID, MINUTE, NOW

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "docs" / "events"
EXAMPLES = ROOT / "tests" / "data" / "relay-events"
_TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
_RECORDING = "8e03978e-40d5-43dd-bc93-6894a57f9324"
_BY_NOTIFICATION = CallNotification(
    CALL_ID,
    deleted=False,
    state="established",
    direction="incoming",
    call_chain_id="2f1a7c64-9b0e-4d53-8a21-6e0f3b7c9d15",
)


@cache
def event_examples() -> Mapping[str, bytes]:
    """Return the JSON of each example, by the name of its file."""
    return {
        name: render(event, _delivery_id(at, number), at) for number, (name, event, at) in enumerate(_all_examples(), 1)
    }


def schema_file(event_type: str) -> Path:
    """Return the file of an event's JSON Schema."""
    return SCHEMAS / f"{event_type}.schema.json"


def generated_files() -> Mapping[Path, bytes]:
    """Return the content of each file that is made of the models: the JSON Schemas and the examples."""
    schemas = {schema_file(name): f"{json.dumps(event_schema(name), indent=2)}\n".encode() for name in EVENT_TYPES}
    return schemas | {EXAMPLES / f"{name}.json": body for name, body in event_examples().items()}


class _Story:
    """A call and its recording, from change to change."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.recording: Operation | None = None

    @property
    def known(self) -> Call:
        """The call, which is on record."""
        assert self.call is not None  # noqa: S101 (each story begins with a notification)
        return self.call

    def answer(self) -> list[CallEvent]:
        """Let the call come in and be answered a minute later. Return the events of the answer."""
        self.notify(NOW - MINUTE, state="incoming")
        return self.notify(NOW)

    def notify(self, at: datetime, **members: object) -> list[CallEvent]:
        """Merge a notification of the call. Return the events of this change."""
        notification = replace(_BY_NOTIFICATION, **members)  # type: ignore[arg-type]  # members of a dataclass
        return self.change(lifecycle.notified(self.call, notification, _TENANT, at, _APP))

    def end(self, at: datetime, result: ResultInfo, **members: object) -> list[CallEvent]:
        """Merge the notification of the end. Return the events of this change."""
        return self.notify(at, deleted=True, state="terminated", result=result, **members)

    def record(self, at: datetime) -> None:
        """Start a recording."""
        self.recording = lifecycle.operation_requested(None, _recording("running"), "function key", at)

    def finish(self, at: datetime, status: str, result: ResultInfo) -> list[CallEvent]:
        """Merge the notification of the recording's result. Return the events of this change."""
        before, self.recording = self.recording, None
        after = lifecycle.operation_notified(before, _recording(status, result), at)
        return list(events_of_change(self.known, self.known, [(before, after)], []))

    def change(self, call: Call) -> list[CallEvent]:
        """Write the call. Return the events of this change."""
        before, self.call = self.call, with_end_revision(self.call, call)
        return list(events_of_change(before, self.call, [], [self.recording] if self.recording else []))


def _recording(status: str, result: ResultInfo | None = None) -> OperationNotification:
    kind, context = "recordOperation", "greeting"
    return OperationNotification(CALL_ID, _RECORDING, kind, False, status, result, context)


def _all_examples() -> Iterator[tuple[str, CallEvent, datetime]]:
    yield from _of_a_call_with_recordings()
    yield from _of_a_call_that_was_lost()
    yield from _of_a_call_that_was_hung_up()
    yield from _of_a_call_that_was_not_answered()


def _of_a_call_with_recordings() -> Iterator[tuple[str, CallEvent, datetime]]:
    story, at = _Story(), NOW + 2 * MINUTE
    [established] = story.answer()
    yield "call-established", established, NOW
    story.record(NOW + MINUTE)
    [completed] = story.finish(at, "completed", ResultInfo(200, 8514))
    yield "recording-completed", completed, at
    story.record(NOW + MINUTE)
    [failed] = story.finish(at, "failed", ResultInfo(400, 8508))
    yield "recording-failed", failed, at
    story.record(NOW + MINUTE)
    lost, ended = story.end(at, ResultInfo(200, 5010))
    yield "recording-lost", lost, at
    yield "call-ended", ended, at


def _of_a_call_that_was_lost() -> Iterator[tuple[str, CallEvent, datetime]]:
    story, at = _Story(), NOW + 31 * MINUTE
    story.answer()
    failing = RenewalFailure(NOW + 15 * MINUTE, 4, at, "forbidden", 403, 7504)
    story.change(lifecycle.renewal_failed(story.known, failing, NOW))
    still = replace(failing, attempts=5, retry_at=at + 7 * MINUTE, at_risk=True)
    [at_risk] = story.change(lifecycle.renewal_failed(story.known, still, NOW))
    yield "call-at-risk", at_risk, at
    at = NOW + 46 * MINUTE
    gone = lifecycle.call_gone(story.known, TerminationSource.KEEP_ALIVE_NOT_FOUND, at)
    [ended] = story.change(gone)
    yield "call-ended-by-keep-alive", ended, at
    at += MINUTE
    [revised] = story.end(at, ResultInfo(408, 8537))
    yield "call-ended-revised", revised, at


def _of_a_call_that_was_hung_up() -> Iterator[tuple[str, CallEvent, datetime]]:
    story, at = _Story(), NOW + 20 * MINUTE
    story.answer()
    story.change(lifecycle.hung_up(story.known, "function key", at, not_found=False))
    at += MINUTE
    [ended] = story.end(at, ResultInfo(200, 5001))
    yield "call-ended-hung-up", ended, at


def _of_a_call_that_was_not_answered() -> Iterator[tuple[str, CallEvent, datetime]]:
    """Yield an end with many nulls: nothing else is known of the call, and the codes are no numbers."""
    codes = ResultInfo(raw_code="busy", raw_subcode="n/a")
    [ended] = _Story().end(NOW, codes, direction=None, call_chain_id=None)
    yield "call-ended-unexplained", ended, NOW


def _delivery_id(at: datetime, number: int) -> str:
    return delivery_id(shard_of(CALL_ID), sequence_at(at), f"{number:08x}")
