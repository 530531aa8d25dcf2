"""The real app in this process: Microsoft's worker library, the local host's HTTP, Azurite, and a simulated Graph."""

import json
import os
import uuid
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any
from unittest.mock import patch

import httpx
from azure_functions_runtime.bindings.datumdef import Datum
from pydantic import JsonValue

import function_app
from functions.routing import ROUTES as DECLARED
from functions.routing import Role, Route
from local.host.functions import Function
from local.host.worker import Worker
from local.stack.processes import Children
from shared import services
from shared.config.settings import load_settings
from shared.domain.deliveries import Delivery, DeliveryStatus, Destination, delivery_id, sequence_at
from shared.errors import StoreConflict
from shared.keeping.staleness import StalenessCheck
from shared.services import Services
from shared.storage.changes import Committed
from shared.storage.delivery_writes import create_delivery
from shared.storage.rows import shard_of
from shared.storage.store import CallStore, Change
from tests.support.trust import trust_in_aiohttp

APP = function_app.app
ROUTES = tuple(DECLARED)  # declared by the import of the app
ROOT = Path(__file__).resolve().parents[2]
APP_ID = "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
FUNCTION_KEY = "a-function-key-for-tests"
AUDIENCE = "api://call-keeper-for-tests"
MANAGEMENT_TENANT = "1d4c7b2a-6e5f-4a3b-8c9d-0e1f2a3b4c5d"
KEY = {"x-functions-key": FUNCTION_KEY}

type Json = dict[str, JsonValue]
INDEXED: dict[str, Function] = {}  # the app can be indexed once in a process


class SystemClockAhead:
    """Real time, plus what a test steps it ahead: real tokens stay good for a few minutes of it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Simulator:
    """A simulated Graph in a process of its own, its clock standing still."""

    http: httpx.AsyncClient
    address: str
    login: str

    async def control(self, method: str, path: str, body: Json | None = None) -> Json:
        answer = await self.http.request(method, f"/control{path}", json=body)
        assert answer.is_success, answer.text
        found: Json = answer.json() if answer.content else {}
        return found

    async def call(self, tenant_id: str, **wanted: JsonValue) -> str:
        """A call that is established, of our app."""
        created = await self.control("POST", "/calls", {"tenantId": tenant_id, "appId": APP_ID, **wanted})
        return str(created["id"])

    async def keep_alives(self, call_id: str) -> int:
        count = (await self.control("GET", f"/calls/{call_id}"))["keepAlives"]
        return len(count) if isinstance(count, list) else int(str(count))

    async def fault(self, **wanted: JsonValue) -> None:
        await self.control("POST", "/faults", wanted)

    async def token(self, **wanted: JsonValue) -> str:
        return str((await self.control("POST", "/tokens", {"appId": APP_ID, **wanted}))["token"])

    async def signature(self, tenant_id: str, **wanted: JsonValue) -> dict[str, str]:
        """The header of a notification."""
        token = await self.token(kind="notification", tenantId=tenant_id, **wanted)
        return {"Authorization": f"Bearer {token}"}


@dataclass
class App:
    """The app as it is served, with what it is composed of."""

    http: httpx.AsyncClient
    simulator: Simulator
    functions: Mapping[str, Function]
    worker: Worker
    parts: Services
    clock: SystemClockAhead
    storage: str
    tenant: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def address(self) -> str:
        return str(self.http.base_url).rstrip("/")

    async def ask(
        self, method: str, path: str, body: JsonValue = None, *, expect: int, headers: Mapping[str, str] = KEY
    ) -> httpx.Response:
        content = {} if body is None else {"json": body}
        answer = await self.http.request(method, f"/api/{path}", headers=headers, **content)  # type: ignore[arg-type] # one keyword or none
        assert answer.status_code == expect, f"{answer.status_code} {answer.text}"
        return answer

    async def asked(
        self, method: str, path: str, body: JsonValue = None, *, expect: int = 200, headers: Mapping[str, str] = KEY
    ) -> Json:
        found: Json = (await self.ask(method, path, body, expect=expect, headers=headers)).json()
        return found

    async def register(self, call_id: str | None = None, *, expect: int = 201, **members: JsonValue) -> str:
        """Register a call. Without an id, it is one that the simulator has."""
        call_id = call_id or await self.simulator.call(self.tenant)
        await self.ask("PUT", f"calls/{call_id}", {"tenantId": self.tenant, **members}, expect=expect)
        return call_id

    async def lines(self, call_id: str, beginning: str, headers: Mapping[str, str] = KEY) -> list[tuple[str, Json]]:
        """The events of a call whose kind begins so: kind and detail."""
        events: Any = (await self.asked("GET", f"calls/{call_id}/events", headers=headers))["value"]
        return [(event["kind"], event["detail"]) for event in events if event["kind"].startswith(beginning)]

    async def notify(
        self, *items: JsonValue, expect: int = 202, tenant: str | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send a signed body as Graph does."""
        signed = headers if headers is not None else await self.simulator.signature(tenant or self.tenant)
        return await self.ask("POST", "notifications", {"value": list(items)}, expect=expect, headers=signed)

    @asynccontextmanager
    async def configured(self, make: Callable[..., Services] = Services, **settings: str) -> AsyncIterator["App"]:
        """The same app with further settings, or with other parts."""
        async with composed(environment(self.storage, self.simulator, **settings), make) as (parts, clock):
            yield replace(self, parts=parts, clock=clock)

    async def invoke(self, name: str, value: Datum) -> str | None:
        """Run a timer's or a queue's function as the host does; the error's text, if it failed."""
        return (await self.worker.invoke(self.functions[name], value)).error

    async def handle(self, message: str) -> str | None:
        return await self.invoke("keep_alive_queue", Datum(message, "string"))


class LosingStore(CallStore):
    """Refuses each change with an operation, so that a recording that has started cannot be stored."""

    async def commit(self, change: Change) -> Committed:
        if change.operations:
            raise StoreConflict("Another writer was faster (test).")
        return await super().commit(change)


@asynccontextmanager
async def with_store(app: App, kind: type[CallStore]) -> AsyncIterator[App]:
    """The app with a store of another kind, on the same table."""
    store = kind.__new__(kind)
    store._table = app.parts.store._table
    async with app.configured() as changed:
        vars(changed.parts)["store"] = store
        try:
            yield changed
        finally:
            del vars(changed.parts)["store"]  # the table is the other app's


def asking_for_tokens() -> dict[str, str]:
    """The settings with which management routes ask for an Entra token."""
    return {"MANAGEMENT_AUDIENCE": AUDIENCE, "MANAGEMENT_TENANT_ID": MANAGEMENT_TENANT}


async def bearer(app: App, *roles: Role, **other: JsonValue) -> dict[str, str]:
    """The headers of a caller with these roles."""
    wanted: Json = {"tenantId": MANAGEMENT_TENANT, "audience": AUDIENCE, "roles": [*roles], **other}
    token = await app.simulator.token(**wanted)
    return KEY | {"Authorization": f"Bearer {token}"}


def about_call(call_id: str, change: str = "updated", **data: JsonValue) -> Json:
    """One notification of a call."""
    path = f"/communications/calls/{call_id}"
    typed: Json = {"@odata.type": "#microsoft.graph.call", **data}
    return {"changeType": change, "resource": path, "resourceUrl": path, "resourceData": typed}


def about_operation(call_id: str, operation_id: str, change: str = "updated", **data: JsonValue) -> Json:
    """One notification of a recording."""
    path = f"/communications/calls/{call_id}/operations/{operation_id}"
    typed: Json = {"@odata.type": "#microsoft.graph.recordOperation", "id": operation_id, **data}
    return {"changeType": change, "resource": path, "resourceUrl": path, "resourceData": typed}


def path_of(route: Route, call_id: str = "some-call", operation_id: str = "some-operation") -> str:
    """The path of a route, with these ids and others that are not on record."""
    known = {
        "callId": call_id,
        "operationId": operation_id,
        "deliveryId": "00-1234567890123456-0a1b2c3d",
        "name": "some-target",
    }
    return "/api/" + route.path.format(**known)


async def store_delivery(
    app: App, call_id: str, status: DeliveryStatus = DeliveryStatus.DEAD, target: str = "bot"
) -> Delivery:
    """A delivery that is on record as it is when it is dead, delivered or disabled."""
    at = app.clock.now()
    sequence = sequence_at(at)
    delivery = Delivery(
        delivery_id(shard_of(call_id), sequence, token_hex(4)),
        *((call_id,), sequence, Destination(target, None), "notification", app.tenant, APP_ID, at, at, status),
        body=None if status is DeliveryStatus.DELIVERED else b"{}",
    )
    await app.parts.table.write(shard_of(call_id), create_delivery(delivery))
    return delivery


def relay_to(name: str, url: str = "http://127.0.0.1:9/bot") -> dict[str, str]:
    """The setting of one target. By default nothing listens there."""
    return {"RELAY_TARGETS": json.dumps([{"name": name, "url": url, "format": "graph"}])}


def queue_message(text: str) -> str:
    return b64encode(text.encode()).decode()


def ago(**past: float) -> str:
    """A time that long ago, in RFC 3339."""
    return (datetime.now(UTC) - timedelta(**past)).isoformat()


def environment(storage: str, simulator: Simulator, **more: str) -> dict[str, str]:
    """The app settings, as a deployment has them."""
    return {
        "CALLS_STORAGE": storage,
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
        "GRAPH_APP_ID": APP_ID,
        "GRAPH_CREDENTIAL": "secret",
        "GRAPH_CLIENT_SECRET": "a-client-secret-for-tests",
        "GRAPH_BASE_URL": simulator.address,
        "AZURE_AUTHORITY_HOST": simulator.login,
        "NOTIFICATION_METADATA_URLS": f"{simulator.address}/v1/.well-known/OpenIdConfiguration",
        **more,
    }


@contextmanager
def simulator_process(folder: Path, python: str) -> Iterator[tuple[str, str]]:
    """Its addresses, http and https; the latter trusted by this process, the SDK's aiohttp and our own client."""
    ca_file = folder / "ca.pem"
    command = [python, "-m", "simulator", "--port", "0", "--tls-port", "0", "--ca-file", str(ca_file)]
    with Children() as children:
        child = children.start("simulator", [*command, "--speed", "0", "--quiet"], cwd=ROOT)
        found = child.wait_for(r"simulator ready: (http://\S+?), (https://\S+)")
        trust_in_aiohttp(ca_file)
        with patch.dict(os.environ, SSL_CERT_FILE=str(ca_file)):
            yield found[1], found[2]


class CheckWithoutSweep(StalenessCheck):
    """Finds stale shards, and does not sweep itself."""

    def _start_background_sweep(self) -> None:
        """Do not."""


@asynccontextmanager
async def composed(
    env: Mapping[str, str], make: Callable[..., Services] = Services
) -> AsyncIterator[tuple[Services, SystemClockAhead]]:
    """Services by these settings, in place until the end of the block, then closed."""
    clock = SystemClockAhead()
    parts = make(load_settings(env), clock)
    before = services._current
    services.replace_services(parts)
    # A sweep beside a request would outlive the test that made its shards so old. It is tested with the keeper.
    beside = patch.object(services, "StalenessCheck", CheckWithoutSweep)
    try:
        with beside:
            yield parts, clock
    finally:
        services._current = before
        await close(parts)


async def close(parts: Services) -> None:
    """Close what was opened: an app in Azure never does, a test must."""
    built = vars(parts)
    if "http" in built:
        await parts.http.close()
    if "store" in built:
        await parts.store.close()
    if "queue" in built:
        await parts.queue._client.close()
    if "tokens" in built:
        await parts.tokens.close()
    if "sender" in built:
        await parts.sender.close()
    if "relay_queue" in built:
        await parts.relay_queue._queue._client.close()  # type: ignore[attr-defined] # StorageQueue
