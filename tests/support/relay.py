"""Helpers of the relay's tests: a relay over a table in memory, and a bot that does what a test tells it."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Delivery, Destination, LaneKey, delivery_id, sequence_at
from shared.domain.leases import Timing
from shared.relay.breaker import Destinations
from shared.relay.deliverer import Deliverer
from shared.relay.schedule import Schedule
from shared.relay.sender import Answer
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.changes import Outgoing
from shared.storage.memory_table import MemoryTable
from shared.storage.outbox import OutboxStore
from shared.storage.relay_queue import RelayMessage
from shared.storage.rows import shard_of
from shared.storage.store import CallStore, Change
from shared.storage.table import MAX_PAGE_ROWS, KeyRange, TableRow, Write
from tests.support.clocks import SteppedClock
from tests.support.stores import NOW, TENANT, make_call

APP_ID = "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
CALL = "57dab8b1-894c-409a-b240-bd8beae78896"
LANE = LaneKey(CALL, Destination("bot", None))


class CountingTable(MemoryTable):
    """A table in memory that counts the requests that Table Storage would get. A page is one, however many rows."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()

    async def read(self, shard: int, key: str) -> TableRow | None:
        self.requests["read"] += 1
        return await super().read(shard, key)

    async def write(self, shard: int, writes: Sequence[Write]) -> tuple[str, ...]:
        self.requests["write"] += 1
        return await super().write(shard, writes)

    async def pages(
        self,
        shard: int,
        key_range: KeyRange,
        *,
        size: int = MAX_PAGE_ROWS,
        matching: Mapping[str, Collection[str]] | None = None,
        select: Collection[str] | None = None,
    ) -> AsyncGenerator[list[TableRow]]:
        async for page in super().pages(shard, key_range, size=size, matching=matching, select=select):
            self.requests["query"] += 1
            yield page


@dataclass
class Bot:
    """Accepts each request, after the actions that a test has given for it. With `is_down` it gives no answer."""

    before_answers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)

    async def post(
        self,
        url: str,  # noqa: ARG002 - there is one bot
        headers: Mapping[str, str],  # noqa: ARG002 - no test looks at them
        body: bytes,
        timeout: timedelta,  # noqa: ARG002, ASYNC109 - the sender's interface
        *,
        read_body: bool = False,  # noqa: ARG002 - as above
    ) -> Answer:
        self.received.append(body)
        if self.before_answers:
            await self.before_answers.pop(0)()
        return Answer(202, {})


class Tokens:
    """Gives a token for everything."""

    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        return f"{tenant_id} {app_id} {refresh} {audience}"


@dataclass
class Messages:
    """A queue that only keeps its messages."""

    sent: list[object] = field(default_factory=list)

    async def send(self, message: object, delay: timedelta = timedelta()) -> None:  # noqa: ARG002 - nobody waits
        self.sent.append(message)


@dataclass
class Relay:
    """The relay of one bot over a table in memory."""

    bot: Bot = field(default_factory=Bot)
    clock: SteppedClock = field(default_factory=lambda: SteppedClock(NOW))
    table: CountingTable = field(default_factory=CountingTable)
    messages: Messages = field(default_factory=Messages)

    def __post_init__(self) -> None:
        self.store, self.outbox = CallStore(self.table), OutboxStore(self.table)
        timing = Timing()
        schedule = Schedule(timing, Random(1))
        target = RelayTarget(name="bot", url="http://127.0.0.1:1/bot", format="graph", appId=APP_ID, audience=APP_ID)
        self.targets = RelayTargets((target,), APP_ID)
        self.queue = BestEffortQueue[RelayMessage](self.messages, self.clock, timing)
        self.destinations = Destinations(self.outbox, self.clock, schedule)
        parts = self.outbox, self.targets, self.destinations, self.bot, Tokens(), self.queue
        self.deliverer = Deliverer(*parts, self.clock, schedule)

    async def add(self, number: int) -> None:
        """Store a delivery of the call, as a notification does."""
        before = await self.store.get(CALL)
        sequence = sequence_at(NOW) + number
        call = replace(before.value if before else make_call(CALL), relay_sequence=sequence)
        delivery = Delivery(
            id=delivery_id(shard_of(CALL), sequence, f"{number:08x}"),
            call_ids=(CALL,),
            sequence=sequence,
            destination=LANE.destination,
            type="notification",
            tenant_id=TENANT,
            app_id=APP_ID,
            received_at=NOW,
            retry_since=NOW,
            body=str(number).encode(),
        )
        await self.store.commit(Change(before, call, outgoing=Outgoing((delivery,), at=NOW)))
