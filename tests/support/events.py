"""The event files: bodies that Graph sends, one file a case, each with what is expected of it."""

import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from shared.domain.notifications import (
    CallNotification,
    Notification,
    OperationNotification,
    ParsedBody,
    ResultInfo,
    parse_notifications,
)

FOLDER = Path(__file__).parents[1] / "data" / "events"
TYPES = {CallNotification: "call", OperationNotification: "operation"}


@dataclass(frozen=True)
class EventFile:
    """A body with what it must become: notifications, faults, records of calls; or the error that it raises."""

    name: str
    body: bytes
    error: str | None
    expect: list[dict[str, object]]
    faults: list[str]
    calls: dict[str, dict[str, object]]

    def parsed(self) -> ParsedBody:
        """What the body becomes."""
        return parse_notifications(self.body)


@cache
def event_files() -> tuple[EventFile, ...]:
    """All of them, by name."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.json")))


def readable() -> list[EventFile]:
    """Those that raise no error."""
    return [file for file in event_files() if file.error is None]


def shown(notification: Notification) -> dict[str, object]:
    """A notification as the files write it: camelCase, without what is not there."""
    told: dict[str, object] = {"type": TYPES.get(type(notification), "other")}
    for member in fields(notification):
        value = getattr(notification, member.name)
        if value is not None:
            told[_camel(member.name)] = _result(value) if isinstance(value, ResultInfo) else value
    return told


def _result(result: ResultInfo) -> dict[str, object]:
    values = {_camel(member.name): getattr(result, member.name) for member in fields(result)}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def _read(path: Path) -> EventFile:
    content = json.loads(path.read_text(encoding="utf-8"))
    return EventFile(
        path.stem,
        json.dumps(content["body"]).encode(),
        content.get("error"),
        content.get("expect", []),
        content.get("faults", []),
        content.get("calls", {}),
    )
