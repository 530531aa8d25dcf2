"""Processes with the relay in them, in stepped time: one memory table, one queue and one bot for all of them."""

import asyncio
import heapq
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from shared.api.webhook import IngestResult, SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.config.apps import Apps, BotApp
from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Delivery
from shared.domain.leases import Timing
from shared.errors import CallKeeperError, StoreUnavailable, TokenUnavailable
from shared.relay.breaker import Destinations
from shared.relay.deliverer import Deliverer
from shared.relay.exchange import IncomingRequest
from shared.relay.outbox import OutboxPlanner
from shared.relay.passthrough import PassThrough
from shared.relay.schedule import Schedule
from shared.relay.sender import Answer, NotSent, SendError
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.memory_table import MemoryTable
from shared.storage.outbox import OutboxStore
from shared.storage.relay_queue import RelayMessage, parse_relay_message
from shared.storage.store import CallStore
from shared.storage.table import MAX_PAGE_ROWS, KeyRange, TableRow, Write
from tests.support.clocks import SteppedClock

if TYPE_CHECKING:
    from shared.storage.wakeup_queue import MessageQueue, WakeUp

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
TENANT, OTHER_TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11", "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d"
APP, OTHER_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81", "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
APPS = Apps(
    tuple(
        BotApp.model_construct(app_id=each, credential="managedIdentity", notification_audiences=())
        for each in (APP, OTHER_APP)
    )
)
BUDGET, SYNC_BUDGET = 1.5 * SECOND, 10 * SECOND
GRAPH_BEARER = "Bearer the-bearer-of-graph"


class Died(BaseException):
    """The process ended here. No handler of errors catches it, as none runs in a process that is gone."""


@dataclass
class Life:
    """The life of a process: it ends at a step, before the step or after it, and then nothing works any more."""

    dies_at: int | None = None
    afterwards: bool = False
    steps: int = 0
    is_over: bool = False

    async def step[T](self, work: Callable[[], Awaitable[T]]) -> T:
        """Do one step of the process that others can see: a request to the store, the queue or a bot."""
        if self.is_over:
            raise Died
        self.steps += 1
        dies = self.steps == self.dies_at
        if dies:
            self.is_over = True
            if not self.afterwards:
                raise Died
        result = await work()
        if dies:
            raise Died
        return result


class ProcessTable:
    """The table as one process sees it. It counts requests, and can lose the answer to a write."""

    def __init__(self, table: MemoryTable, life: Life) -> None:
        self._table = table
        self._life = life
        self.requests: Counter[str] = Counter()
        self.loses_write: tuple[int, type[CallKeeperError]] | None = None
        self.is_away = False

    async def close(self) -> None:
        """Do nothing."""

    async def read(self, shard: int, key: str) -> TableRow | None:
        self._count("read")
        return await self._life.step(partial(self._table.read, shard, key))

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        pages = self._table.pages(shard, key_range, size=size, matching=matching, select=select)

        async def following() -> list[TableRow] | None:
            return await anext(pages, None)

        while True:
            self._count("pages")
            page = await self._life.step(following)
            if page is None:
                return
            yield page

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        self._count("write")
        etags = await self._life.step(partial(self._table.write, shard, writes))
        if self.loses_write:
            left, error = self.loses_write
            self.loses_write = (left - 1, error) if left else None
            if not left:
                raise error("The answer is lost (test).")
        return etags

    def _count(self, kind: str) -> None:
        if self.is_away:
            raise StoreUnavailable("Table Storage does not answer (test).")
        self.requests[kind] += 1


class SharedQueue:
    """The messages of all processes, in order of time, as JSON."""

    def __init__(self, clock: SteppedClock) -> None:
        self.clock = clock
        self.messages: list[tuple[datetime, int, str]] = []
        self._order = count()

    async def send(self, message: RelayMessage, delay: timedelta) -> None:
        heapq.heappush(self.messages, (self.clock.now() + delay, next(self._order), message.model_dump_json()))

    def due(self) -> RelayMessage | None:
        """Remove and return the next message that is visible now."""
        if self.messages and self.messages[0][0] <= self.clock.now():
            return parse_relay_message(heapq.heappop(self.messages)[2])
        return None


class ProcessQueue:
    """The queue as one process sees it."""

    def __init__(self, queue: SharedQueue, life: Life) -> None:
        self._queue = queue
        self._life = life
        self.is_broken = False

    async def send(self, message: RelayMessage, delay: timedelta = timedelta()) -> None:
        if self.is_broken:
            raise StoreUnavailable("Queue Storage does not answer (test).")
        await self._life.step(partial(self._queue.send, message, delay))


@dataclass(frozen=True)
class Received:
    """One request that reached the bot, and its answer."""

    at: datetime
    url: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def is_late(self) -> bool:
        return self.headers.get("Authorization") != GRAPH_BEARER

    @property
    def states(self) -> list[str]:
        return [str(item["resourceData"].get("state")) for item in json.loads(self.body)["value"]]


type Reply = int | SendError | tuple[int, Mapping[str, str]] | tuple[int, Mapping[str, str], bytes]


@dataclass
class Bot:
    """A bot that answers as it is told, in order, and then always with its usual answer."""

    clock: SteppedClock
    replies: list[Reply] = field(default_factory=list)
    usual: Reply = 202
    takes: timedelta = timedelta()
    received: list[Received] = field(default_factory=list)
    at_request: Callable[[], Awaitable[None]] | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: timedelta) -> Answer:  # noqa: ASYNC109 (the protocol's)
        reply = self.replies.pop(0) if self.replies else self.usual
        began = self.clock.now()
        if self.at_request:
            hook, self.at_request = self.at_request, None
            await hook()
        self.clock.time += min(self.takes, timeout)
        if self.takes > timeout:
            reply = "timeout"
        if isinstance(reply, str):
            raise NotSent(reply)
        status, *more = reply if isinstance(reply, tuple) else (reply,)
        self.received.append(Received(began, url, headers, body, status))
        answer_headers = cast("Mapping[str, str]", more[0]) if more else {}
        return Answer(status, answer_headers, cast("bytes", more[1]) if len(more) > 1 else b"")

    def accepted(self) -> Iterator[Received]:
        return (each for each in self.received if each.status < 300)


class ProcessSender:
    """The bot as one process reaches it."""

    def __init__(self, bot: Bot, life: Life) -> None:
        self._bot = bot
        self._life = life

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 (the protocol's)
        *,
        read_body: bool = False,
    ) -> Answer:
        answer = await self._life.step(partial(self._bot.post, url, headers, body, timeout))
        return answer if read_body else Answer(answer.status, answer.headers)


class Issuer:
    """Issues tokens for late deliveries."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.error: str | None = None

    async def get(
        self,
        tenant_id: str,
        app_id: str | None = None,
        *,
        refresh: bool = False,  # noqa: ARG002 (the protocol's)
        audience: str | None = None,
    ) -> str:
        self.asked.append((tenant_id, app_id, audience))
        if self.error:
            raise TokenUnavailable(self.error)
        return "our-own-token"


def target(name: str = "bot", **members: JsonValue) -> RelayTarget:
    """A target, with the defaults that settings give it."""
    usual: dict[str, JsonValue] = {
        "url": f"https://{name}.example/callback",
        "format": "graph",
        "appId": APP,
        "audience": APP,
    }
    return RelayTarget.model_validate({"name": name, **usual, **members})


def item(call_id: str, state: str = "established", change: str = "updated", **data: JsonValue) -> dict[str, JsonValue]:
    """One notification."""
    path = f"/communications/calls/{call_id}"
    typed: dict[str, JsonValue] = {"@odata.type": "#microsoft.graph.call", "state": state, **data}
    return {"changeType": change, "resource": path, "resourceUrl": path, "resourceData": typed}


def question(call_id: str) -> dict[str, JsonValue]:
    """A notification that wants its answer in the response."""
    kind = "#microsoft.graph.participantJoiningNotification"
    return {**item(call_id), "resourceData": {"@odata.type": kind, "call": {}}}


def body_of(*items: Mapping[str, JsonValue]) -> bytes:
    return json.dumps({"value": list(items)}).encode()


class Process:
    """The parts of one process, composed as `shared/services.py` does."""

    def __init__(self, world: "World", life: Life) -> None:
        self.world, self.life = world, life
        clock, timing = world.clock, Timing()
        schedule = Schedule(timing, Random(1))
        self.table, self.raw_queue = ProcessTable(world.table, life), ProcessQueue(world.queue, life)
        self.queue: BestEffortQueue[RelayMessage] = BestEffortQueue(self.raw_queue, clock, timing)
        targets = RelayTargets(world.targets, APP)
        self.outbox = OutboxStore(self.table)
        self.destinations = Destinations(self.outbox, clock, schedule)
        sender = ProcessSender(world.bot, life)
        self.deliverer = Deliverer(
            *(self.outbox, targets, self.destinations, sender, world.issuer, self.queue, clock, schedule)
        )
        self.planner = OutboxPlanner(targets, APPS, self.destinations, self.queue, clock)
        self.store = CallStore(self.table, self.planner if world.targets else None)
        self.relay = PassThrough(self.deliverer, targets, self.store, BUDGET, SYNC_BUDGET)
        self.webhook = Webhook(
            self.store,
            cast("TokenVerifier", world),
            BestEffortQueue(cast("MessageQueue[WakeUp]", ProcessQueue(SharedQueue(clock), Life())), clock, timing),
            clock,
            SenderAllowList(),
            apps=APPS,
            relay=self.relay if world.targets else None,
        )

    async def notify(
        self, *items: Mapping[str, JsonValue], body: bytes | None = None, to: tuple[str, ...] = ()
    ) -> IngestResult:
        """Receive a body as Graph sends it, and let the background work end."""
        self.world.clock.time += timedelta(milliseconds=1)
        request = IncomingRequest({"Content-Type": "application/json", "Scenario-Id": "scenario"}, to)
        result = await self.webhook.receive(GRAPH_BEARER, body or body_of(*items), request=request)
        await self.settle()
        return result

    async def settle(self) -> None:
        """Let the background work end."""
        while tasks := self.deliverer._background:
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def run_queue(self) -> int:
        """Handle the messages that are visible now. Return their number."""
        handled = 0
        while message := self.world.queue.due():
            handled += 1
            await self.deliverer.handle(message)
            assert handled < 500, "messages go round in a circle"
        return handled

    async def look(self, after: timedelta = 20 * MINUTE) -> None:
        """Look at the outbox some time later, as the timer does."""
        self.world.clock.time += after
        await self.deliverer.look()
        await self.settle()

    async def pass_time(self, span: timedelta, step: timedelta = SECOND) -> None:
        """Let time pass, and handle each message when it becomes visible."""
        until = self.world.clock.now() + span
        while self.world.clock.now() < until:
            await self.run_queue()
            self.world.clock.time += step
        await self.run_queue()


class World:
    """A deployment: its table, its queue, its bot, and one process to begin with."""

    def __init__(self, *targets: RelayTarget, without_relay: bool = False) -> None:
        self.targets = () if without_relay else targets or (target(),)
        self.clock = SteppedClock()
        self.table, self.queue = MemoryTable(), SharedQueue(self.clock)
        self.bot, self.issuer = Bot(self.clock), Issuer()
        self.bearer_life = 5 * MINUTE
        self.tenant = TENANT
        self.process = self.start_process()

    def start_process(self, life: Life | None = None) -> Process:
        """Compose another process beside those that run."""
        return Process(self, life or Life())

    async def verify(self, authorization: str | None) -> Claims:
        """Stand in for the verifier of Graph's tokens."""
        assert authorization == GRAPH_BEARER
        return Claims(self.tenant, APP, expires_at=self.clock.now() + self.bearer_life)

    async def notify(self, *items: Mapping[str, JsonValue], to: tuple[str, ...] = ()) -> IngestResult:
        return await self.process.notify(*items, to=to)

    async def deliveries(self, call_id: str) -> list[Delivery]:
        """The deliveries of a call, with the bodies that are on record."""
        outbox = OutboxStore(self.table)
        listed = await outbox.list_of_call(call_id)
        stored = [await outbox.get(each.call_id, each.sequence) for each in listed]
        return [each.value for each in stored if each]

    async def log(self, call_id: str) -> list[tuple[str, list[int | str | None]]]:
        """The deliveries of a call: status, and the status or the error of each attempt."""
        found = await self.deliveries(call_id)
        return [(str(each.status), [one.status or one.error for one in each.attempts]) for each in found]

    def rows(self, kind: str = "") -> list[TableRow]:
        """All rows whose key begins so."""
        return [
            row
            for partition in self.table._partitions.values()
            for key, row in sorted(partition.rows.items())
            if key.startswith(kind)
        ]
