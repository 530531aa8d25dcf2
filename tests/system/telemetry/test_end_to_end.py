"""The real exporter sends to an ingestion endpoint of ours: what operators see of health and of faults."""

import importlib.util
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from local.stack.stack import APP_ID, ROOT, Options, Stack, running
from shared.telemetry import Metric
from tests.doctor.servers import Reply, serving
from tests.system.telemetry import kql
from tests.system.telemetry.alerts import rules
from tests.system.telemetry.exporter import SETTINGS
from tests.system.telemetry.ingestion import Ingestion, Item, listening
from tests.system.telemetry.workspace import Workspace
from tools.docs_tables import metrics

DISTRO = "azure-monitor-opentelemetry"
INSTALLED = importlib.util.find_spec("azure.monitor") is not None
DECLARED = f'"{DISTRO}' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
pytestmark = [
    pytest.mark.timeout(120),
    # Where it is declared, its absence is a failure and no reason to skip.
    pytest.mark.skipif(not INSTALLED and not DECLARED, reason=f"{DISTRO} is no dependency yet"),
]

SECRET = "5ecre7-that-nobody-may-see"  # in everything that we send and that telemetry must not repeat
HANGUP_TRACE = "0af7651916cd43dd8448eb211c80319c"
SPEED = Options().speed
REFUSED_TRACE = "1bf7651916cd43dd8448eb211c80319d"


@dataclass(frozen=True)
class Seen:
    """The run: what happened, and the telemetry of it."""

    sent: Ingestion
    faults: Ingestion  # of a second process, with faults
    tenant: str
    hung_up: str
    ended: str
    function_key: str
    client_secret: str
    graph: list[dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Run a sweep, an end by code, a refused notification and a hang-up; then stop the host; then run faults.

    A bot gets each notification through the relay.
    """
    accepts = serving(lambda _method, _path: Reply(202))
    with listening() as (sent, connection), listening() as (faults, elsewhere), accepts as bot:
        targets = json.dumps([{"name": "bot", "url": f"{bot}/calls", "format": "graph"}])
        settings = {**SETTINGS, "APPLICATIONINSIGHTS_CONNECTION_STRING": connection, "RELAY_TARGETS": targets}
        with running(Options(schedule="*/4 * * * * *", settings=settings)) as stack, httpx.Client(timeout=30) as http:
            seen = _run_health(stack, http, sent, faults)
            stack.hosts[0].start(APPLICATIONINSIGHTS_CONNECTION_STRING=elsewhere)
            _run_faults(stack, http, faults)
            yield seen


def _run_health(stack: Stack, http: httpx.Client, sent: Ingestion, faults: Ingestion) -> Seen:
    tenant, key = str(uuid.uuid4()), {"x-functions-key": stack.function_key}
    hung_up, ended = (_begin(stack, http, tenant) for _ in range(2))
    for call_id in (hung_up, ended):
        body = {"tenantId": tenant, "metadata": {"note": SECRET}}
        assert http.put(f"{stack.api}/calls/{call_id}", headers=key, json=body).is_success
    sent.until(lambda: sent.events("keep_alive.sweep.finished", renewed=2))
    end = {"code": 486, "subcode": 10003}
    assert http.post(f"{stack.simulator}/control/calls/{ended}/end", json=end).is_success
    refused = {"Authorization": f"Bearer {SECRET}", **_trace(REFUSED_TRACE)}
    assert http.post(f"{stack.api}/notifications", headers=refused, json={"value": [SECRET]}).status_code == 401
    answer = http.post(f"{stack.api}/calls/{hung_up}/hangup", headers=key | _trace(HANGUP_TRACE), json={})
    assert answer.is_success
    sent.until(lambda: sent.events("call.ended", callId=ended) and sent.events("call.ended", callId=hung_up))
    asked = http.get(f"{stack.simulator}/control/requests?limit=5000").json()["value"]
    stack.host.stop()
    secret = stack.settings()["GRAPH_CLIENT_SECRET"]
    return Seen(sent, faults, tenant, hung_up, ended, stack.function_key, secret, asked)


def _run_faults(stack: Stack, http: httpx.Client, faults: Ingestion) -> None:
    """Run three faults: a tenant without consent whose call is at risk, a token of another tenant, and lost storage."""
    tenant, key = str(uuid.uuid4()), {"x-functions-key": stack.function_key}
    fault = {"operation": "keepAlive", "tenantId": tenant, "status": 403, "subcode": 7504}
    assert http.post(f"{stack.simulator}/control/faults", json=fault).is_success
    age = timedelta(minutes=36)  # at risk; the remaining 9 minutes of the lease take 540 s / SPEED
    call_id = _begin(stack, http, tenant, ageSeconds=age.total_seconds())
    body = {"tenantId": tenant, "startedAt": (datetime.now(UTC) - age / SPEED).isoformat()}
    assert http.put(f"{stack.api}/calls/{call_id}", headers=key, json=body).is_success
    faults.until(lambda: faults.events("call.ended", callId=call_id, subcode=8537))
    other = _begin(stack, http, str(uuid.uuid4()))
    assert _notify(stack, http, call_id, str(uuid.uuid4())) == 403
    stack.azurite.kill()
    assert _notify(stack, http, other, tenant) == 503
    faults.until(lambda: faults.events("notifications.rejected", reason="StoreUnavailable"))
    stack.host.stop()


def _notify(stack: Stack, http: httpx.Client, call_id: str, tenant: str) -> int:
    """Send a notification with a good token of a tenant, and return the webhook's status."""
    wanted = {"kind": "notification", "appId": APP_ID, "tenantId": tenant}
    token = http.post(f"{stack.simulator}/control/tokens", json=wanted).json()["token"]
    data = {"@odata.type": "#microsoft.graph.call", "state": "established"}
    item = {"changeType": "updated", "resourceUrl": f"/communications/calls/{call_id}", "resourceData": data}
    headers = {"Authorization": f"Bearer {token}"}
    return http.post(f"{stack.api}/notifications", json={"value": [item]}, headers=headers).status_code


def _begin(stack: Stack, http: httpx.Client, tenant: str, **wanted: float) -> str:
    call_id = str(uuid.uuid4())
    call = {"id": call_id, "tenantId": tenant, "appId": APP_ID, "callbackUri": f"{stack.api}/notifications"}
    assert http.post(f"{stack.simulator}/control/calls", json=call | wanted).is_success
    return call_id


def _trace(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}


def test_an_end_arrives_once_with_its_codes(seen: Seen) -> None:
    [end] = seen.sent.events("call.ended", callId=seen.ended)
    assert {name: end.properties[name] for name in ("code", "subcode", "tenantId", "source")} == {
        "code": "486",
        "subcode": "10003",
        "tenantId": seen.tenant,
        "source": "notification",
    }
    assert end.properties["category"]


def test_a_refused_notification_arrives_once_with_its_reason(seen: Seen) -> None:
    [refusal] = seen.sent.events("notifications.rejected")
    assert refusal.properties["reason"] == "Unauthenticated"
    assert refusal.operation_id == REFUSED_TRACE


def test_a_hang_up_arrives_once_and_joins_request_storage_and_graph(seen: Seen) -> None:
    [event] = seen.sent.events("call.hung_up", callId=seen.hung_up)
    [to_graph] = [item for item in _dependencies(seen) if f"/communications/calls/{seen.hung_up}" in _target(item)]
    [asked] = [request for request in seen.graph if request["operation"] == "delete"]  # type: ignore[comparison-overlap] # the journal is JSON
    assert event.operation_id == to_graph.operation_id == HANGUP_TRACE
    assert asked["headers"]["traceparent"].split("-")[1] == HANGUP_TRACE
    assert asked["headers"]["client-request-id"] == to_graph.properties["clientRequestId"]
    assert to_graph.properties["requestId"]
    assert any("calls" in _target(item) and item.operation_id == HANGUP_TRACE for item in _storage(seen))


def test_a_sweep_arrives_once_and_joins_keep_alives_and_storage(seen: Seen) -> None:
    kept = [request for request in seen.graph if request["operation"] == "keepAlive"]  # type: ignore[comparison-overlap] # as above
    traces = {request["headers"]["traceparent"].split("-")[1] for request in kept}
    sweeps = [event for event in seen.sent.events("keep_alive.sweep.finished") if event.operation_id in traces]
    assert sweeps
    assert len({sweep.operation_id for sweep in sweeps}) == len(sweeps)
    for sweep in sweeps:
        assert int(sweep.properties["swept"]) > 0
        assert sweep.properties["wakeUp"]
        assert float(sweep.properties["smallestMarginMinutes"]) > 0
        assert any(item.operation_id == sweep.operation_id for item in _storage(seen))
    assert all(request["headers"]["client-request-id"] for request in kept)


def test_a_keep_alive_that_succeeds_leaves_no_row_of_its_own(seen: Seen) -> None:
    assert not any("keepAlive" in _target(item) for item in _dependencies(seen))


def test_an_end_is_joined_to_the_notification_that_reported_it(seen: Seen) -> None:
    [end] = seen.sent.events("call.ended", callId=seen.ended)
    accepted = [event for event in seen.sent.events("notifications.accepted") if event.operation_id == end.operation_id]
    assert len(accepted) == 1
    assert any(item.operation_id == end.operation_id for item in _storage(seen))


@pytest.mark.parametrize("name", ["no-sweep", "why-calls-end", "calls-safe-now"])
def test_the_fields_that_a_query_reads_have_arrived(seen: Seen, name: str) -> None:
    query = kql.read(name)
    events = [item for item in seen.sent.items if item.event in query.events]
    assert {item.event for item in events} == query.events
    assert query.analysis.fields <= {field for item in events for field in item.properties}


def test_in_health_no_alert_fires_until_sweeps_are_missing(seen: Seen) -> None:
    workspace, now = Workspace(seen.sent.items), _end(seen.sent)
    assert [rule.key for rule in rules().values() if rule.fires(workspace, now)] == []
    later = now + timedelta(minutes=31)
    assert [rule.key for rule in rules().values() if rule.fires(workspace, later)] == ["no-sweep"]


def test_on_the_rows_of_faults_their_alerts_fire(seen: Seen) -> None:
    workspace, now = Workspace(seen.faults.items), _end(seen.faults)
    fired = {rule.key for rule in rules().values() if rule.fires(workspace, now)}
    assert fired == {"call-at-risk", "graph-forbidden", "other-tenant", "webhook-errors"}
    assert {row["what"] for row in rules()["call-at-risk"].rows(workspace, now)} >= {"at risk", "lapsed"}
    (forbidden,) = rules()["graph-forbidden"].rows(workspace, now)
    assert forbidden["subcode"] == "7504"
    assert forbidden["requestId"]
    assert [row["reason"] for row in rules()["webhook-errors"].rows(workspace, now)] == ["StoreUnavailable"]


def test_the_workbook_answers_on_these_rows(seen: Seen) -> None:
    workspace, now = Workspace(seen.sent.items), _end(seen.sent)
    sweeps = workspace.query(kql.sent("calls-safe-now"), now)
    logged = seen.sent.events("keep_alive.sweep.finished")
    assert sorted(str(row["swept"]) for row in sweeps) == sorted(event.properties["swept"] for event in logged)
    assert {row["wakeUp"] for row in sweeps} == {event.properties["wakeUp"] for event in logged}
    assert max(float(str(row["smallestMarginMinutes"] or 0)) for row in sweeps) > 0
    ends = workspace.query(kql.sent("why-calls-end"), now)
    assert ("486", "10003") in {(row["code"], row["subcode"]) for row in ends}
    assert sum(int(str(row["calls"])) for row in ends) == 2
    bodies = workspace.query(kql.sent("webhook-health"), now)
    assert {row["outcome"] for row in bodies} == {"stored", "Unauthenticated"}


@pytest.mark.parametrize("form", ["{}", "  {} "])
def test_the_workbook_shows_one_call_with_its_requests_to_graph(seen: Seen, form: str) -> None:
    workspace, now = Workspace(seen.sent.items), _end(seen.sent)
    rows = workspace.query(kql.sent("one-call", form.format(seen.hung_up)), now)
    assert {"call.registered", "call.hung_up", "call.ended"} <= {row["what"] for row in rows}
    assert [row["requestId"] for row in rows if row["OperationId"] == HANGUP_TRACE and row["requestId"]]
    assert rows == sorted(rows, key=lambda row: str(row["TimeGenerated"]))


@pytest.mark.parametrize("call_id", ["", "   "])
def test_without_a_call_id_the_workbook_shows_no_call(seen: Seen, call_id: str) -> None:
    assert Workspace(seen.sent.items).query(kql.sent("one-call", call_id), _end(seen.sent)) == []


@pytest.mark.parametrize("metric", [m for m in metrics() if "unknown" not in m.name], ids=lambda metric: metric.name)
def test_a_metric_arrives_with_the_attributes_it_is_split_by(seen: Seen, metric: Metric) -> None:
    items = [item for item in seen.sent.items if any(point["name"] == metric.name for point in _points(item))]
    assert items
    assert all(set(item.properties) >= set(metric.attributes) for item in items)
    assert not any(id_ in str(item.properties) for item in items for id_ in (seen.ended, seen.hung_up, seen.tenant))


def test_field_case_15_absent_rows_are_no_failed_dependencies(seen: Seen) -> None:
    """No failures: a read of a row that need not exist, a lost race, and a table that exists already."""
    dependencies = _dependencies(seen)
    # The host polls the queue before the first message creates it; a deployment has created it.
    failed = [item.data for item in dependencies if not item.data["success"] and "queue" not in str(item.data).lower()]
    assert failed == []
    assert {item.data["name"] for item in _storage(seen)} == {"query calls", "write calls"}
    assert not any(item.table == "AppExceptions" for item in seen.sent.items)


def test_no_secret_was_sent(seen: Seen) -> None:
    raw = seen.sent.raw
    assert "call.ended" in raw
    for secret in (SECRET, seen.function_key, seen.client_secret, "AccountKey", "Bearer ", "eyJ"):
        assert secret not in raw, secret


def _dependencies(seen: Seen) -> list[Item]:
    return [item for item in seen.sent.items if item.table == "AppDependencies"]


def _storage(seen: Seen) -> list[Item]:
    return [item for item in _dependencies(seen) if item.data.get("type") == "azure.tables"]


def _target(item: Item) -> str:
    return f"{item.data.get('name')} {item.data.get('data')}"


def _end(sent: Ingestion) -> datetime:
    """Return the time of the last line."""
    return max(item.time for item in sent.items if item.event)


def _points(item: Item) -> list[dict[str, object]]:
    listed = item.data.get("metrics")
    return listed if isinstance(listed, list) else []
