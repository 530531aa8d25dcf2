"""Each secret is unique. Real processes use them, and then all that the processes wrote is searched for them."""

import json
import re
import uuid
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from local.stack.stack import APP_ID, Options, Ports, Stack, running
from shared.storage.rows import SIGNING_KEY_ROW
from shared.storage.table import partition_key
from tests.functions.harness import about_call, about_operation
from tests.system.e2e import management_auth
from tests.system.e2e.graph_proxy import GraphProxy, running_proxy
from tests.system.telemetry.exporter import SETTINGS
from tests.system.telemetry.ingestion import Ingestion, listening

pytestmark = pytest.mark.timeout(180)

NAMES = """
    CLIENT_SECRET SECOND_SECRET CERTIFICATE_PASSWORD WRONG_PASSWORD IDENTITY_HEADER
    METADATA DISPLAY_NAME CHAT MEETING_TOKEN RECORDING_PLACE RECORDING_TOKEN BEARER MANAGEMENT_BEARER
    IDEMPOTENCY_KEY PROMPT_SIGNATURE
"""
CANARIES = {name: f"canary-{name.lower()}-{uuid.uuid4().hex}" for name in NAMES.split()}
OPERATION_SECRETS = {"RECORDING_PLACE", "RECORDING_TOKEN"}
IN_CALLS = OPERATION_SECRETS | {"METADATA", "signing key of continuations"}  # only the table `calls` may hold these
A_TOKEN = re.compile(r"eyJ[\w-]{20,}")  # the start of the header and of the claims of each JWT
LONG_AGO = "2026-01-01T00:00:00Z"  # so that a call is renewed at once

IDENTITIES = {name: str(uuid.uuid4()) for name in ("refused identity", "identity")}
BOTS = {
    "refused": {"credential": "secret", "clientSecretSetting": "SECOND_SECRET"},
    **{name: {"credential": "managedIdentity", "identityClientId": app_id} for name, app_id in IDENTITIES.items()},
    "certificate": {"credential": "certificate", "certificatePasswordSetting": "CERTIFICATE_PASSWORD"},
    "locked certificate": {"credential": "certificate", "certificatePasswordSetting": "WRONG_PASSWORD"},
}
APP_IDS = {name: IDENTITIES.get(name, str(uuid.uuid4())) for name in BOTS}


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in a file that CERTIFICATE_PASSWORD opens."""

    path: Path
    public: str
    private: str


@dataclass(frozen=True)
class Written:
    """All that was written, by place."""

    secrets: Mapping[str, str]
    logs: str
    sent: Ingestion
    answers: str
    own_answer: str
    tables: Mapping[str, str]
    queues: str
    graph_tokens: int


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a bot")]), datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    signed = made.sign(key, hashes.SHA256())
    locked = serialization.BestAvailableEncryption(CANARIES["CERTIFICATE_PASSWORD"].encode())
    path = tmp_path_factory.mktemp("certificate") / "bot.pfx"
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"bot", key, signed, None, locked))
    plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    line = key.private_bytes(*plain).decode().splitlines()[2]
    return Certificate(path, signed.public_bytes(serialization.Encoding.PEM).decode(), line)


@pytest.fixture(scope="module")
def written(certificate: Certificate) -> Iterator[Written]:
    with listening() as (sent, connection), running_proxy() as graph, httpx.Client(timeout=30) as http:
        port = management_auth.free_port()
        locked = {"certificatePath": str(certificate.path)}
        apps = [
            {"appId": APP_IDS[name], **bot, **(locked if bot["credential"] == "certificate" else {})}
            for name, bot in BOTS.items()
        ]
        settings = {
            **SETTINGS,
            **management_auth.settings(),
            "APPLICATIONINSIGHTS_CONNECTION_STRING": connection,
            "GRAPH_BASE_URL": graph.address,
            "GRAPH_CLIENT_SECRET": CANARIES["CLIENT_SECRET"],
            "GRAPH_APPS": json.dumps(apps),
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{port}/msi/token",
            **{name: CANARIES[name] for name in ("SECOND_SECRET", "CERTIFICATE_PASSWORD", "WRONG_PASSWORD")},
            "IDENTITY_HEADER": CANARIES["IDENTITY_HEADER"],
        }
        with running(Options(schedule="*/4 * * * * *", ports=Ports(simulator=port), settings=settings)) as stack:
            graph.graph = stack.simulator
            run = _Run(stack, http, certificate)
            run.control("PUT", f"/apps/{APP_IDS['certificate']}", {"certificate": certificate.public})
            run.use_secrets()
            yield run.end(sent, graph)


class _Run:
    """The requests of the run: each use of a secret, and each refusal of one."""

    def __init__(self, stack: Stack, http: httpx.Client, certificate: Certificate) -> None:
        self._stack, self._http = stack, http
        self._call, self._operation, self._tenant = (str(uuid.uuid4()) for _ in range(3))
        self._bearer = management_auth.token(stack.simulator)
        asked = {"kind": "notification", "appId": APP_ID, "tenantId": self._tenant, "audience": None, "issuer": None}
        self._signature = management_auth.token(stack.simulator, **asked)
        self._key = {"x-functions-key": stack.function_key}
        self._rights = self._key | {"Authorization": f"Bearer {self._bearer}"}
        self._answers: list[str] = []
        self._own = ""
        self.secrets = CANARIES | {
            "function key": stack.function_key,
            "key of the storage account": stack.storage.connection_string.partition("AccountKey=")[2].partition(";")[0],
            "key of the certificate": certificate.private,
            "management token": _signed_part(self._bearer),
            "notification token": _signed_part(self._signature),
        }

    def control(self, method: str, path: str, body: object = None) -> None:
        """Send a command to the simulator."""
        self._http.request(method, f"{self._stack.simulator}/control{path}", json=body).raise_for_status()

    def ask(
        self, method: str, path: str, expect: int, headers: Mapping[str, str] | None = None, body: object = None
    ) -> str:
        """Send a request to the API, with all rights or with other headers. Return the response with its headers."""
        sent = dict(self._rights if headers is None else headers)
        answer = self._http.request(method, f"{self._stack.api}/{path}", headers=sent, json=body)
        assert answer.status_code == expect, answer.text
        self._answers.append(answer.text + str(answer.headers))
        return self._answers[-1]

    def use_secrets(self) -> None:
        """Send all requests."""
        call = {"id": self._call, "tenantId": self._tenant, "callbackUri": f"{self._stack.api}/notifications"}
        self.control("POST", "/calls", call | {"appId": APP_ID})
        wish = {"tenantId": self._tenant, "appId": APP_ID, "startedAt": LONG_AGO}
        assert CANARIES["METADATA"] in self.ask(
            "PUT", f"calls/{self._call}", 201, body=wish | {"metadata": {"note": CANARIES["METADATA"]}}
        )
        self._answers.pop()  # the caller that registered the call may see its metadata
        self._notify()
        self._record()
        self._ask_for_tokens()
        self._own = self.ask("GET", f"calls/{self._call}/operations/{self._operation}", 200)
        self._answers.pop()
        self.ask("GET", f"calls/{self._call}/operations", 200)
        self.ask("GET", f"calls/{self._call}/events", 200)
        assert '"continuation":null' not in self.ask("GET", "calls?limit=1", 200)
        page = self._answers.pop()  # a caller that may see the call may see its metadata
        self._answers.append(page.replace(CANARIES["METADATA"], "metadata"))
        self.ask("GET", "health", 200, {})
        for wrong in (CANARIES["MANAGEMENT_BEARER"], f"{self._bearer}x", self._signature):
            self.ask("GET", f"calls/{self._call}", 401, self._key | {"Authorization": f"Bearer {wrong}"})

    def _notify(self) -> None:
        people = [{"info": {"identity": {"user": {"displayName": CANARIES["DISPLAY_NAME"], "id": "a"}}}}]
        notifications = [
            about_call(
                self._call,
                state="established",
                targets=people,  # type: ignore[arg-type] # JSON
                chatInfo={"threadId": CANARIES["CHAT"]},
                meetingInfo={"token": CANARIES["MEETING_TOKEN"]},
            ),
            about_operation(
                self._call,
                self._operation,
                status="completed",
                recordingLocation=f"https://recordings.example/{CANARIES['RECORDING_PLACE']}",
                recordingAccessToken=CANARIES["RECORDING_TOKEN"],
            ),
        ]
        graph = {"Authorization": f"Bearer {self._signature}"}
        self.ask("POST", "notifications", 202, graph, {"value": notifications})
        self.ask(
            "POST", "notifications", 401, {"Authorization": f"Bearer {CANARIES['BEARER']}"}, {"value": notifications}
        )
        self.ask("POST", "notifications", 400, graph, {"value": [{"resource": CANARIES["CHAT"]}]})

    def _record(self) -> None:
        """Record with an idempotency key, and with a prompt whose URI is a secret, like a signed URI of storage."""
        once = {"Idempotency-Key": f'"{CANARIES["IDEMPOTENCY_KEY"]}"'}
        place, path = f"sounds.example/a.wav?sig={CANARIES['PROMPT_SIGNATURE']}", f"calls/{self._call}/record"
        for expect, uri in ((202, f"https://{place}"), (202, f"https://{place}"), (422, f"https://{place}&x=1")):
            self.ask("POST", path, expect, self._rights | once, {"prompts": [{"mediaInfo": {"uri": uri}}]})
        self.ask("POST", path, 400, body={"prompts": [{"mediaInfo": {"uri": f"http://{place}"}}]})
        self.ask("POST", path, 400, self._rights | {"Idempotency-Key": CANARIES["IDEMPOTENCY_KEY"]}, {})

    def _ask_for_tokens(self) -> None:
        """Use each kind of credential. If Entra refuses one, its message repeats the secret."""
        self.control("PUT", "/identity", {"tenantId": self._tenant})
        for operation, secret in (("token", "SECOND_SECRET"), ("managedIdentity", "IDENTITY_HEADER")):
            said = {"status": 401, "message": f"AADSTS7000215: {CANARIES[secret]}"}
            self.control("POST", "/faults", {"operation": operation, **said})
        for name, app_id in APP_IDS.items():
            if not name.startswith("refused"):
                self.control("DELETE", "/faults")
            call_id = str(uuid.uuid4())
            self.control("POST", "/calls", {"id": call_id, "tenantId": self._tenant, "appId": app_id})
            wish = {"tenantId": self._tenant, "appId": app_id, "startedAt": LONG_AGO}
            shown = self.ask("PUT", f"calls/{call_id}", 201, body=wish)
            assert ('"failing":null' in shown) == (name in {"identity", "certificate"}), shown

    def end(self, sent: Ingestion, graph: GraphProxy) -> Written:
        """Wait for a sweep, read the storage, stop the host, and return all that was written."""
        sent.until(lambda: sent.events("keep_alive.sweep.finished") and sent.events("graph.token.failed"))
        storage = self._stack.storage.connection_string
        tables, queues = _tables(storage), _queues(storage)
        self._stack.host.stop()
        logs = "\n".join(path.read_text(errors="replace") for path in self._stack.folder.glob("*.log"))
        for number, token in enumerate(sorted(graph.tokens)):
            self.secrets[f"Graph token {number}"] = _signed_part(token)
        self.secrets["signing key of continuations"] = _signing_key(storage)
        answers = "\n".join(self._answers)
        return Written(self.secrets, logs, sent, answers, self._own, tables, queues, len(graph.tokens))


def _signed_part(token: str) -> str:
    """Return the signature. Without it a token gives no access."""
    return token.rpartition(".")[2]


def _tables(connection: str) -> dict[str, str]:
    with TableServiceClient.from_connection_string(connection) as service:
        names = [table.name for table in service.list_tables()]
        return {name: str(list(service.get_table_client(name).list_entities())) for name in names}


def _signing_key(connection: str) -> str:
    with TableServiceClient.from_connection_string(connection) as service:
        return str(service.get_table_client("calls").get_entity(partition_key(0), SIGNING_KEY_ROW)["key"])


def _queues(connection: str) -> str:
    with QueueServiceClient.from_connection_string(connection) as service:
        names = [queue.name for queue in service.list_queues()]
        messages = [message for name in names for message in service.get_queue_client(name).peek_messages(32)]
    return "\n".join(b64decode(message.content, validate=True).decode() for message in messages)


def test_each_bot_with_a_credential_used_its_own_token(written: Written) -> None:
    assert written.graph_tokens == 3
    assert all(len(secret) > 20 for secret in written.secrets.values())


def test_no_log_and_no_telemetry_has_a_secret(written: Written) -> None:
    assert "graph.token.failed" in written.logs
    assert "AADSTS7000215" in written.sent.raw
    for name, secret in written.secrets.items():
        assert secret not in written.logs, name
        assert secret not in written.sent.raw, name


def test_no_response_has_a_secret_except_the_operations_own(written: Written) -> None:
    for name, secret in written.secrets.items():
        assert secret not in written.answers, name
        assert (secret in written.own_answer) == (name in OPERATION_SECRETS), name


def test_only_the_table_calls_has_secrets_and_only_its_own(written: Written) -> None:
    assert "calls" in written.tables
    for name, secret in written.secrets.items():
        allowed = {"calls"} if name in IN_CALLS else set()
        assert {table for table, text in written.tables.items() if secret in text} == allowed, name
        assert secret not in written.queues, name


def test_no_part_of_a_token_was_written(written: Written) -> None:
    everywhere = [written.logs, written.sent.raw, written.answers, *written.tables.values(), written.queues]
    assert [A_TOKEN.findall(text) for text in everywhere] == [[]] * len(everywhere)
