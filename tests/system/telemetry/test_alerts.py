"""Each alert fires on its fault and not in health. Its query runs on the telemetry of scenarios in virtual time."""

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
from tests.system.telemetry.scenarios import BOT_IS_DOWN, DAY, FAULT_AT, HOUR, SCENARIOS, SLOT, start_of
from tests.system.telemetry.virtual_app import MINUTE, TENANT
from tests.system.telemetry.virtual_app import SETTINGS as APP_SETTINGS
from tests.system.telemetry.workspace import Row, Workspace

LATE = 5 * MINUTE  # Microsoft: most logs can be queried 20 seconds to 3 minutes after they were made
RULES = rules()
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


# The alerts of each scenario, and how long after the fault each fires at the latest, even if lines are 5 minutes late.
EXPECTED = {
    "health": {},
    # The call was renewed when the fault began, so it is at risk 30 minutes later. The next try is within 8 minutes.
    "forbidden": {"graph-forbidden": 25 * MINUTE, "call-at-risk": 45 * MINUTE},
    "shard": {"call-at-risk": 25 * MINUTE},
    "other_tenant": {"other-tenant": 10 * MINUTE},
    "webhook": {"webhook-errors": 10 * MINUTE},
    "damaged": {"row-unreadable": 25 * MINUTE},
    "poison": {"poison": 15 * MINUTE},
    "four_tries": {},
    # The breaker opens at the fifth failed attempt, after 5 minutes. By then the delivery has waited for as long.
    "relay_down": {"relay-down": 20 * MINUTE, "relay-backlog": 20 * MINUTE},
    "relay_disabled": {"relay-down": 10 * MINUTE},
    "relay_off": {"relay-down": 15 * MINUTE},
    "relay_dead": {"relay-dead": 15 * MINUTE},
    "relay_backlog": {"relay-backlog": 20 * MINUTE},
    "timer": {"timer-silent": 75 * MINUTE},
    "silence": {"no-sweep": 45 * MINUTE},
}


@pytest.fixture(scope="module")
def items() -> Iterator[list[Item]]:
    """Run all scenarios, and return their lines."""
    with listening() as (sent, connection):
        env = {**os.environ, **SETTINGS, "APPLICATIONINSIGHTS_CONNECTION_STRING": connection}
        env["RELAY_TARGETS"] = APP_SETTINGS["RELAY_TARGETS"]  # read at the import of the app
        command = [sys.executable, "-m", "tests.system.telemetry.scenarios"]
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
        yield [item for item in sent.items if item.table == "AppTraces"]


def of(items: list[Item], scenario: str) -> list[Item]:
    """Return the lines of a scenario."""
    start = start_of(scenario)
    return [item for item in items if start <= item.time < start + SLOT]


def test_each_scenario_has_its_alerts_and_each_alert_a_scenario() -> None:
    assert set(EXPECTED) == set(SCENARIOS)
    assert {alert for expected in EXPECTED.values() for alert in expected} == set(RULES) == set(kql.ALERTS)


@pytest.mark.parametrize("late", [timedelta(), LATE], ids=["at once", "late"])
@pytest.mark.parametrize(
    ("scenario", "alert"), [(scenario, alert) for scenario, expected in EXPECTED.items() for alert in expected]
)
def test_a_fault_raises_its_alert_in_time(items: list[Item], scenario: str, alert: str, late: timedelta) -> None:
    workspace, start, within = (
        Workspace(of(items, scenario), late=late),
        start_of(scenario),
        EXPECTED[scenario][alert],
    )
    runs = RULES[alert].moments(start, start + FAULT_AT + within)
    fired = next((now for now in runs if RULES[alert].fires(workspace, now, created=start - HOUR)), None)
    assert fired is not None
    assert fired >= start + FAULT_AT


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_fault_raises_no_other_alert(items: list[Item], scenario: str) -> None:
    workspace, start = Workspace(of(items, scenario)), start_of(scenario)
    last = max(item.time for item in of(items, scenario))
    for key in RULES.keys() - EXPECTED[scenario].keys():
        now = start
        while now <= last:
            assert not RULES[key].fires(workspace, now, created=start - HOUR), (key, RULES[key].rows(workspace, now))
            now += 15 * MINUTE


def test_in_health_no_alert_fires_on_late_and_doubled_lines(items: list[Item]) -> None:
    workspace, start = Workspace(of(items, "health"), late=LATE, copies=2), start_of("health")
    for rule in RULES.values():
        for now in rule.moments(start, start + 3 * HOUR):
            assert not rule.fires(workspace, now, created=start - HOUR), (rule.key, rule.rows(workspace, now))


def test_an_app_that_is_gone_raises_no_sweep_not_timer_silent(items: list[Item]) -> None:
    """The last hour then has only sweeps that the watchdog started. The alert no-sweep is for that."""
    workspace, end = Workspace(of(items, "timer")), start_of("timer") + 4 * HOUR
    assert RULES["timer-silent"].fires(workspace, end)
    later = end + 35 * MINUTE
    assert [key for key, rule in RULES.items() if rule.fires(workspace, later)] == ["no-sweep"]


def test_a_target_is_down_until_it_is_up_again(items: list[Item]) -> None:
    lines, fault = of(items, "relay_down"), start_of("relay_down") + FAULT_AT
    (down,) = [item.time for item in lines if item.event == "relay.target.down"]
    (up,) = [item.time for item in lines if item.event == "relay.target.up"]
    assert down - fault <= 6 * MINUTE  # the fifth of the attempts, which are made each minute
    assert BOT_IS_DOWN <= up - fault <= BOT_IS_DOWN + 16 * MINUTE  # a retry each 15 minutes at least
    for now in RULES["relay-down"].moments(fault, fault + 2 * HOUR):
        assert _is_down(lines, now) == (down <= now < up)


def test_a_target_that_is_switched_off_is_down_until_it_is_enabled(items: list[Item]) -> None:
    lines, at = of(items, "relay_disabled"), start_of("relay_disabled") + FAULT_AT
    (row,) = RULES["relay-down"].rows(Workspace(lines), at + 9 * HOUR)
    assert (row["target"], row["instance"], row["what"]) == ("bot", "", "switched off")
    assert not _is_down(lines, at + 10 * HOUR + MINUTE)


def test_wrong_settings_of_the_relay_raise_an_alert_until_they_are_right(items: list[Item]) -> None:
    lines, at = of(items, "relay_off"), start_of("relay_off") + FAULT_AT
    (row,) = RULES["relay-down"].rows(Workspace(lines), at + 50 * MINUTE)
    assert row["what"] == "wrong settings"
    assert str(row["error"]).startswith("Settings to correct: RELAY_TARGETS")
    assert not _is_down(lines, at + HOUR + 16 * MINUTE)  # the window has 15


def test_each_instance_of_a_bot_is_down_by_itself(items: list[Item]) -> None:
    lines, fault = of(items, "relay_down"), start_of("relay_down") + FAULT_AT
    other = [replace(item, properties={**item.properties, "to": "pod-2"}) for item in lines if "down" in item.event]
    (row,) = RULES["relay-down"].rows(Workspace([*lines, *other]), fault + HOUR)  # the first one is up again
    assert (row["target"], row["instance"], row["failures"]) == ("bot", "pod-2", 5)


def test_a_dead_delivery_counts_also_if_its_line_was_left_out(items: list[Item]) -> None:
    (dead,) = [item for item in of(items, "relay_dead") if item.event == "relay.delivery.dead"]
    workspace = Workspace([replace(dead, properties={**dead.properties, "suppressedCount": "70"})])
    (row,) = RULES["relay-dead"].rows(workspace, dead.time + 5 * MINUTE)
    assert (row["target"], row["error"], row["deliveries"]) == ("bot", "404", 71)
    assert row["deliveryId"] == dead.properties["deliveryId"]


def test_a_delivery_that_waits_for_5_minutes_raises_no_alert(items: list[Item]) -> None:
    lines = [item for item in of(items, "relay_backlog") if item.event == "relay.outbox.age"]
    young = [item for item in lines if float(item.properties["oldestSeconds"]) <= 300]
    old = [item for item in lines if item not in young]
    assert len(young) >= 5  # one each minute, and those of sweeps
    assert old
    assert RULES["relay-backlog"].rows(Workspace(young), young[-1].time + MINUTE) == []
    (row,) = RULES["relay-backlog"].rows(Workspace(lines), old[0].time + MINUTE)
    assert row["lanes"] == 1


def test_the_rows_of_a_call_at_risk_say_what_the_runbook_reads(items: list[Item]) -> None:
    workspace, start = Workspace(of(items, "forbidden")), start_of("forbidden")
    rows = RULES["call-at-risk"].rows(workspace, start + FAULT_AT + 50 * MINUTE)
    by_what = {str(row["what"]): row for row in rows}
    assert set(by_what) == {"at risk", "lapsed"}
    assert by_what["at risk"]["reason"] == "forbidden"
    assert float(str(by_what["at risk"]["oldest"])) >= 30
    assert by_what["at risk"]["callId"] == by_what["lapsed"]["callId"]
    (row,) = RULES["graph-forbidden"].rows(workspace, start + FAULT_AT + 10 * MINUTE)
    assert (row["tenantId"], row["subcode"]) == (TENANT, "7504")


def test_row_unreadable_names_the_calls_that_are_not_renewed(items: list[Item]) -> None:
    workspace, start = Workspace(of(items, "damaged")), start_of("damaged")
    rows = RULES["row-unreadable"].rows(workspace, start + FAULT_AT + 20 * MINUTE)
    assert {str(row["what"]) for row in rows} == {"a call is not renewed", "a part of a row was left out"}
    assert {(row["rowKind"], str(row["rowKey"]).partition("|")[0]) for row in rows} == {("active", "active")}


def test_a_failed_webhook_request_counts_once_for_all_its_lines(items: list[Item]) -> None:
    workspace, start = Workspace(of(items, "webhook")), start_of("webhook")
    now = start + FAULT_AT + 5 * MINUTE
    (row,) = RULES["webhook-errors"].rows(workspace, now)
    assert (row["reason"], row["requests"]) == ("StoreUnavailable", 3)
    refused = next(item for item in of(items, "webhook") if item.event == "notifications.rejected")
    workspace.add("AppRequests", [host_row(refused.time, 503, operation=refused.operation_id)])
    (row,) = RULES["webhook-errors"].rows(workspace, now)
    assert (row["reason"], row["requests"]) == ("StoreUnavailable", 3)


@pytest.mark.parametrize(
    ("changes", "status", "fires"),
    [
        pytest.param({}, 503, True, id="503 by method and route"),
        # Without telemetryMode OpenTelemetry, the name is the function's.
        pytest.param({"Name": "receive_notifications"}, 500, True, id="500 by function name"),
        pytest.param({"Url": None}, 500, True, id="500 without URL"),
        pytest.param({}, 401, False, id="401"),
        pytest.param({}, 202, False, id="202"),
        pytest.param(
            {"Name": "GET api/health", "Url": "https://call-keeper.example/api/health"}, 503, False, id="503 of health"
        ),
    ],
)
def test_a_failed_request_that_only_the_host_logs_raises_an_alert(changes: Row, status: int, *, fires: bool) -> None:
    """As where the worker has died: the host answers by itself."""
    workspace = Workspace([])
    workspace.add("AppRequests", [host_row(START, status) | changes])
    assert RULES["webhook-errors"].fires(workspace, START + 5 * MINUTE) is fires


@pytest.mark.parametrize("queue", ["keep-alive-poison", "relay-poison"])
def test_a_poison_message_that_only_the_host_logs_raises_an_alert(queue: str) -> None:
    """The line is that of the WebJobs SDK's queue extension in the host."""
    line = f"Message has reached MaxDequeueCount of 5. Moving message to queue '{queue}'."
    workspace = Workspace([])
    workspace.add("AppTraces", [{"TimeGenerated": START.replace(tzinfo=None), "Message": line, "Properties": {}}])
    (row,) = RULES["poison"].rows(workspace, START + 5 * MINUTE)
    assert row["error"] == line


def test_an_empty_workspace_raises_only_the_alert_on_silence() -> None:
    empty = Workspace([])
    for table in TABLES:
        empty.add(table, [])
    for workspace in (Workspace([]), empty):
        assert [key for key, rule in RULES.items() if rule.fires(workspace, START)] == ["no-sweep"]
        assert not any(workspace.query(kql.sent(name, kql.CALL_ID), START) for name in kql.OF_WORKBOOK)


class TestSilence:
    """The alert `no-sweep`, see docs/decisions/0028-alert-on-silence.md."""

    def test_it_does_not_fire_in_a_new_workspace_without_lines(self) -> None:
        workspace = Workspace([])
        workspace.add("AppRequests", [host_row(START + MINUTE, 404)])  # a stranger tries addresses
        for hours in range(48):
            assert not silence(workspace, START + hours * HOUR, created=START)
        assert silence(workspace, START + 2 * DAY + MINUTE, created=START)

    def test_it_waits_half_an_hour_from_the_first_line(self, items: list[Item]) -> None:
        received = of(items, "silence")
        workspace = Workspace([item for item in received if item.event == "call.registered"])
        deployed = start_of("silence")
        assert not silence(workspace, deployed + 29 * MINUTE, created=deployed - HOUR)
        assert silence(workspace, deployed + 31 * MINUTE, created=deployed - HOUR)

    def test_it_fires_when_sweeps_finish_but_no_shard_is_done(self, items: list[Item]) -> None:
        sweeps = [item for item in of(items, "health") if item.event == "keep_alive.sweep.finished"]
        now = start_of("health") + HOUR
        assert not silence(Workspace(sweeps), now)
        assert silence(Workspace([replace(item, properties={**item.properties, "swept": "0"}) for item in sweeps]), now)

    def test_it_stays_on_for_days_without_any_data(self, items: list[Item]) -> None:
        workspace, gone = Workspace(of(items, "silence")), start_of("silence") + FAULT_AT
        for hours in range(1, 5 * 24, 3):
            assert silence(workspace, gone + hours * HOUR, created=gone - HOUR), hours

    def test_it_reads_the_time_of_creation_as_azure_writes_it(self) -> None:
        text = RULES["no-sweep"].query.replace("WORKSPACE_CREATED", "2026-03-02T07:59:59.1234567Z")
        assert not Workspace([]).query(text, START, RULES["no-sweep"].look_back)
        assert Workspace([]).query(text, START + 2 * DAY, RULES["no-sweep"].look_back)

    def test_without_a_time_of_creation_the_workspace_counts_as_old(self) -> None:
        text = RULES["no-sweep"].query
        for created in ("WORKSPACE_CREATED", "", "Mon, 02 Mar 2020 08:00:00 GMT"):
            replaced = text.replace("WORKSPACE_CREATED", created)
            assert Workspace([]).query(replaced, START, RULES["no-sweep"].look_back), created


def _is_down(lines: list[Item], now: datetime) -> bool:
    return RULES["relay-down"].fires(Workspace(lines), now)


def silence(workspace: Workspace, now: datetime, created: datetime | None = None) -> bool:
    """Return True if `no-sweep` fires."""
    return RULES["no-sweep"].fires(workspace, now, created)


def host_row(at: datetime, status: int, operation: str = "") -> Row:
    """Return a row as the Functions host writes it: here the host does not run.

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
