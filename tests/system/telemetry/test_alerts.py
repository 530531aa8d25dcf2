"""Each alert fires on its fault and is silent in health: its query runs on the lines of a rehearsal in virtual time."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from functions.routing import ROUTES
from local.stack.stack import ROOT
from tests.system.telemetry import kql
from tests.system.telemetry.alerts import rules
from tests.system.telemetry.exporter import SETTINGS
from tests.system.telemetry.ingestion import Item, listening
from tests.system.telemetry.language_service import TABLES
from tests.system.telemetry.life import MINUTE, TENANT
from tests.system.telemetry.rehearsal import DAY, FAULT_AT, HOUR, SCENARIOS, SLOT, start_of
from tests.system.telemetry.workspace import Row, Workspace

LATE = 5 * MINUTE  # Microsoft: logs can be queried 20 seconds to 3 minutes after they were made, most often
RULES = rules()
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


# The alerts of each scenario, and how long after the fault each fires at the latest, if lines come five minutes late.
EXPECTED = {
    "health": {},
    # The call was renewed as the fault began: it is at risk 30 minutes later, and then tried again within 8.
    "forbidden": {"graph-forbidden": 25 * MINUTE, "call-at-risk": 45 * MINUTE},
    "shard": {"call-at-risk": 25 * MINUTE},
    "other_tenant": {"other-tenant": 10 * MINUTE},
    "webhook": {"webhook-errors": 10 * MINUTE},
    "damaged": {"row-unreadable": 25 * MINUTE},
    "poison": {"poison": 15 * MINUTE},
    "four_tries": {},
    "timer": {"timer-silent": 75 * MINUTE},
    "silence": {"no-sweep": 45 * MINUTE},
}


@pytest.fixture(scope="module")
def told() -> Iterator[list[Item]]:
    """All lines of all scenarios."""
    with listening() as (sent, connection):
        env = {**os.environ, **SETTINGS, "APPLICATIONINSIGHTS_CONNECTION_STRING": connection}
        command = [sys.executable, "-m", "tests.system.telemetry.rehearsal"]
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
        yield [item for item in sent.items if item.table == "AppTraces"]


def of(told: list[Item], scenario: str) -> list[Item]:
    """The lines of a scenario."""
    start = start_of(scenario)
    return [item for item in told if start <= item.time < start + SLOT]


def test_each_scenario_has_its_alerts_and_each_alert_a_scenario() -> None:
    assert set(EXPECTED) == set(SCENARIOS)
    assert {alert for expected in EXPECTED.values() for alert in expected} == set(RULES) == set(kql.ALERTS)


@pytest.mark.parametrize("late", [timedelta(), LATE], ids=["at once", "late"])
@pytest.mark.parametrize(
    ("scenario", "alert"), [(scenario, alert) for scenario, expected in EXPECTED.items() for alert in expected]
)
def test_a_fault_raises_its_alert_in_time(told: list[Item], scenario: str, alert: str, late: timedelta) -> None:
    workspace, start, within = Workspace(of(told, scenario), late=late), start_of(scenario), EXPECTED[scenario][alert]
    runs = RULES[alert].moments(start, start + FAULT_AT + within)
    fired = next((now for now in runs if RULES[alert].fires(workspace, now, created=start - HOUR)), None)
    assert fired is not None
    assert fired >= start + FAULT_AT


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fault_raises_no_other_alert(told: list[Item], scenario: str) -> None:
    workspace, start = Workspace(of(told, scenario)), start_of(scenario)
    last = max(item.time for item in of(told, scenario))
    for key in RULES.keys() - EXPECTED[scenario].keys():
        now = start
        while now <= last:
            assert not RULES[key].fires(workspace, now, created=start - HOUR), (key, RULES[key].rows(workspace, now))
            now += 15 * MINUTE


def test_in_health_no_alert_fires_though_lines_are_late_and_doubled(told: list[Item]) -> None:
    workspace, start = Workspace(of(told, "health"), late=LATE, copies=2), start_of("health")
    for rule in RULES.values():
        for now in rule.moments(start, start + 3 * HOUR):
            assert not rule.fires(workspace, now, created=start - HOUR), (rule.key, rule.rows(workspace, now))


def test_an_app_that_is_gone_is_no_silent_timer(told: list[Item]) -> None:
    """The last hour then holds sweeps of the dead man's switch alone. That is what no-sweep is for."""
    workspace, end = Workspace(of(told, "timer")), start_of("timer") + 4 * HOUR
    assert RULES["timer-silent"].fires(workspace, end)
    later = end + 35 * MINUTE
    assert [key for key, rule in RULES.items() if rule.fires(workspace, later)] == ["no-sweep"]


def test_the_rows_of_a_call_at_risk_say_what_the_runbook_reads(told: list[Item]) -> None:
    workspace, start = Workspace(of(told, "forbidden")), start_of("forbidden")
    rows = RULES["call-at-risk"].rows(workspace, start + FAULT_AT + 50 * MINUTE)
    by_what = {str(row["what"]): row for row in rows}
    assert set(by_what) == {"at risk", "lapsed"}
    assert by_what["at risk"]["reason"] == "forbidden"
    assert float(str(by_what["at risk"]["oldest"])) >= 30
    assert by_what["at risk"]["callId"] == by_what["lapsed"]["callId"]
    (row,) = RULES["graph-forbidden"].rows(workspace, start + FAULT_AT + 10 * MINUTE)
    assert (row["tenantId"], row["subcode"]) == (TENANT, "7504")


def test_the_rows_of_an_unreadable_row_say_which_call_is_not_renewed(told: list[Item]) -> None:
    workspace, start = Workspace(of(told, "damaged")), start_of("damaged")
    rows = RULES["row-unreadable"].rows(workspace, start + FAULT_AT + 20 * MINUTE)
    assert {str(row["what"]) for row in rows} == {"a call is not renewed", "a part of a row was left out"}
    assert {(row["rowKind"], str(row["rowKey"]).partition("|")[0]) for row in rows} == {("active", "active")}


def test_a_failed_webhook_is_one_request_with_its_reason_however_many_lines_tell_of_it(told: list[Item]) -> None:
    workspace, start = Workspace(of(told, "webhook")), start_of("webhook")
    now = start + FAULT_AT + 5 * MINUTE
    (row,) = RULES["webhook-errors"].rows(workspace, now)
    assert (row["reason"], row["requests"]) == ("StoreUnavailable", 3)
    refused = next(item for item in of(told, "webhook") if item.event == "notifications.rejected")
    workspace.add("AppRequests", [host_row(refused.time, 503, operation=refused.operation_id)])
    (row,) = RULES["webhook-errors"].rows(workspace, now)
    assert (row["reason"], row["requests"]) == ("StoreUnavailable", 3)


@pytest.mark.parametrize(
    ("changes", "status", "fires"),
    [
        ({}, 503, True),
        ({"Name": "receive_notifications"}, 500, True),  # without telemetryMode OpenTelemetry: the function's name
        ({"Url": None}, 500, True),
        ({}, 401, False),
        ({}, 202, False),
        ({"Name": "GET api/health", "Url": "https://call-keeper.example/api/health"}, 503, False),
    ],
)
def test_a_failed_request_that_only_the_host_tells_of_raises_an_alert(
    changes: Row, status: int, *, fires: bool
) -> None:
    """As where the worker has died: the host answers by itself."""
    workspace = Workspace([])
    workspace.add("AppRequests", [host_row(START, status) | changes])
    assert RULES["webhook-errors"].fires(workspace, START + 5 * MINUTE) is fires


def test_a_poisoned_message_that_only_the_host_tells_of_raises_an_alert() -> None:
    """The host's own line, from the queue extension of the WebJobs SDK."""
    line = "Message has reached MaxDequeueCount of 5. Moving message to queue 'keep-alive-poison'."
    workspace = Workspace([])
    workspace.add("AppTraces", [{"TimeGenerated": START.replace(tzinfo=None), "Message": line, "Properties": {}}])
    (row,) = RULES["poison"].rows(workspace, START + 5 * MINUTE)
    assert row["error"] == line


def test_a_workspace_without_tables_or_rows_raises_no_error_and_only_the_alert_on_silence() -> None:
    empty = Workspace([])
    for table in TABLES:
        empty.add(table, [])
    for workspace in (Workspace([]), empty):
        assert [key for key, rule in RULES.items() if rule.fires(workspace, START)] == ["no-sweep"]
        assert not any(workspace.query(kql.sent(name, kql.CALL_ID), START) for name in kql.OF_WORKBOOK)


class TestSilence:
    """The alert `no-sweep`, see docs/decisions/0028-alert-on-silence.md."""

    def test_it_rests_in_a_new_workspace_whose_app_has_told_nothing_yet(self) -> None:
        workspace = Workspace([])
        workspace.add("AppRequests", [host_row(START + MINUTE, 404)])  # of somebody who tries addresses
        for hours in range(48):
            assert not silence(workspace, START + hours * HOUR, created=START)
        assert silence(workspace, START + 2 * DAY + MINUTE, created=START)

    def test_it_gives_the_first_sweep_half_an_hour_from_the_first_line(self, told: list[Item]) -> None:
        items = of(told, "silence")
        workspace = Workspace([item for item in items if item.event == "call.registered"])
        deployed = start_of("silence")
        assert not silence(workspace, deployed + 29 * MINUTE, created=deployed - HOUR)
        assert silence(workspace, deployed + 31 * MINUTE, created=deployed - HOUR)

    def test_it_fires_when_sweeps_finish_but_no_shard_is_done(self, told: list[Item]) -> None:
        sweeps = [item for item in of(told, "health") if item.event == "keep_alive.sweep.finished"]
        now = start_of("health") + HOUR
        assert not silence(Workspace(sweeps), now)
        assert silence(Workspace([replace(item, properties={**item.properties, "swept": "0"}) for item in sweeps]), now)

    def test_it_stays_on_for_days_without_any_data(self, told: list[Item]) -> None:
        workspace, gone = Workspace(of(told, "silence")), start_of("silence") + FAULT_AT
        for hours in range(1, 5 * 24, 3):
            assert silence(workspace, gone + hours * HOUR, created=gone - HOUR), hours

    def test_it_reads_the_time_of_creation_as_azure_writes_it(self) -> None:
        text = RULES["no-sweep"].query.replace("WORKSPACE_CREATED", "2026-03-02T07:59:59.1234567Z")
        assert not Workspace([]).query(text, START, RULES["no-sweep"].look_back)
        assert Workspace([]).query(text, START + 2 * DAY, RULES["no-sweep"].look_back)

    def test_without_a_readable_time_of_creation_it_takes_the_workspace_for_an_old_one(self) -> None:
        text = RULES["no-sweep"].query
        for created in ("WORKSPACE_CREATED", "", "Mon, 02 Mar 2020 08:00:00 GMT"):
            replaced = text.replace("WORKSPACE_CREATED", created)
            assert Workspace([]).query(replaced, START, RULES["no-sweep"].look_back), created


def silence(workspace: Workspace, now: datetime, created: datetime | None = None) -> bool:
    """Whether `no-sweep` fires."""
    return RULES["no-sweep"].fires(workspace, now, created)


def host_row(at: datetime, status: int, operation: str = "") -> Row:
    """A row of the Functions host's own, which cannot be had without the host.

    With `telemetryMode` OpenTelemetry it names a request by method and route template (Azure/azure-functions-host,
    pull request 10783), and its exporter fills Url from the request's scheme, host and path.
    """
    (route,) = [route for route in ROUTES if route.name == "receive_notifications"]
    path = f"api/{route.path}"
    return {
        "TimeGenerated": at.astimezone(UTC).replace(tzinfo=None),
        "Name": f"{route.method} {path}",
        "Url": f"https://call-keeper.example/{path}",
        "ResultCode": str(status),
        "Success": status < 400,
        "OperationId": operation or str(uuid.uuid4()),
        "Properties": {},
    }
