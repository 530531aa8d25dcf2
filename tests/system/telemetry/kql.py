"""The queries of alerts and workbook: the files, and the workbook's queries with their parameters filled in."""

import json
from dataclasses import dataclass
from functools import cache

from infra.make_workbook import PARTS, QUERIES, WORKBOOK
from local.stack.stack import ROOT
from tests.system.telemetry.alerts import rules
from tests.system.telemetry.language_service import Analysis, Answer, analyse

__all__ = ["ALERTS", "ALL", "OF_WORKBOOK", "QUERIES", "ROOT", "WORKBOOK", "Query", "answer", "read", "sent"]

ALERTS = tuple(rules())
OF_WORKBOOK = tuple(name for name, _, _ in PARTS)
CALL_ID = "5f2c1d20-8a44-4b0e-9d52-0b7e5a91c001"  # the workbook's parameter in tests; empty until the reader sets it


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its name, the lines `// Key: value` that it begins with, and its whole text."""

    name: str
    header: dict[str, str]
    text: str

    @property
    def analysis(self) -> Analysis:
        """The parser's analysis of the query."""
        return answer(self.text).analysis

    @property
    def events(self) -> set[str]:
        """The names of the events that the query compares with."""
        return {str(value) for value in self.analysis.compared("Properties.event")}


def read(name: str) -> Query:
    """Return the query of a file."""
    text = (QUERIES / f"{name}.kql").read_text(encoding="utf-8")
    lines = (line.removeprefix("// ").partition(": ") for line in text.splitlines() if line.startswith("// "))
    return Query(name, {key: value for key, colon, value in lines if colon}, text)


def sent(name: str, call_id: str = "") -> str:
    """Return the query that the deployed workbook sends for one of its parts."""
    items = json.loads(WORKBOOK.read_text(encoding="utf-8"))["items"]
    (query,) = [item["content"]["query"] for item in items if item["name"] == name]
    return str(query).replace("{CallId}", call_id)


ALL = tuple(map(read, (*ALERTS, *OF_WORKBOOK)))


def answer(text: str) -> Answer:
    """Return the parser's answer for a query. One process analyses all queries, as its start takes a second."""
    return _answers()[text]


@cache
def _answers() -> dict[str, Answer]:
    workbook = [sent(name, call_id) for name in OF_WORKBOOK for call_id in ("", CALL_ID)]
    texts = [*(query.text for query in ALL), *workbook]
    return dict(zip(texts, analyse(texts), strict=True))
