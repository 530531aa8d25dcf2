"""The queries of alerts and workbook are KQL, read only what is emitted, and lead to the runbook."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import TypeAdapter

import function_app
from functions.routing import ROUTES
from infra.make_workbook import WORKBOOK, WORKSPACE_ID, workbook
from shared.errors import CallKeeperError
from shared.telemetry import Metric
from tests.docs.documents import anchors, code, read, rows, section
from tests.system.telemetry import kql
from tests.system.telemetry.alerts import rules
from tests.system.telemetry.kql import ALERTS, ALL, QUERIES, ROOT
from tests.system.telemetry.language_service import TABLES, analyse
from tools.docs_tables import log_events, metrics

CATALOGUE = {event.name: event for event in log_events()}
APP = function_app.app  # the import of the app declares the routes
OF_DEPENDENCIES = {"requestId"}  # see `telemetry.dependency`
IDS = {"callId", "tenantId", "operationId", "requestId", "clientRequestId", "code", "subcode", "error", "detail"}
SENT = {
    f"{name} {'with' if call_id else 'without'} a call id": kql.sent(name, call_id)
    for name in kql.OF_WORKBOOK
    for call_id in ("", kql.CALL_ID)
}
TEXTS = {query.name: query.text for query in ALL} | SENT
# Wrong queries, each with the code of a diagnostic that the parser must give. They prove that the check can fail.
FAULTY = {
    "a reserved word as a name": ("AppTraces | summarize last = max(TimeGenerated)", "KS228"),
    "a misspelt column": ("AppTraces | where TimeGenarated > ago(15m)", "KS142"),
    "a column of another table": ("AppTraces | where ResultCode == '500'", "KS142"),
    "a column that was summarized away": ("AppTraces | summarize n = count() | where Message != ''", "KS142"),
    "a wrong type": ("AppTraces | where Message > 5", "KS106"),
    "an unknown function": ("AppTraces | extend x = tojson(Properties)", "KS211"),
    "an unknown table": ("AppTrace | take 1", "KS204"),
    "an unknown operator": ("AppTraces | were SeverityLevel > 1", "KS176"),
    "a bracket that is open": ("AppTraces | where (SeverityLevel > 1", "KS005"),
    "a text that is open": ('AppTraces | where Message == "x', "KS001"),
}

every_query = pytest.mark.parametrize("query", ALL, ids=lambda query: query.name)
every_alert = pytest.mark.parametrize("query", ALL[: len(ALERTS)], ids=lambda query: query.name)


def test_the_query_files_are_those_that_are_used() -> None:
    assert {path.stem for path in QUERIES.glob("*.kql")} == {query.name for query in ALL}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_microsofts_parser_finds_nothing_wrong_with_a_query(text: str) -> None:
    assert kql.answer(text).analysis.diagnostics == ()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_without_tables_a_query_is_still_good(text: str) -> None:
    """A rule whose query fails for a week is disabled by Azure, and a new workspace has no tables."""
    assert {found.severity for found in kql.answer(text).without} == {"Warning"}
    assert all("fuzzy name" in found.message for found in kql.answer(text).without)


def test_the_parser_refuses_wrong_queries() -> None:
    answers = analyse([text for text, _ in FAULTY.values()])
    codes = [[found.code for found in answer.analysis.diagnostics] for answer in answers]
    for (what, (_, code_)), found in zip(FAULTY.items(), codes, strict=True):
        assert code_ in found, (what, found)


def test_without_the_parser_the_check_fails_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Run make setup"):
        analyse(["print 1"], tmp_path)


@every_query
def test_a_query_reads_known_tables_and_known_events(query: kql.Query) -> None:
    assert query.analysis.tables
    assert query.analysis.tables <= set(TABLES)
    assert query.events <= set(CATALOGUE)
    assert query.events or query.name == "one-call"


@every_query
def test_a_field_that_a_query_reads_is_one_of_its_events(query: kql.Query) -> None:
    events = [CATALOGUE[name] for name in query.events] or list(CATALOGUE.values())
    known = {"event"}.union(*(event.fields for event in events))
    if "AppDependencies" in query.analysis.tables:
        known |= OF_DEPENDENCIES
    assert query.analysis.fields
    assert query.analysis.fields <= known


@every_query
def test_the_header_of_a_query_has_a_purpose_and_a_runbook_link(query: kql.Query) -> None:
    assert query.header["Purpose"].endswith(".")
    file, _, anchor = query.header["Runbook"].partition("#")
    assert anchor in anchors(read(file))


@every_alert
def test_an_alert_is_as_deployed_and_has_a_section_in_the_runbook(query: kql.Query) -> None:
    rule = rules()[query.name]
    assert rule.query == query.text
    assert query.header["Severity"] == str(rule.severity)
    assert TypeAdapter(timedelta).validate_python(query.header["Window"]) == rule.window
    documented = section(read("docs/runbook.md"), query.name)
    for part in ("What it means", "How urgent", "Look here", "Do this", "It is over"):
        assert f"**{part}" in documented


@every_alert
def test_an_alert_sees_all_the_data_that_its_query_looks_back_for(query: kql.Query) -> None:
    """Microsoft: alerts accept `ago()` with literals only, and see two days at most, whatever the query says."""
    rule, spans = rules()[query.name], query.analysis.ago
    assert None not in spans
    assert timedelta(minutes=max(span for span in spans if span)) == rule.look_back <= timedelta(days=2)
    assert rule.frequency * 3 <= rule.look_back  # so a line that is late by twice the frequency is still seen


@every_alert
def test_an_alert_is_split_by_columns_that_its_query_gives(query: kql.Query) -> None:
    kinds = {query.analysis.columns.get(name) for name in rules()[query.name].dimensions}
    assert kinds <= {"string"}


@every_alert
def test_an_alert_uses_only_what_alerts_support(query: kql.Query) -> None:
    """Microsoft: bag_unpack, pivot and narrow are refused, and AggregatedValue is a reserved name."""
    assert query.analysis.functions.isdisjoint({"bag_unpack", "pivot", "narrow"})
    assert "AggregatedValue" not in query.analysis.columns


def test_the_runbooks_table_has_the_severities_of_the_alerts() -> None:
    table = rows(section(read("docs/runbook.md"), "Runbook"))
    documented = {found[1]: row[1] for row in table if (found := _link(row[0]))}
    assert documented == {rule.key: str(rule.severity) for rule in rules().values()}


def test_the_runbook_sets_the_variables_that_its_commands_use() -> None:
    documented = read("docs/runbook.md")
    used = set(re.findall(r"\$([A-Z]+)\b", documented)) - {"APP", "GROUP"}  # only the reader knows which app it is
    assert {"KEY", "TOKEN", "HOST"} <= used
    assert used <= set(re.findall(r"^([A-Z]+)=", documented, re.MULTILINE))


def test_poison_is_what_failed_as_often_as_the_host_tries() -> None:
    tries = json.loads(read("host.json"))["extensions"]["queues"]["maxDequeueCount"]
    assert kql.read("poison").analysis.compared("Properties.dequeueCount") == {tries}


def test_the_errors_and_the_route_of_the_webhooks_alert_exist() -> None:
    analysis = kql.read("webhook-errors").analysis
    assert analysis.compared("Properties.reason")
    assert analysis.compared("Properties.reason") <= {kind.__name__ for kind in _kinds(CallKeeperError)}
    assert analysis.compared("Properties.route") == {"receive_notifications"} <= {route.name for route in ROUTES}


def test_the_workbook_reads_the_deployments_workspace() -> None:
    made = json.loads(workbook())
    assert made["fallbackResourceIds"] == [WORKSPACE_ID]
    assert f"replace(loadTextContent('../workbook.json'), '{WORKSPACE_ID}', workspace.id)" in read(
        "infra/modules/monitoring.bicep"
    )
    time, _ = made["items"][0]["content"]["parameters"]
    assert time["value"] in time["typeSettings"]["selectableValues"]


def test_the_workbook_is_made_of_the_query_files() -> None:
    assert WORKBOOK.read_text(encoding="utf-8") == workbook(), "run: .venv/bin/python -m infra.make_workbook"


@pytest.mark.parametrize("name", kql.OF_WORKBOOK)
def test_no_parameter_of_the_workbook_is_left_in_what_it_sends(name: str) -> None:
    made = json.loads(workbook())
    names = {parameter["name"] for parameter in made["items"][0]["content"]["parameters"]}
    assert not any(f"{{{parameter}}}" in kql.sent(name, kql.CALL_ID) for parameter in names)


@pytest.mark.parametrize("metric", metrics(), ids=lambda metric: metric.name)
def test_a_metric_is_split_by_few_values_only(metric: Metric) -> None:
    assert set(metric.attributes).isdisjoint(IDS)


def test_only_host_json_configures_the_exporter() -> None:
    assert json.loads(read("host.json"))["telemetryMode"] == "OpenTelemetry"
    modules = [path for folder in ("functions", "shared") for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in modules]
    assert not any(
        re.search(r"configure_azure_monitor|azure\.monitor|opentelemetry\.(sdk|instrumentation)", text)
        for text in texts
    )


def test_the_document_names_the_settings_of_telemetry() -> None:
    documented = {name for row in rows(section(read("docs/telemetry.md"), "How it is sent")) for name in code(row[0])}
    assert {"APPLICATIONINSIGHTS_CONNECTION_STRING", "PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY"} <= documented


def _kinds(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _link(cell: str) -> re.Match[str] | None:
    return re.match(r"\[([\w-]+)\]", cell)
