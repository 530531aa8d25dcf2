"""The event files: bodies that Graph sends, one case in each file, with the expected result."""

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
    """A body with its expected notifications, faults and stored calls, or the error that it raises."""

    name: str
    body: bytes
    error: str | None
    expect: list[dict[str, object]]
    faults: list[str]
    calls: dict[str, dict[str, object]]

    def parsed(self) -> ParsedBody:
        """Parse the body."""
        return parse_notifications(self.body)


@cache
def event_files() -> tuple[EventFile, ...]:
    """Return all event files in order of name."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.json")))


def readable() -> list[EventFile]:
    """Return the files whose body raises no error."""
    return [file for file in event_files() if file.error is None]


def shown(notification: Notification) -> dict[str, object]:
    """Return a notification as the files write it: in camelCase, and without members that are None."""
    written: dict[str, object] = {"type": TYPES.get(type(notification), "other")}
    for member in fields(notification):
        value = getattr(notification, member.name)
        if value is not None:
            written[_camel(member.name)] = _result(value) if isinstance(value, ResultInfo) else value
    return written


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
