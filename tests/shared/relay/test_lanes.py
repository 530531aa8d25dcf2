"""The lanes of the relay: a worker leaves no delivery behind that was added while it worked."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.domain.deliveries import Delivery, DeliveryStatus, Destination, LaneKey, delivery_id, sequence_at
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
from tests.support.clocks import SteppedClock
from tests.support.stores import NOW, TENANT, make_call

APP_ID = "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
LANE = LaneKey("call", Destination("bot", None))


@dataclass
class Bot:
    """Accepts each request, after the actions that a test has given for it."""

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
    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        return f"{tenant_id} {app_id} {refresh} {audience}"


class Queue:
    async def send(self, message: RelayMessage, delay: timedelta = timedelta()) -> None:
        """Forget it: the tests let the deliverer work."""


@dataclass
class Relay:
    """The relay of one bot over a table in memory."""

    bot: Bot = field(default_factory=Bot)
    clock: SteppedClock = field(default_factory=lambda: SteppedClock(NOW))
    table: MemoryTable = field(default_factory=MemoryTable)

    def __post_init__(self) -> None:
        self.store, self.outbox = CallStore(self.table), OutboxStore(self.table)
        timing = Timing()
        schedule = Schedule(timing, Random(1))
        target = RelayTarget(name="bot", url="http://127.0.0.1:1/bot", format="graph", appId=APP_ID, audience=APP_ID)
        queue = BestEffortQueue[RelayMessage](Queue(), self.clock, timing)
        destinations = Destinations(self.outbox, self.clock, schedule)
        parts = self.outbox, RelayTargets((target,), APP_ID), destinations, self.bot, Tokens(), queue
        self.deliverer = Deliverer(*parts, self.clock, schedule)

    async def add(self, number: int) -> None:
        """Store a delivery of the call, as a notification does."""
        before = await self.store.get("call")
        call = replace(before.value if before else make_call("call"), relay_sequence=sequence_at(NOW) + number)
        delivery = Delivery(
            id=delivery_id(shard_of("call"), sequence_at(NOW) + number, f"{number:08x}"),
            call_ids=("call",),
            sequence=sequence_at(NOW) + number,
            destination=LANE.destination,
            type="notification",
            tenant_id=TENANT,
            app_id=APP_ID,
            received_at=NOW,
            retry_since=NOW,
            body=str(number).encode(),
        )
        await self.store.commit(Change(before, call, outgoing=Outgoing((delivery,), at=NOW)))


async def test_what_is_added_while_a_batch_is_attempted_is_not_left_behind() -> None:
    """The conflict of the first result must not hide from the last one that a delivery was added."""
    relay = Relay()
    await relay.add(1)
    await relay.add(2)
    relay.bot.before_answers = [lambda: relay.add(3)]

    await relay.deliverer.work(LANE)

    assert relay.bot.received == [b"1", b"2", b"3"]
    assert {each.status for each in await relay.outbox.list_of_call("call")} == {DeliveryStatus.DELIVERED}
    assert await relay.outbox.get_lane(LANE) is None
