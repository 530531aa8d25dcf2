"""Each secret is unique, real processes run, and then all that they wrote is searched: who has which secret?"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient

from local.stack import APP_ID, Options, Stack, running
from tests.functions.harness import about_call, about_operation
from tests.observed.ingestion import Ingestion, listening
from tests.observed.test_end_to_end import SETTINGS

pytestmark = [pytest.mark.xdist_group("e2e-canaries"), pytest.mark.timeout(180)]

CANARIES = {
    name: f"canary-{name.lower()}-{uuid.uuid4().hex}"
    for name in (
        *(
            "CLIENT_SECRET",
            "CERTIFICATE_PASSWORD",
            "SECOND_SECRET",
            "METADATA",
            "DISPLAY_NAME",
            "CHAT",
            "MEETING_TOKEN",
        ),
        *("RECORDING_PLACE", "RECORDING_TOKEN", "BEARER"),
    )
}
SECOND = str(uuid.uuid4())
ALLOWED = {"METADATA": {"calls"}, "RECORDING_PLACE": {"calls"}, "RECORDING_TOKEN": {"calls"}}  # which table may hold it


@dataclass(frozen=True)
class Written:
    """All that was written, by where."""

    secrets: Mapping[str, str]
    logs: str
    sent: Ingestion
    answers: str
    own_answer: str
    tables: Mapping[str, str]
    queues: str


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with listening() as (sent, connection):
        second = {"appId": SECOND, "credential": "secret", "clientSecretSetting": "SECOND_SECRET"}
        settings = {
            **SETTINGS,
            "APPLICATIONINSIGHTS_CONNECTION_STRING": connection,
            "GRAPH_CLIENT_SECRET": CANARIES["CLIENT_SECRET"],
            "GRAPH_CERTIFICATE_PASSWORD": CANARIES["CERTIFICATE_PASSWORD"],
            "SECOND_SECRET": CANARIES["SECOND_SECRET"],
            "GRAPH_APPS": json.dumps([second]),
        }
        with running(Options(schedule="*/4 * * * * *", settings=settings)) as stack, httpx.Client(timeout=30) as http:
            yield _live(stack, http, sent)


def _live(stack: Stack, http: httpx.Client, sent: Ingestion) -> Written:
    call_id, operation_id, tenant = (str(uuid.uuid4()) for _ in range(3))
    key, answers = {"x-functions-key": stack.function_key}, []

    def ask(method: str, path: str, expect: int, headers: Mapping[str, str] = key, body: object = None) -> str:
        answer = http.request(method, f"{stack.api}/{path}", headers=dict(headers), json=body)
        assert answer.status_code == expect, answer.text
        answers.append(answer.text + str(answer.headers))
        return answers[-1]

    call = {"id": call_id, "tenantId": tenant, "appId": APP_ID, "callbackUri": f"{stack.api}/notifications"}
    assert http.post(f"{stack.simulator}/control/calls", json=call).is_success
    wish = {"tenantId": tenant, "appId": APP_ID, "metadata": {"note": CANARIES["METADATA"]}}
    ask("PUT", f"calls/{call_id}", 201, body=wish)
    shown = [answers.pop()]  # who registered it may see its metadata
    asked = {"kind": "notification", "appId": APP_ID, "tenantId": tenant}
    token = http.post(f"{stack.simulator}/control/tokens", json=asked).json()["token"]
    people = [{"info": {"identity": {"user": {"displayName": CANARIES["DISPLAY_NAME"], "id": "a"}}}}]
    told = [
        about_call(
            call_id,
            state="established",
            targets=people,  # type: ignore[arg-type] # JSON
            chatInfo={"threadId": CANARIES["CHAT"]},
            meetingInfo={"token": CANARIES["MEETING_TOKEN"]},
        ),
        about_operation(
            call_id,
            operation_id,
            status="completed",
            recordingLocation=f"https://recordings.example/{CANARIES['RECORDING_PLACE']}",
            recordingAccessToken=CANARIES["RECORDING_TOKEN"],
        ),
    ]
    ask("POST", "notifications", 202, {"Authorization": f"Bearer {token}"}, {"value": told})
    ask("POST", "notifications", 401, {"Authorization": f"Bearer {CANARIES['BEARER']}"}, {"value": told})
    ask("POST", "notifications", 400, {"Authorization": f"Bearer {token}"}, {"value": [{"resource": CANARIES["CHAT"]}]})
    ask("POST", f"calls/{call_id}/record", 202, body={})
    refusal = {"operation": "token", "status": 401, "message": f"AADSTS7000215: {CANARIES['SECOND_SECRET']}"}
    assert http.post(f"{stack.simulator}/control/faults", json=refusal).is_success
    other = {"tenantId": tenant, "appId": SECOND, "startedAt": "2026-01-01T00:00:00Z"}
    ask("PUT", f"calls/{uuid.uuid4()}", 201, body=other)
    assert http.delete(f"{stack.simulator}/control/faults").is_success
    own = ask("GET", f"calls/{call_id}/operations/{operation_id}", 200)
    answers.pop()
    ask("GET", f"calls/{call_id}/operations", 200)
    ask("GET", f"calls/{call_id}/events", 200)
    ask("GET", "health", 200, {})
    sent.until(lambda: sent.events("keep_alive.sweep.finished") and sent.events("graph.token.failed"))
    tables, queues = _tables(stack.storage.connection_string), _queues(stack.storage.connection_string)
    stack.host.stop()
    logs = "\n".join(path.read_text(errors="replace") for path in stack.folder.glob("*.log"))
    secrets = CANARIES | {"function key": stack.function_key, "notification token": token}
    assert CANARIES["METADATA"] in shown[0]
    return Written(secrets, logs, sent, "\n".join(answers), own, tables, queues)


def _tables(connection: str) -> dict[str, str]:
    with TableServiceClient.from_connection_string(connection) as service:
        names = [table.name for table in service.list_tables()]
        return {name: str(list(service.get_table_client(name).list_entities())) for name in names}


def _queues(connection: str) -> str:
    with QueueServiceClient.from_connection_string(connection) as service:
        names = [queue.name for queue in service.list_queues()]
        return str([message.content for name in names for message in service.get_queue_client(name).peek_messages(32)])


def test_no_log_and_no_telemetry_has_a_secret(written: Written) -> None:
    assert "graph.token.failed" in written.logs
    assert "AADSTS7000215" in written.sent.raw
    for name, secret in written.secrets.items():
        assert secret not in written.logs, name
        assert secret not in written.sent.raw, name


def test_no_answer_has_a_secret_but_that_of_the_operation(written: Written) -> None:
    for name, secret in written.secrets.items():
        assert secret not in written.answers, name
        assert (secret in written.own_answer) == (name in {"RECORDING_PLACE", "RECORDING_TOKEN"}), name


def test_no_table_or_queue_has_a_secret_but_calls_those_that_it_is_there_for(written: Written) -> None:
    assert "calls" in written.tables
    for name, secret in written.secrets.items():
        assert {table for table, text in written.tables.items() if secret in text} == ALLOWED.get(name, set()), name
        assert secret not in written.queues, name
