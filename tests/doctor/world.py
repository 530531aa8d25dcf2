"""A healthy set-up, on a laptop and in Azure, and what the doctor finds in it."""

import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote_plus

import aiohttp.connector
import httpx
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient
from azure.storage.queue import QueueClient
from pydantic import JsonValue

from doctor import report
from doctor.deployment import read_deployment
from doctor.examination import CHECKS, Result, examine
from doctor.finding import Mark
from doctor.patient import Options, Patient
from doctor.probe import make_client
from doctor.storage import POISON
from doctor.veil import Veil
from local.stack.stack import APP_ID, ROOT, Stack, running
from local.stack.stack import Options as StackOptions
from shared.domain.calls import Call, Termination, TerminationSource
from shared.domain.leases import Watermark
from shared.services import TABLE_NAME
from shared.storage.row_codec import to_row
from shared.storage.rows import WATERMARK_ROW, ended_key, recent_key
from shared.storage.store import SHARDS
from shared.storage.table import partition_key
from simulator.tls import CertificateAuthority
from tests.doctor.fake_az import FakeAz
from tests.doctor.servers import Reply, Rule, serving

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
IDENTITY = "11111111-aaaa-4bbb-8ccc-000000000001"  # client id of the app's identity
PRINCIPAL = "11111111-aaaa-4bbb-8ccc-000000000002"  # its object id
SECRET = "hush-hush-a-client-secret"
SECRETS = (SECRET, "hush-hush-another", "hush-hush-key-of-storage")
SLOW = {"functions"}  # starts a process; seeded by itself
NOWHERE = "http://127.0.0.1:9"  # nobody listens there


@dataclass
class Plan:
    """What the doctor is given: changes to a healthy set-up."""

    settings: dict[str, str]
    root: Path = ROOT
    webhook: str | None = None
    url: str | None = None
    deployed: bool = False
    only: set[str] | None = None
    without: set[str] = field(default_factory=lambda: set(SLOW))


class World:
    """What is running, and the means to spoil it. Everything that was spoilt is whole again after `mend`."""

    def __init__(self, stack: Stack, folder: Path, trusted: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.trusted = trusted
        self.simulator = httpx.Client(base_url=stack.simulator, trust_env=False)
        self._spoilt = False
        self._open = ExitStack()
        self._environment: dict[str, str | None] = {}
        connection = stack.storage.connection_string
        self._table = TableClient.from_connection_string(connection, TABLE_NAME)
        self._poison = QueueClient.from_connection_string(connection, POISON)
        self.az = FakeAz.install(folder / "az")
        key = {"x-functions-key": stack.function_key}
        httpx.post(f"{stack.api}/keep-alive", headers=key, timeout=30, trust_env=False).raise_for_status()

    def local(self) -> Plan:
        """The healthy set-up on a laptop."""
        settings = self.stack.settings() | {"GRAPH_TENANT_ID": TENANT, "GRAPH_CLIENT_SECRET": SECRET}
        return Plan(settings, webhook=f"{self.stack.api}/notifications", url=self.stack.address)

    def deployed(self) -> Plan:
        """The healthy set-up in Azure, as `az` tells it. Its storage is a server that knows the login of az."""
        storage = self.serve(healthy_storage, tls=True)
        settings = {
            "AzureWebJobsStorage__accountName": "hostaccount",
            "AzureWebJobsStorage__credential": "managedidentity",
            "AzureWebJobsStorage__clientId": IDENTITY,
            "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=hush-hush-another;IngestionEndpoint=https://a",
            "AZURE_CLIENT_ID": IDENTITY,
            "AZURE_AUTHORITY_HOST": self.stack.settings()["AZURE_AUTHORITY_HOST"],
            "CALLS_STORAGE__tableServiceUri": storage,
            "CALLS_STORAGE__queueServiceUri": storage,
            "CALLS_STORAGE__credential": "managedidentity",
            "CALLS_STORAGE__clientId": IDENTITY,
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": APP_ID,
            "GRAPH_TENANT_ID": TENANT,
            "MANAGEMENT_AUDIENCE": "api://keeper",
            "MANAGEMENT_TENANT_ID": TENANT,
            "MANAGEMENT_METADATA_URL": f"{self.stack.simulator}/{TENANT}/v2.0/.well-known/openid-configuration",
            "GRAPH_BASE_URL": self.stack.simulator,
            "NOTIFICATION_METADATA_URLS": self.stack.settings()["NOTIFICATION_METADATA_URLS"],
        }
        self.az.answer("functionapp show", SITE)
        names = [{"name": f"keeper/{name}"} for name in FUNCTIONS]
        self.az.answer("functionapp function list", names)
        self.az.answer("role assignment list", ROLES)
        self.az.answer("rest", {"value": [{"appRoleId": "284383ee-7f6e-4e40-a2a8-e85dcb029101"}]})
        soon = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
        token = {"accessToken": "hush-hush-another", "expires_on": int(soon), "expiresOn": "2099-01-01 00:00:00.000000"}
        self.az.answer("account get-access-token", token | {"tokenType": "Bearer"})
        plan = Plan(settings, deployed=True, webhook=self.local().webhook, url=self.stack.address)
        self.setenv("PATH", f"{self.az.folder}{os.pathsep}{os.environ['PATH']}")
        return plan

    async def examine(self, plan: Plan) -> list[Result]:
        """The checks in this process. Whatever they find, no secret is in the report."""
        deployment, settings = None, plan.settings
        if plan.deployed:
            self.az.answer("functionapp config appsettings list", [_setting(*each) for each in settings.items()])
            deployment, settings = await read_deployment("keeper", "group", None)
        checks = [
            each for each in CHECKS if each.name not in plan.without and (not plan.only or each.name in plan.only)
        ]
        async with make_client() as client:
            patient = Patient(Options(plan.root, None, plan.webhook, plan.url), settings, client, deployment)
            results = await examine(patient, checks)
        told = io.StringIO()
        report.as_text(results, Veil({}), told, verbose=True)  # the checks themselves, not only the veil, keep quiet
        text = told.getvalue() + report.as_json(results, Veil({}))
        assert [each for each in (*SECRETS, self.stack.function_key) if each in text] == []
        return results

    def serve(self, rule: Rule, *, tls: bool = False, identity: Path | None = None) -> str:
        """A server until the end of the test, by default one that is trusted."""
        return self._open.enter_context(serving(rule, identity or (self.folder / "server.pem" if tls else None)))

    def control(self, method: str, path: str, **body: JsonValue) -> None:
        answer = self.simulator.request(method, f"/control{path}", json=body)
        assert answer.is_success, answer.text

    def fault(self, **wanted: JsonValue) -> None:
        self.control("POST", "/faults", **wanted)

    def setenv(self, name: str, value: str | None) -> None:
        self._environment.setdefault(name, os.environ.get(name))
        _set(name, value)

    def root(self, **files: str | None) -> Path:
        """A copy of the app's folder, with some files changed or, by None, removed; `_` in a name is a dot."""
        copy = self.folder / "app"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("function_app.py", "host.json", "requirements.txt", ".python-version"):
            shutil.copy(ROOT / name, copy / name)
        for folder in ("functions", "shared"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in files.items():
            path = copy / name.replace("__", ".")
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
        return copy

    def watermarks(self, age: timedelta | None) -> None:
        """All shards were swept so long ago; None: never."""
        self._spoilt = True
        began = datetime.now(UTC) - (age or timedelta())
        row = to_row(Watermark(began, began))
        for shard in range(SHARDS):
            if age is None:
                self._table.delete_entity(partition_key(shard), WATERMARK_ROW)
            else:
                self._table.upsert_entity({"PartitionKey": partition_key(shard), "RowKey": WATERMARK_ROW, **row})

    def end_a_call(self, code: int, subcode: int) -> None:
        """A call that ended just now, on record."""
        self._spoilt = True
        at, call_id = datetime.now(UTC), "lapsed"
        call = Call(call_id, TENANT, "terminated", at, at)
        call = replace(call, ended_at=at, termination=_termination(code, subcode))
        for key in (ended_key(call_id), recent_key(at, call_id)):
            self._table.upsert_entity({"PartitionKey": "00", "RowKey": key, **to_row(call)})

    def poison(self) -> None:
        self._spoilt = True
        self._poison.create_queue()
        self._poison.send_message("never mind")

    def mend(self) -> None:
        """Make everything whole again."""
        self._open.close()
        for name, value in self._environment.items():
            _set(name, value)
        self._environment.clear()
        self.control("POST", "/reset")
        if self._spoilt:
            self._mend_storage()
        for path in self.az.folder.iterdir():
            if path.name != "az":
                path.unlink()

    def _mend_storage(self) -> None:
        with suppress(ResourceNotFoundError):
            self._poison.delete_queue()
        for row in list(self._table.query_entities("PartitionKey eq '00' and RowKey lt 's'")):
            self._table.delete_entity(row)
        self.watermarks(timedelta())
        self._spoilt = False

    def close(self) -> None:
        self._open.close()
        for client in (self.simulator, self._table, self._poison):
            client.close()


FUNCTIONS = ("keep_alive_timer", "keep_alive_queue", "keep_alive_now", "receive_notifications", "read_health")
SITE: dict[str, JsonValue] = {
    "name": "keeper",
    "defaultHostName": "keeper.azurewebsites.example",
    "state": "Running",
    "identity": {
        "type": "UserAssigned",
        "principalId": None,
        "userAssignedIdentities": {"/subscriptions/s/…/keeper": {"clientId": IDENTITY, "principalId": PRINCIPAL}},
    },
    "functionAppConfig": {"runtime": {"name": "python", "version": "3.13"}},
    "siteConfig": {"linuxFxVersion": ""},
}
_SCOPE = "/subscriptions/s/resourceGroups/group/providers/Microsoft.Storage/storageAccounts/"
ROLES: list[JsonValue] = [
    {"roleDefinitionName": "Storage Table Data Contributor", "scope": f"{_SCOPE}localhost"},
    {"roleDefinitionName": "Storage Queue Data Contributor", "scope": f"{_SCOPE}localhost"},
    {"roleDefinitionName": "Storage Blob Data Owner", "scope": f"{_SCOPE}hostaccount"},
]


def named(results: list[Result]) -> set[str]:
    """The names of what is wrong."""
    return {each.name for result in results for each in result.findings if each.mark in {Mark.WARN, Mark.FAIL}}


def skipped(results: list[Result]) -> dict[str, str]:
    """Why a check was not made."""
    return {each.name: each.what for result in results for each in result.findings if each.mark is Mark.SKIP}


def healthy_storage(method: str, path: str) -> Reply:
    """Tables and queues of an account: all shards were swept just now, and that is all there is."""
    if f"RowKey eq '{WATERMARK_ROW}'" in unquote_plus(path):
        at = datetime.now(UTC)
        row = {"odata.etag": 'W/"1"', "PartitionKey": "00", "RowKey": WATERMARK_ROW}
        for name, value in to_row(Watermark(at, at)).items():
            row[name] = value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
            row |= {f"{name}@odata.type": "Edm.DateTime"} if isinstance(value, datetime) else {}
        return Reply(200, {}, {"value": [row]})
    if method == "POST" and path.startswith("/Tables"):
        return refused(409, "TableAlreadyExists")
    if "keep-alive" in path:
        return Reply(404, {"x-ms-error-code": "QueueNotFound"})
    if "doctor" in path:
        return refused(404, "ResourceNotFound")
    return Reply(200, {}, {"value": []})


def refused(status: int, code: str) -> Reply:
    """How storage refuses."""
    return Reply(status, {"x-ms-error-code": code}, {"odata.error": {"code": code, "message": {"value": "No."}}})


@contextmanager
def running_world() -> Iterator[World]:
    """All of it: Azurite, the simulator and the real host."""
    options = StackOptions(speed=1, schedule="0 */15 * * * *", settings={"GRAPH_CLIENT_SECRET": SECRET})
    with TemporaryDirectory() as name, running(options) as stack:
        folder = Path(name)
        authority, stranger = CertificateAuthority(), CertificateAuthority()
        authority.write_server_identity(folder / "server.pem")
        stranger.write_server_identity(folder / "stranger.pem")
        authority.write_certificate(folder / "authority.pem")
        trusted = folder / "trusted.pem"
        own = Path(stack.settings()["SSL_CERT_FILE"])
        trusted.write_bytes(own.read_bytes() + (folder / "authority.pem").read_bytes())
        # aiohttp's context is made at its import, too early for SSL_CERT_FILE.
        aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(trusted)
        world = World(stack, folder, trusted)
        try:
            yield world
        finally:
            world.close()


def _termination(code: int, subcode: int) -> Termination:
    return Termination(TerminationSource.NOTIFICATION, "keepAlive did not come", "keepalive", code, subcode)


def _setting(name: str, value: str) -> Mapping[str, JsonValue]:
    return {"name": name, "value": value, "slotSetting": False}


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
