"""The queries of alerts and workbook ask for what is emitted, and lead to the runbook."""

import json
import re

import pytest

import function_app
from functions.http import ROUTES
from infra.make_workbook import PARTS, WORKBOOK, WORKSPACE_ID, workbook
from shared.errors import CallKeeperError
from shared.telemetry import Metric
from tests.docs.documents import anchors, code, read, rows, section
from tests.docs.tables import log_events, metrics
from tests.observed import kql
from tests.observed.kql import ALERTS, QUERIES, ROOT

ALL = [kql.read(name) for name in (*ALERTS, *kql.WORKBOOK)]
CATALOGUE = {event.name: event for event in log_events()}
APP = function_app.app  # its import declares the routes
TABLES = {"AppTraces", "AppDependencies", "AppRequests"}
OF_DEPENDENCIES = {"requestId"}  # see `telemetry.dependency`
IDS = {"callId", "tenantId", "operationId", "requestId", "clientRequestId", "code", "subcode", "error", "detail"}

every_query = pytest.mark.parametrize("query", ALL, ids=lambda query: query.name)
every_alert = pytest.mark.parametrize("query", ALL[: len(ALERTS)], ids=lambda query: query.name)


def test_the_query_files_are_those_that_are_used() -> None:
    assert {path.stem for path in QUERIES.glob("*.kql")} == {query.name for query in ALL}


@every_query
def test_a_query_reads_known_tables_and_known_events(query: kql.Query) -> None:
    assert query.tables
    assert query.tables <= TABLES
    assert query.events <= set(CATALOGUE)
    assert query.events or query.name == "one-call"


@every_query
def test_a_field_that_a_query_reads_is_one_of_its_events(query: kql.Query) -> None:
    events = [CATALOGUE[name] for name in query.events] or list(CATALOGUE.values())
    known = {"event"}.union(*(event.fields for event in events))
    if "AppDependencies" in query.tables:
        known |= OF_DEPENDENCIES
    assert query.fields <= known


@every_query
def test_brackets_and_quotes_of_a_query_close(query: kql.Query) -> None:
    plain = re.sub(r'"[^"]*"', "", query.text)
    assert '"' not in plain
    assert plain.count("(") == plain.count(")")


@every_query
def test_the_header_of_a_query_says_its_purpose_and_leads_to_the_runbook(query: kql.Query) -> None:
    assert query.header["Purpose"].endswith(".")
    file, _, anchor = query.header["Runbook"].partition("#")
    assert anchor in anchors(read(file))


@every_alert
def test_an_alert_has_a_severity_a_window_and_a_section_with_what_to_do(query: kql.Query) -> None:
    assert query.header["Severity"] in {"0", "1", "2", "3", "4"}
    minutes = re.fullmatch(r"PT(\d+)M", query.header["Window"].replace("PT1H", "PT60M"))  # Azure writes an hour so
    assert minutes is not None
    assert set(re.findall(r"ago\((\w+)\)", query.text)) == {f"{minutes[1]}m"}
    told = section(read("docs/runbook.md"), query.name)
    for part in ("What it means", "How urgent", "Look here", "Do this", "It is over"):
        assert f"**{part}" in told


def test_the_table_of_the_runbook_tells_the_severities_of_the_alerts() -> None:
    told = {found[1]: row[1] for row in rows(section(read("docs/runbook.md"), "Runbook")) if (found := _link(row[0]))}
    assert told == {query.name: query.header["Severity"] for query in ALL[: len(ALERTS)]}


def test_what_the_runbook_types_is_set_in_it() -> None:
    told = read("docs/runbook.md")
    used = set(re.findall(r"\$([A-Z]+)\b", told)) - {"APP", "GROUP"}  # which app it is, only the reader knows
    assert {"KEY", "TOKEN", "HOST"} <= used
    assert used <= set(re.findall(r"^([A-Z]+)=", told, re.MULTILINE))


def test_the_deployment_has_each_alert_with_its_severity_and_window() -> None:
    found = re.findall(
        r"key: '([\w-]+)'.*?severity: (\d).*?window: '(\w+)'.*?queries/([\w-]+)\.kql'",
        read("infra/modules/monitoring.bicep"),
        re.DOTALL,
    )
    wanted = {
        (query.name, query.header["Severity"], query.header["Window"], query.name) for query in ALL[: len(ALERTS)]
    }
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_the_dead_mans_alert_counts_without_grouping_so_that_nothing_is_a_row_too() -> None:
    lines = [line.strip() for line in kql.read("no-sweep").text.splitlines() if line.strip()]
    assert re.fullmatch(r"\| summarize sweeps = count\(\), [^|]*", lines[-2])
    assert " by " not in lines[-2]
    assert lines[-1] == "| where sweeps == 0"


@pytest.mark.parametrize("name", ["no-sweep", "webhook-errors", "one-call"])
def test_a_table_that_a_new_workspace_lacks_yet_fails_no_union(name: str) -> None:
    assert "union isfuzzy=true" in kql.read(name).text


def test_the_dead_mans_alert_has_a_table_to_count_in_before_any_telemetry_came() -> None:
    empty = re.search(r"\(datatable\(([^)]*)\) \[\]\)", kql.read("no-sweep").text)
    assert empty
    assert set(re.findall(r"(\w+):", empty[1])) == {"TimeGenerated", "Message", "Properties"}


def test_the_webhooks_requests_are_known_by_name_address_or_function() -> None:
    text = kql.read("webhook-errors").text
    (route,) = [route for route in ROUTES if route.name == "receive_notifications"]
    assert f'Name has "{route.name}"' in text
    assert f'Url has "/api/{route.path}"' in text
    assert f'tostring(Properties["faas.name"]) == "{route.name}"' in text


def test_a_silent_timer_is_told_by_the_words_of_those_who_sweep() -> None:
    text = kql.read("timer-silent").text
    assert 'countif(wakeUp == "timer")' in text
    assert 'keeper.sweep("timer"' in read("functions/keep_alive.py")
    assert text.strip().endswith("now() - first > 45m")


def test_poison_is_also_what_the_host_itself_says_it_put_aside() -> None:
    assert 'or Message startswith "Message has reached MaxDequeueCount"' in kql.read("poison").text


def test_poison_is_what_failed_as_often_as_the_host_tries() -> None:
    tries = json.loads(read("host.json"))["extensions"]["queues"]["maxDequeueCount"]
    assert f"toint(Properties.dequeueCount) >= {tries}" in kql.read("poison").text


def test_the_errors_and_the_route_of_the_webhooks_alert_exist() -> None:
    strings = set(kql.read("webhook-errors").strings)
    kinds = {kind.__name__ for kind in _kinds(CallKeeperError)}
    assert {text for text in strings if text[:1].isupper()} <= kinds
    assert strings & kinds
    assert {text for text in strings if "_" in text and "." not in text} <= {route.name for route in ROUTES}


def test_the_workbook_asks_the_deployments_workspace_and_offers_spans_of_time() -> None:
    made = json.loads(workbook())
    assert made["fallbackResourceIds"] == [WORKSPACE_ID]
    assert f"replace(loadTextContent('../workbook.json'), '{WORKSPACE_ID}', workspace.id)" in read(
        "infra/modules/monitoring.bicep"
    )
    time, _ = made["items"][0]["content"]["parameters"]
    assert time["value"] in time["typeSettings"]["selectableValues"]


def test_the_workbook_is_made_of_the_query_files() -> None:
    assert WORKBOOK.read_text(encoding="utf-8") == workbook(), "run: .venv/bin/python -m infra.make_workbook"
    assert tuple(name for name, _, _ in PARTS) == kql.WORKBOOK


@pytest.mark.parametrize("metric", metrics(), ids=lambda metric: metric.name)
def test_a_metric_is_split_by_few_values_only(metric: Metric) -> None:
    assert set(metric.attributes).isdisjoint(IDS)


def test_host_json_is_in_opentelemetry_mode_and_no_code_configures_the_exporter() -> None:
    assert json.loads(read("host.json"))["telemetryMode"] == "OpenTelemetry"
    modules = [path for folder in ("functions", "shared") for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in modules]
    assert not any(
        re.search(r"configure_azure_monitor|azure\.monitor|opentelemetry\.(sdk|instrumentation)", text)
        for text in texts
    )


def test_the_settings_of_telemetry_are_those_that_the_end_to_end_run_uses() -> None:
    told = {name for row in rows(section(read("docs/telemetry.md"), "How it travels")) for name in code(row[0])}
    assert {"APPLICATIONINSIGHTS_CONNECTION_STRING", "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"} <= told


def _kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _link(cell: str) -> re.Match[str] | None:
    return re.match(r"\[([\w-]+)\]", cell)
