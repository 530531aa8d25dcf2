"""The app in virtual time: its own handlers and services, on a virtual clock, store, queue and Graph, and a bot."""

import asyncio
import heapq
import json
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
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
from shared.relay.sender import Answer, NotSent, SendError
from shared.services import Services
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Committed
from shared.storage.memory_table import MemoryTable
from shared.storage.relay_queue import RelayMessage
from shared.storage.row_codec import readable_lease
from shared.storage.store import CallStore, Change, ChangePlanner, Stored
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue

MINUTE = timedelta(minutes=1)
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
SETTINGS = {
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    "GRAPH_APP_ID": "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21",
    "GRAPH_CREDENTIAL": "managedIdentity",
    "CALLS_STORAGE": "UseDevelopmentStorage=true",
    "RELAY_TARGETS": json.dumps([{"name": "bot", "url": "https://bot.example/calls", "format": "graph"}]),
}
TOKEN_LIFE = timedelta(minutes=5)  # of Graph's tokens

type Handler = Callable[[object], Awaitable[func.HttpResponse]]


@cache
def handlers() -> dict[str, Handler]:
    """Return the functions of the app by name. Azure's library gives them once in a process, so this is cached."""
    return {str(found.get_function_name()): found.get_user_function() for found in function_app.app.get_functions()}


class Store(CallStore):
    """A store that can refuse all writes, or the reads of one shard."""

    def __init__(self, table: MemoryTable, planner: ChangePlanner | None) -> None:
        super().__init__(table, planner)
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

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    async def verify(self, authorization: str | None) -> Claims:
        """Return claims of the tenant that the header names."""
        if not authorization:
            raise Unauthenticated("No token (test).")
        return Claims(authorization, audience="", expires_at=self._clock.now() + TOKEN_LIFE)


class Bot:
    """Replaces `RelaySender`: a bot that answers as a scenario says. `error`: why there is no answer."""

    def __init__(self) -> None:
        self.status = 202
        self.error: SendError | None = None
        self.headers: Mapping[str, str] = {}

    async def post(self, *_: object, **__: object) -> Answer:
        """See `RelaySender.post`."""
        if self.error:
            raise NotSent(self.error)
        return Answer(self.status, self.headers)


class BotTokens:
    """Replaces `GraphTokens`: the relay gets a token for its bot."""

    async def get(self, *_: object, **__: object) -> str:
        """See `GraphTokens.get`."""
        return "token"


class RelayQueue:
    """The queue of the relay, in order of time. The messages are text, as on the real queue."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._messages: list[tuple[datetime, int, str]] = []

    async def send(self, message: RelayMessage, delay: timedelta = timedelta()) -> None:
        """See `MessageQueue.send`."""
        item = self._clock.now() + delay, len(self._messages), message.model_dump_json()
        heapq.heappush(self._messages, item)

    def due(self) -> str | None:
        """Remove and return the next message that is visible now. None if there is none."""
        if self._messages and self._messages[0][0] <= self._clock.now():
            return heapq.heappop(self._messages)[2]
        return None


class VirtualServices(Services):
    """The services of the app, on a virtual store, Graph and queue."""

    def __init__(self, clock: VirtualClock, settings: Mapping[str, str] = SETTINGS) -> None:
        super().__init__(load_settings(settings), clock)
        table = MemoryTable()
        self.table = table  # type: ignore[assignment] # a cached property, given beforehand, as the next ones are
        self.bots_queue = RelayQueue(clock)
        self.relay_queue = BestEffortQueue(self.bots_queue, clock, self.settings.timing)
        self.sender = Bot()  # type: ignore[assignment]
        self.tokens = BotTokens()  # type: ignore[assignment]
        self.graph = VirtualGraph(clock)  # type: ignore[assignment]
        self.queue = VirtualQueue(clock)  # type: ignore[assignment]
        self.store = Store(table, self.outbox_planner)

    def _make_verifier(self, *_: object) -> TokenVerifier:
        return cast("TokenVerifier", Verifier(cast("VirtualClock", self.clock)))


class VirtualApp:
    """The app with its timer and its queue, from the start of a scenario."""

    def __init__(self, start: datetime) -> None:
        self.start = start
        self.clock = VirtualClock(start)
        self.next_timer = start
        self.timer_runs = True
        self.queue_runs = True
        self.configure()

    def configure(self, **settings: str) -> None:
        """Start the app again, without any call, and with other settings."""
        self.parts = VirtualServices(self.clock, SETTINGS | settings)
        self.store = cast("Store", self.parts.store)
        self.graph = cast("VirtualGraph", self.parts.graph)
        self.queue = cast("VirtualQueue", self.parts.queue)
        self.bot = cast("Bot", self.parts.sender)
        services_module._current = asyncio.get_running_loop(), self.parts

    async def until(self, age: timedelta) -> None:
        """Let time pass until this long after the start of the scenario."""
        while self.clock.now() < self.start + age:
            if self.clock.now() >= self.next_timer:
                self.next_timer += 15 * MINUTE
                if self.timer_runs:
                    await self.call("keep_alive_timer", None)
            await self.call("relay_timer", None)
            while self.queue_runs and (message := self.queue.due()):
                await self.handle(message.model_dump_json())
            while self.queue_runs and (text := self.parts.bots_queue.due()):
                await self.call("relay_queue", SimpleNamespace(get_body=text.encode, dequeue_count=1))
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
        return await self.notify(call_id, "deleted", token=token, state="terminated", resultInfo=result)

    async def notify(self, call_id: str, change: str = "updated", *, token: str = TENANT, **data: object) -> int:
        """Send a notification of Graph about a call, and return the status of the response."""
        item = {
            "changeType": change,
            "resourceUrl": f"/communications/calls/{call_id}",
            "resourceData": {"@odata.type": "#microsoft.graph.call", **data},
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
