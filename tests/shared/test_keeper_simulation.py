"""The keeper in virtual time with faults, from seeds that replay: hours of a hard life in a second.

Run one seed again with `KEEPER_SEEDS=1234 pytest tests/shared/test_keeper_simulation.py`, or more of them with
`KEEPER_SEEDS=0-999`.
"""

import asyncio
import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import pytest

from shared import lifecycle
from shared.calls import Call, Event, Source, Status, Timing
from shared.errors import (
    GraphForbidden,
    GraphRejected,
    GraphThrottled,
    GraphUnavailable,
    StoreUnavailable,
    TokenUnavailable,
)
from shared.keeper import Keeper
from shared.lifecycle import Registration
from shared.memory_store import MemoryCallStore
from shared.renewal import Renewer
from shared.store import Change, shard_of, update
from shared.sweep import Plan
from tests.support.virtual import VirtualClock, VirtualGraph, VirtualQueue

MINUTE = timedelta(minutes=1)
HOURS = timedelta(hours=4)
TENANTS = ("7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11", "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d")
LONGEST_TROUBLE = 12 * MINUTE
PEACE = 15 * MINUTE


def seeds() -> list[int]:
    text = os.environ.get("KEEPER_SEEDS", "0-24")
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


class ShakyStore(MemoryCallStore):
    """Fails at times, before or after the write."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.trouble = 0.0

    async def commit(self, change: Change) -> None:
        if self._random.random() < self.trouble / 2:
            raise StoreUnavailable("test: before the write")
        await super().commit(change)
        if self._random.random() < self.trouble / 2:
            raise StoreUnavailable("test: the answer was lost")


@dataclass
class Life:
    """A deployment, its calls and its bad luck. All randomness is the seed's."""

    seed: int
    random: Random = field(init=False)
    clock: VirtualClock = field(init=False)
    died: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.clock = VirtualClock()
        self.store = ShakyStore(self.random)
        self.queue = VirtualQueue(self.clock)
        self.graph = VirtualGraph(self.clock)
        self.graph.faults["*"] = self._fault
        self.keeper = self._process()
        self.graph_trouble_until = self.clock.now()
        self.graph_fine_until = self.clock.now()
        self.queue_loses = self.random.random() < 0.5  # else the timer dies: one wake-up may be broken, not both
        self.timer_dead = False
        self.past_due = False
        self.hung_up: set[str] = set()

    def _process(self) -> Keeper:
        """A new process: nothing of the old one's memory is left."""
        plan = Plan(Timing(), self.random.choice((1, 4, 32)), self.random.choice((20, 240)) * timedelta(seconds=1))
        renewer = Renewer(self.store, self.graph, self.queue, self.clock, plan.timing)
        return Keeper(self.store, renewer, self.clock, plan)

    async def _fault(self, _operation: str, _call_id: str) -> None:
        await self.clock.sleep(self.random.expovariate(1 / 0.2))
        bad = self.clock.now() < self.graph_trouble_until
        if self.random.random() < (0.9 if bad else 0.01):
            raise self.random.choice(
                (
                    GraphUnavailable("503", status=503),
                    GraphUnavailable("time-out"),
                    GraphThrottled("429", status=429, retry_after=self.random.choice((None, 1.5, 40.0))),
                    GraphForbidden("7505", status=403, subcode=7505),
                    GraphRejected("8501", status=400, subcode=8501),
                    TokenUnavailable("no token"),
                    RuntimeError("a bug"),
                )
            )

    async def live(self) -> None:
        end = self.clock.now() + HOURS
        minute = 0
        while self.clock.now() < end:
            await self._fortune()
            if minute < 120 and self.random.random() < 0.5:
                await self._new_call(f"call-{minute}-{self.seed}")
            if self.random.random() < 0.1:
                self._somebody_hangs_up()
            if minute % 15 == 0 or self.past_due:
                await self._tick()
            await self._drain()
            await self.clock.advance(max(MINUTE * (minute + 1) - (self.clock.now() - end + HOURS), timedelta()))
            minute += 1
            self._check()
        await self._settle()

    async def _tick(self) -> None:
        """The timer, which may be dead or miss a tick; a run that dies with its process is past due, and run again."""
        if self.timer_dead or (not self.queue_loses and self.random.random() < 0.1):
            return
        done = await self._work(self.keeper.sweep("timer", unless_younger_than=Timing().fresh))
        self.past_due = not done

    async def _fortune(self) -> None:
        """Trouble comes for up to twelve minutes, and then stays away for fifteen: else nobody could keep the calls."""
        now = self.clock.now()
        if now >= self.graph_trouble_until and now >= self.graph_fine_until and self.random.random() < 0.05:
            self.graph_trouble_until = now + self.random.random() * LONGEST_TROUBLE
            self.graph_fine_until = self.graph_trouble_until + PEACE
        self.store.trouble = 0.3 if now < self.graph_trouble_until else 0.01
        if not self.queue_loses and self.random.random() < 0.05:
            self.timer_dead = not self.timer_dead

    async def _new_call(self, call_id: str) -> None:
        in_peace = self.clock.now() >= self.graph_trouble_until
        ages = (0, 0, 1, 20, 20 if self.queue_loses else 35) if in_peace else (0, 1)
        age = self.random.choice(ages) * MINUTE
        self.graph.start(call_id, age=age)
        registration = Registration(call_id, self.random.choice(TENANTS), self.clock.now() - age)
        while not await self._work(self._register(registration)):
            pass  # the bot got no answer, and asks again

    async def _register(self, registration: Registration) -> None:
        """As `Management.register` does it."""
        call = await update(self.store, registration.call_id, lambda call: self._registered(call, registration))
        assert call is not None
        watermark = await self.store.watermark(shard_of(call.id))
        if call.lease.expires_at(watermark, Timing()) - self.clock.now() < Timing().renew_at_once_below:
            await self.keeper._renewer.renew(call.lease, watermark, swept=False)
        await self.keeper.notice()

    def _registered(self, call: Call | None, registration: Registration) -> tuple[Call, tuple[Event, ...]]:
        return lifecycle.registered(call, registration, self.clock.now()), ()

    def _somebody_hangs_up(self) -> None:
        alive = [call_id for call_id, call in self.graph.calls.items() if not call.ended]
        if alive:
            call_id = self.random.choice(alive)
            self.graph.calls[call_id].ended = True
            self.hung_up.add(call_id)

    async def _drain(self) -> None:
        while message := self.queue.due():
            fate = self.random.random()
            if fate < 0.02 and self.queue_loses:
                continue  # poisoned
            if fate < 0.05:
                await self.queue.send(message)  # delivered twice
                fate = 1
            if not await self._work(self.keeper.handle(message)):
                await self.queue.send(message, 30 * timedelta(seconds=1))

    async def _work(self, work: object) -> bool:
        """Do it; now and then the process dies in the middle, and a new one takes its place."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload] # any of the keeper's coroutines
        if self.random.random() < 0.05:
            for _ in range(self.random.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
            self.died += 1
            self.keeper = self._process()
        try:
            await self.clock.run(task)
        except (asyncio.CancelledError, StoreUnavailable):
            return False
        return True

    def _check(self) -> None:
        lapsed = self.graph.lapsed()
        assert not lapsed, f"seed {self.seed}: {lapsed} lapsed at {self.clock.now()}"

    async def _settle(self) -> None:
        """An hour of peace, in which every end must become known."""
        self.graph.faults.clear()
        self.store.trouble = 0
        for minute in range(60):
            if minute % 15 == 0:
                await self.clock.run(self.keeper.sweep("timer", unless_younger_than=Timing().fresh))
            while message := self.queue.due():
                await self.clock.run(self.keeper.handle(message))
            await self.clock.advance(MINUTE)
        self._check()


@pytest.mark.parametrize("seed", seeds())
async def test_no_call_lapses_and_every_end_is_known_whatever_goes_wrong(seed: int) -> None:
    life = Life(seed)
    await life.live()

    assert len(life.graph.calls) > 30
    for call_id, at_graph in life.graph.calls.items():
        stored = await life.store.get(call_id)
        assert stored is not None
        call = stored.value
        assert (call.status is Status.ENDED) == at_graph.ended, f"seed {seed}: {call_id}"
        if call.termination:
            assert call.termination.source in {Source.KEEP_ALIVE_NOT_FOUND, Source.LOOKUP_NOT_FOUND}
    proofs = [await _proved(life, call_id) for call_id, call in life.graph.calls.items() if not call.ended]
    assert all(proofs), f"seed {seed}: the record says of a call that it was renewed when it was not"


async def _proved(life: Life, call_id: str) -> bool:
    """What the record says of the last renewal is no later than what Graph saw."""
    stored = await life.store.get(call_id)
    assert stored is not None
    claimed: datetime = stored.value.lease.last_renewal(await life.store.watermark(shard_of(call_id)), Timing())
    return claimed <= life.graph.calls[call_id].expires_at - Timing().lease
