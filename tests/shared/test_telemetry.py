"""Log events and metrics: each kind once, with exactly its fields, and none that `logging` reserves."""

import ast
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared import telemetry
from shared.domain.calls import Call, Termination, TerminationSource
from shared.telemetry import LOGGER, LogEvent, Metric, log_event

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("shared", "functions") for path in (ROOT / folder).rglob("*.py"))
EVENTS = {name: value for name, value in vars(telemetry).items() if isinstance(value, LogEvent)}
METRICS = {name: value for name, value in vars(telemetry).items() if isinstance(value, Metric)}
OF_LOGGING = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event"}
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CALL = Call("call", "tenant", "established", known_at=NOON, started_at=NOON)


def _measurements() -> Iterator[tuple[str, str, ast.Call]]:
    """Each call of a metric's `add`: the place, the name of the constant, the call."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add":
                name = getattr(node.func.value, "attr", None) or getattr(node.func.value, "id", "")
                if name in METRICS:
                    yield f"{path.name}:{node.lineno}", name, node


MEASUREMENTS = list(_measurements())


@pytest.mark.parametrize(
    ("name", "node"),
    [pytest.param(name, node, id=f"{name}-{place}") for place, name, node in MEASUREMENTS],
)
def test_a_metric_is_given_exactly_its_attributes(name: str, node: ast.Call) -> None:
    """Type checkers check events: each declares its fields as parameters."""
    assert {keyword.arg for keyword in node.keywords} == set(METRICS[name].attributes)


def test_every_event_and_metric_is_emitted() -> None:
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert EVENTS.keys() | METRICS.keys() <= used


@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda event: event.name)
def test_no_field_is_one_that_logging_keeps_for_itself(event: LogEvent[...]) -> None:
    assert not set(event.fields) & OF_LOGGING
    assert len(set(event.fields)) == len(event.fields)


def test_names_are_unique() -> None:
    names = [event.name for event in EVENTS.values()] + [metric.name for metric in METRICS.values()]
    assert len(set(names)) == len(names)


def test_nothing_else_is_logged() -> None:
    """Only `LogEvent` may call a logger: what it writes is listed, and is looked at for secrets."""
    for path in SOURCES:
        if path.name == "telemetry.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                written = node.func.attr in {"debug", "info", "warning", "error", "exception", "critical", "log"}
                assert not written, f"{path.name}:{node.lineno}"
            assert not (isinstance(node, ast.Name) and node.id == "print"), path.name


def test_a_line_has_its_fields_in_the_text_and_as_columns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    telemetry.CALL_HUNG_UP(callId="x", tenantId="y", notFound=True)
    (record,) = caplog.records
    assert record.getMessage() == "call.hung_up callId=x tenantId=y notFound=True"
    assert vars(record).items() >= {"event": "call.hung_up", "callId": "x", "tenantId": "y", "notFound": True}.items()


def test_a_call_that_has_not_ended_is_not_logged_as_ended(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    telemetry.log_call_ended(CALL)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("termination", "events"),
    [
        (Termination(TerminationSource.NOTIFICATION, "why", "keepAlive", 408, 8537), ["call.ended"]),
        (
            Termination(TerminationSource.NOTIFICATION, "why", "media", 499, 987654),
            ["call.ended", "termination.code.unknown"],
        ),
        (Termination(TerminationSource.KEEP_ALIVE_NOT_FOUND, "no notification", "unknown"), ["call.ended"]),
    ],
    ids=["known code", "unknown code", "no code"],
)
def test_an_end_is_logged_and_an_unknown_code_beside_it(
    termination: Termination, events: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    telemetry.log_call_ended(replace(CALL, ended_at=NOON, termination=termination))
    assert [vars(record)["event"] for record in caplog.records] == events


def test_the_log_lines_that_strangers_cause_are_limited_per_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("shared.telemetry.time.monotonic", lambda: now)

    def line_counts() -> list[int]:
        caplog.clear()
        for _ in range(100):
            telemetry.NOTIFICATIONS_REJECTED(reason="Unauthenticated", detail="x")
        return [record.suppressedCount for record in caplog.records]  # type: ignore[attr-defined] # by `extra`

    assert line_counts() == [0] * 30
    telemetry.NOTIFICATIONS_REJECTED(reason="StoreUnavailable", detail="x")
    assert caplog.records[-1].suppressedCount == 0  # type: ignore[attr-defined] # as above
    now += 60
    assert line_counts() == [70, *[0] * 29]


def test_of_requests_that_fail_no_kind_hides_another(caplog: pytest.LogCaptureFixture) -> None:
    routes = ("read_call", "receive_notifications")
    for location in ("here", "there"):
        for route in routes:
            for _ in range(100):
                telemetry.REQUEST_FAILED(route=route, error="StoreUnavailable: away", location=location)
    counts = Counter((record.route, record.location) for record in caplog.records)  # type: ignore[attr-defined] # by `extra`
    assert counts == {(route, location): 30 for route in routes for location in ("here", "there")}


def test_what_is_kept_to_limit_lines_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    @log_event("test.event", logging.WARNING, max_per_minute=1)
    def event(*, reason: str) -> None:
        """Only a test writes it."""

    for number in range(2 * telemetry.MAX_RATE_LIMITS):
        event(reason=str(number))
        event(reason=str(number))

    assert len([record for record in caplog.records if record.name == LOGGER]) == 2 * telemetry.MAX_RATE_LIMITS
    assert telemetry._rate_limit.cache_info().currsize <= telemetry.MAX_RATE_LIMITS
