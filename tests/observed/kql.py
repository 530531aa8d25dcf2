"""A small reader of KQL: a query file's header, and the names that its query uses."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUERIES = ROOT / "infra" / "queries"
ALERTS = ("no-sweep", "call-at-risk", "webhook-errors", "graph-forbidden", "other-tenant", "poison", "timer-silent")
WORKBOOK = ("calls-safe-now", "why-calls-end", "one-call", "webhook-health")

_HEADER = re.compile(r"^// (?P<key>[A-Z]\w+): (?P<value>.+)$", re.MULTILINE)
_STRING = re.compile(r'"([^"]*)"')
_EVENT = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")


@dataclass(frozen=True, slots=True)
class Query:
    """A query file. `events` are the names of events in it, `fields` those of `Properties`."""

    name: str
    header: dict[str, str]
    text: str

    @property
    def tables(self) -> set[str]:
        """The tables it reads."""
        return set(re.findall(r"^\s*\(?(App\w+)\s*$", self.text, re.MULTILINE))

    @property
    def strings(self) -> list[str]:
        """Its literals."""
        return _STRING.findall(self.text)

    @property
    def events(self) -> set[str]:
        """The literals that have the form of an event's name, and do not name a field."""
        strings = _STRING.findall(re.sub(r'\["[^"]*"\]', "", self.text))
        return {text for text in strings if _EVENT.fullmatch(text)}

    @property
    def fields(self) -> set[str]:
        """What it reads of `Properties`."""
        return set(re.findall(r"\bProperties\.(\w+)", self.text))


def read(name: str) -> Query:
    """A query by its name."""
    text = (QUERIES / f"{name}.kql").read_text(encoding="utf-8")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("//"))
    return Query(name, {found["key"]: found["value"] for found in _HEADER.finditer(text)}, body)
