"""The world of the doctor's tests: a healthy set-up on a laptop and in Azure, and the means to break it.

The local stack runs Azurite, the simulator and the host; this module adds a fake `az`, servers and faults.
"""

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

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables import TableClient
from azure.storage.queue import QueueClient
from pydantic import JsonValue

from doctor import report
from doctor.deployment import read_deployment
from doctor.finding import Severity
from doctor.probe import make_client
from doctor.redactor import Redactor
from doctor.runner import CHECKS, CheckResult, run_checks
from doctor.storage import POISON_QUEUES
from doctor.target import Options, Target
from local.stack.stack import APP_ID, ROOT, Stack, running
from local.stack.stack import Options as StackOptions
from shared.domain.calls import Call, Termination, TerminationSource
from shared.domain.leases import Watermark
from shared.services import TABLE_NAME
from shared.storage.row_codec import to_row
from shared.storage.rows import WATERMARK_ROW, ended_key, recent_key
from shared.storage.store import SHARDS
from shared.storage.table import partition_key
from shared.storage.wakeup_queue import QUEUE_NAME
from simulator.tls import CertificateAuthority
from tests.doctor.fake_az import FakeAz
from tests.doctor.servers import Reply, Rule, serving
from tests.support.trust import trust_in_aiohttp

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
IDENTITY = "11111111-aaaa-4bbb-8ccc-000000000001"  # the client id of the app's identity
PRINCIPAL = "11111111-aaaa-4bbb-8ccc-000000000002"  # its object id
SECRET = "hush-hush-a-client-secret"
SECRETS = (SECRET, "hush-hush-another", "hush-hush-key-of-storage")
SLOW = {"functions"}  # the check starts a process; only its own scenarios run it
NOWHERE = "http://127.0.0.1:9"  # nothing listens there


@dataclass
class Plan:
    """The input of the doctor. A scenario changes it, so it is not frozen."""

    settings: dict[str, str]
    root: Path = ROOT
    webhook: str | None = None
    url: str | None = None
    to: str | None = None
    deployed: bool = False
    only: set[str] | None = None
    without: set[str] = field(default_factory=lambda: set(SLOW))


class World:
    """The running set-up, and methods that break it. `restore` undoes all of them."""

    def __init__(self, stack: Stack, folder: Path, trusted: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.trusted = trusted
        self.simulator = httpx.Client(base_url=stack.simulator, trust_env=False)
        self._storage_changed = False
        self._open = ExitStack()
        self._environment = pytest.MonkeyPatch()
        connection = stack.storage.connection_string
        self._table = TableClient.from_connection_string(connection, TABLE_NAME)
        self._poison = [QueueClient.from_connection_string(connection, name) for name in POISON_QUEUES]
        self.az = FakeAz.install(folder / "az")
        key = {"x-functions-key": stack.function_key}
        httpx.post(f"{stack.api}/keep-alive", headers=key, timeout=30, trust_env=False).raise_for_status()

    def local(self) -> Plan:
        """Return the plan of a healthy set-up on a laptop."""
        settings = self.stack.settings() | {"GRAPH_TENANT_ID": TENANT, "GRAPH_CLIENT_SECRET": SECRET}
        return Plan(settings, webhook=f"{self.stack.api}/notifications", url=self.stack.address)

    def deployed(self) -> Plan:
        """Return the plan of a healthy set-up in Azure, as the fake `az` describes it.

        Its storage is a server that accepts the token of `az`.
        """
        self._answer_as_azure()
        self.setenv("PATH", f"{self.az.folder}{os.pathsep}{os.environ['PATH']}")
        settings = self._deployed_settings(self.serve(healthy_storage, tls=True))
        return Plan(settings, deployed=True, webhook=self.local().webhook, url=self.stack.address)

    def _deployed_settings(self, storage: str) -> dict[str, str]:
        return {
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

    def _answer_as_azure(self) -> None:
        self.az.answer("functionapp show", SITE)
        self.az.answer("functionapp function list", [{"name": f"keeper/{name}"} for name in FUNCTIONS])
        self.az.answer("role assignment list", ROLES)
        self.az.answer("rest", {"value": [{"appRoleId": "284383ee-7f6e-4e40-a2a8-e85dcb029101"}]})
        expiry = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
        token = {
            "accessToken": "hush-hush-another",
            "expires_on": int(expiry),
            "expiresOn": "2099-01-01 00:00:00.000000",
        }
        self.az.answer("account get-access-token", token | {"tokenType": "Bearer"})

    async def run_checks(self, plan: Plan) -> list[CheckResult]:
        """Run the checks in this process, and assert that the report contains no secret."""
        deployment, settings = None, plan.settings
        if plan.deployed:
            self.az.answer("functionapp config appsettings list", [_setting(*each) for each in settings.items()])
            deployment, settings = await read_deployment("keeper", "group", None)
        checks = [
            each for each in CHECKS if each.name not in plan.without and (not plan.only or each.name in plan.only)
        ]
        async with make_client() as client:
            target = Target(Options(plan.root, None, plan.webhook, plan.url, plan.to), settings, client, deployment)
            results = await run_checks(target, checks)
        printed = io.StringIO()
        # With an empty redactor: the checks themselves must not put secrets into their findings.
        report.as_text(results, Redactor({}), printed, verbose=True)
        text = printed.getvalue() + report.as_json(results, Redactor({}))
        assert [each for each in (*SECRETS, self.stack.function_key) if each in text] == []
        return results

    def serve(self, rule: Rule, *, tls: bool = False, identity: Path | None = None) -> str:
        """Start a server that runs until the end of the test, and return its URL.

        With `tls` its certificate is trusted. `identity` is the file of another certificate.
        """
        return self._open.enter_context(serving(rule, identity or (self.folder / "server.pem" if tls else None)))

    def control(self, method: str, path: str, **body: JsonValue) -> None:
        """Send a request to the simulator's control API."""
        answer = self.simulator.request(method, f"/control{path}", json=body)
        assert answer.is_success, answer.text

    def fault(self, **fault: JsonValue) -> None:
        """Add a fault to the simulator."""
        self.control("POST", "/faults", **fault)

    def patch(self, name: str, value: object) -> None:
        """Replace an attribute of a module until the end of the test."""
        self._environment.setattr(name, value)

    def setenv(self, name: str, value: str | None) -> None:
        """Set an environment variable, or remove it if `value` is None."""
        if value is None:
            self._environment.delenv(name, raising=False)
        else:
            self._environment.setenv(name, value)

    def root(self, **files: str | None) -> Path:
        """Copy the app's folder with changed files, and return the copy.

        None removes a file. `__` in a keyword stands for a dot.
        """
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

    def set_watermarks(self, age: timedelta | None) -> None:
        """Store watermarks of a sweep of all shards that long ago; None removes them."""
        self._storage_changed = True
        started = datetime.now(UTC) - (age or timedelta())
        row = to_row(Watermark(started, started))
        for shard in range(SHARDS):
            if age is None:
                self._table.delete_entity(partition_key(shard), WATERMARK_ROW)
            else:
                self._table.upsert_entity({"PartitionKey": partition_key(shard), "RowKey": WATERMARK_ROW, **row})

    def end_a_call(self, code: int, subcode: int) -> None:
        """Store a call that ended now."""
        self._storage_changed = True
        at, call_id = datetime.now(UTC), "lapsed"
        call = Call(call_id, TENANT, "terminated", at, at)
        call = replace(call, ended_at=at, termination=_termination(code, subcode))
        for key in (ended_key(call_id), recent_key(at, call_id)):
            self._table.upsert_entity({"PartitionKey": "00", "RowKey": key, **to_row(call)})

    def add_poison_message(self, name: str) -> None:
        """Put a message on a poison queue."""
        self._storage_changed = True
        queue = self._poison[POISON_QUEUES.index(name)]
        queue.create_queue()
        queue.send_message("a failed wake-up")

    def restore(self) -> None:
        """Undo all changes, and stop the servers of the test."""
        self._open.close()
        self._environment.undo()
        self.control("POST", "/reset")
        if self._storage_changed:
            self._restore_storage()
        for path in self.az.folder.iterdir():
            if path.name != "az":
                path.unlink()

    def _restore_storage(self) -> None:
        for queue in self._poison:
            with suppress(ResourceNotFoundError):
                queue.delete_queue()
        for row in list(self._table.query_entities("PartitionKey eq '00' and RowKey lt 's'")):
            self._table.delete_entity(row)
        self.set_watermarks(timedelta())
        self._storage_changed = False

    def close(self) -> None:
        """Close the clients."""
        self._open.close()
        for client in (self.simulator, self._table):
            client.close()
        for queue in self._poison:
            queue.close()


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


def fault_names(results: list[CheckResult]) -> set[str]:
    """Return the names of the faults that were found."""
    problems = {Severity.WARN, Severity.FAIL}
    return {each.name for result in results for each in result.findings if each.severity in problems}


def skipped(results: list[CheckResult]) -> dict[str, str]:
    """Return the reason of each check that was not made."""
    return {each.name: each.message for result in results for each in result.findings if each.severity is Severity.SKIP}


def healthy_storage(method: str, path: str) -> Reply:
    """Answer as the tables and queues of an account whose only rows are fresh watermarks of all shards."""
    if f"RowKey eq '{WATERMARK_ROW}'" in unquote_plus(path):
        at = datetime.now(UTC)
        row = {"odata.etag": 'W/"1"', "PartitionKey": "00", "RowKey": WATERMARK_ROW}
        for name, value in to_row(Watermark(at, at)).items():
            row[name] = value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
            row |= {f"{name}@odata.type": "Edm.DateTime"} if isinstance(value, datetime) else {}
        return Reply(200, {}, {"value": [row]})
    if method == "POST" and path.startswith("/Tables"):
        return refused(409, "TableAlreadyExists")
    if any(name in path for name in POISON_QUEUES) or QUEUE_NAME in path:
        return Reply(404, {"x-ms-error-code": "QueueNotFound"})
    if "doctor" in path:
        return refused(404, "ResourceNotFound")
    return Reply(200, {}, {"value": []})


def refused(status: int, code: str) -> Reply:
    """Return a refusal of storage with this code."""
    return Reply(status, {"x-ms-error-code": code}, {"odata.error": {"code": code, "message": {"value": "No."}}})


@contextmanager
def running_world() -> Iterator[World]:
    """Run Azurite, the simulator and the real host."""
    options = StackOptions(speed=1, schedule="0 */15 * * * *", settings={"GRAPH_CLIENT_SECRET": SECRET})
    with TemporaryDirectory() as name, running(options) as stack:
        folder = Path(name)
        authority, untrusted = CertificateAuthority(), CertificateAuthority()
        authority.write_server_identity(folder / "server.pem")
        untrusted.write_server_identity(folder / "untrusted.pem")
        authority.write_certificate(folder / "authority.pem")
        trusted = folder / "trusted.pem"
        own = Path(stack.settings()["SSL_CERT_FILE"])
        trusted.write_bytes(own.read_bytes() + (folder / "authority.pem").read_bytes())
        trust_in_aiohttp(trusted)
        world = World(stack, folder, trusted)
        try:
            yield world
        finally:
            world.close()


def _termination(code: int, subcode: int) -> Termination:
    return Termination(TerminationSource.NOTIFICATION, "Graph received no keepAlive", "keepalive", code, subcode)


def _setting(name: str, value: str) -> Mapping[str, JsonValue]:
    return {"name": name, "value": value, "slotSetting": False}
