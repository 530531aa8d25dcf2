"""The app in virtual time: its own handlers and services, on a virtual clock, store, queue and Graph."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import cast

import azure.functions as func
from opentelemetry import context, propagate

import function_app
from shared import services as services_module
from shared.auth.tokens import Claims, TokenVerifier
from shared.config.settings import load_settings
from shared.domain.leases import Lease, Progress, Watermark
from shared.errors import CallKeeperError, StoreUnavailable, Unauthenticated
from shared.services import Services
from shared.storage.changes import Committed
from shared.storage.memory_table import MemoryTable
from shared.storage.row_codec import readable_lease
from shared.storage.store import CallStore, Change, Stored
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue

MINUTE = timedelta(minutes=1)
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
SETTINGS = {
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    "GRAPH_APP_ID": "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21",
    "GRAPH_CREDENTIAL": "managedIdentity",
    "CALLS_STORAGE": "UseDevelopmentStorage=true",
}

type Handler = Callable[[object], Awaitable[func.HttpResponse]]


@cache
def handlers() -> dict[str, Handler]:
    """Return the functions of the app by name. Azure's library gives them once in a process, so this is cached."""
    return {str(found.get_function_name()): found.get_user_function() for found in function_app.app.get_functions()}


class Store(CallStore):
    """A store that can refuse all writes, or the reads of one shard."""

    def __init__(self) -> None:
        super().__init__(MemoryTable())
        self.is_away = False
        self.shard_away: int | None = None
        self.damaged: dict[str, dict[str, object]] = {}  # by call id: the columns that can still be read

    async def commit(self, change: Change) -> Committed:
        """See `CallStore.commit`."""
        if self.is_away:
            raise StoreUnavailable("Table Storage does not answer (test).")
        return await super().commit(change)

    async def scan(self, shard: int) -> AsyncGenerator[Progress | Stored[Watermark] | Lease]:
        """See `CallStore.scan`."""
        if shard == self.shard_away:
            raise StoreUnavailable("Table Storage does not answer (test).")
        async for found in super().scan(shard):
            if isinstance(found, Lease) and found.call_id in self.damaged:
                row = {"RowKey": f"active|{found.call_id}", **self.damaged[found.call_id]}
                if (lease := readable_lease(row)) is not None:
                    yield lease
            else:
                yield found


class Verifier:
    """Replaces `TokenVerifier`: the header names the tenant. Tokens are tested elsewhere."""

    async def verify(self, authorization: str | None) -> Claims:
        """Return claims of the tenant that the header names."""
        if not authorization:
            raise Unauthenticated("No token (test).")
        return Claims(authorization, audience="")


class VirtualServices(Services):
    """The services of the app, on a virtual store, Graph and queue."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(load_settings(SETTINGS), clock)
        self.store = Store()  # a cached property, given beforehand, as the next two are
        self.graph = VirtualGraph(clock)  # type: ignore[assignment]
        self.queue = VirtualQueue(clock)  # type: ignore[assignment]

    def _make_verifier(self, *_: object) -> TokenVerifier:
        return cast("TokenVerifier", Verifier())


class VirtualApp:
    """The app with its timer and its queue, from the start of a scenario."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.clock = VirtualClock(start)
        self.parts = VirtualServices(self.clock)
        self.store = cast("Store", self.parts.store)
        self.graph = cast("VirtualGraph", self.parts.graph)
        self.queue = cast("VirtualQueue", self.parts.queue)
        self.next_timer = start
        self.timer_runs = True
        self.queue_runs = True
        services_module._current = asyncio.get_running_loop(), self.parts

    async def until(self, age: timedelta) -> None:
        """Let time pass until this long after the start of the scenario."""
        while self.clock.now() < self.start + age:
            if self.clock.now() >= self.next_timer:
                self.next_timer += 15 * MINUTE
                if self.timer_runs:
                    await self.call("keep_alive_timer", None)
            while self.queue_runs and (message := self.queue.due()):
                await self.handle(message.model_dump_json())
            await self.clock.advance(MINUTE)

    async def handle(self, body: str, dequeue_count: int = 1) -> None:
        """Call the queue's function with a message. The function may fail."""
        message = SimpleNamespace(get_body=body.encode, dequeue_count=dequeue_count)
        await self.call("keep_alive_queue", message)

    async def register(self, call_id: str, tenant: str = TENANT) -> None:
        """Start a call at Graph, and register it."""
        self.graph.start(call_id)
        body = {"tenantId": tenant}
        response = await self.request("register_call", "PUT", f"calls/{call_id}", body, route={"callId": call_id})
        assert response.status_code == 201, response.get_body()

    async def end(self, call_id: str, code: int, subcode: int, *, token: str = TENANT) -> int:
        """Send Graph's notification of a call's end, and return the status of the response."""
        result = {"code": code, "subcode": subcode}
        item = {
            "changeType": "deleted",
            "resourceUrl": f"/communications/calls/{call_id}",
            "resourceData": {"@odata.type": "#microsoft.graph.call", "state": "terminated", "resultInfo": result},
        }
        response = await self.request("receive_notifications", "POST", "notifications", {"value": [item]}, token=token)
        return int(response.status_code)

    async def request(
        self, name: str, method: str, path: str, body: object, *, route: dict[str, str] | None = None, token: str = ""
    ) -> func.HttpResponse:
        """Call an HTTP function, and return its response."""
        request = func.HttpRequest(
            method=method,
            url=f"https://call-keeper.example/api/{path}",
            headers={"content-type": "application/json", **({"authorization": token} if token else {})},
            route_params=route or {},
            body=json.dumps(body).encode(),
        )
        response = await self.call(name, request)
        assert response is not None
        return response

    async def call(self, name: str, argument: object) -> func.HttpResponse | None:
        """Call a function in an operation of its own, as the host does. An error is None here: the host logs it."""
        with operation():
            try:
                return await self.clock.run(handlers()[name](argument))
            except CallKeeperError:
                return None


@contextmanager
def operation() -> Iterator[None]:
    """Attach a new trace, as the host passes one to the worker with each invocation."""
    parent = propagate.extract({"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"})
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)
