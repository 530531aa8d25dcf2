"""What stands around the app: bots that register and hang up, Graph's notifications, other traffic."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import CallKeeperError, InvalidRequest
from shared.storage.store import shard_of
from soak.cloud import Held
from soak.spans import HOUR, MINUTE
from soak.weather import TENANTS
from soak.wire import START, Died

if TYPE_CHECKING:
    from soak.world import App, World

type Ask = Callable[..., Coroutine[Any, Any, object]]  # of an app: made where it is awaited, or never

HTTP_BUDGET = timedelta(minutes=3)  # of a sweep that is asked for


class Bots:
    """As many calls as the climate asks for, each with a life of its own."""

    def __init__(self, world: "World", seed: int) -> None:
        self._world = world
        self._seed = seed
        self._random = Random(f"{seed}/bots")
        self._number = 0
        self._climate = world.weather.climate
        self._heard = [self._random.choice(self._climate.heard) for _ in range(2)]  # lost, late

    def begin(self) -> None:
        """The first calls, and the other traffic."""
        for _ in range(self._climate.calls):
            self._world.loop.call_later(self._random.random() * 20 * MINUTE, self._next)
        self._world.spawn(self._traffic())
        for at in self._world.weather.asks:
            self._world.loop.call_at(at, lambda: self._world.spawn(self._ask_for_sweep()))

    def ended(self, held: Held) -> None:
        """A call is over: Graph tells of it, and another one begins."""
        random = self._random
        if held.deaf:
            self._succeed()
            return
        result = {"code": 408, "subcode": 8537} if held.cause == "lapsed" else {"code": 200, "subcode": 5010}
        if random.random() >= self._heard[0]:
            late = random.random() * 30 * MINUTE if random.random() < self._heard[1] else random.random()
            self._tell(held, {"state": "terminated", "resultInfo": result}, late)
            if random.random() < 0.3:
                self._tell(held, {"state": "terminated", "resultInfo": result}, late + random.random() * 120)
        self._succeed()

    def _succeed(self) -> None:
        if self._world.loop.time() < self._world.weather.seconds:
            self._world.loop.call_later(self._random.expovariate(1 / 180), self._next)

    def _next(self) -> None:
        self._number += 1
        self._world.spawn(self._live(Random(f"{self._seed}/call/{self._number}")))

    async def _live(self, random: Random) -> None:
        """A call, as its bot lives it."""
        held = self._world.cloud.create(self._id(random), random.choice(TENANTS))
        self._world.tell("bot", "calls", held.id)
        ends = held.started + (
            random.uniform(1, 600)
            if random.random() < self._climate.short
            else random.expovariate(1 / self._climate.lives) * HOUR
        )
        held.deaf = random.random() < self._climate.deaf
        late = random.uniform(600, 2400) if random.random() < self._climate.late else 0.0
        unregistered = not held.deaf and random.random() < self._climate.unregistered
        if not held.deaf and not (unregistered and late):
            self._tell(held, {"state": "establishing"}, random.random())
        if unregistered:
            await self._told(held, late)
        else:
            await self._register(held, random, late)
        await asyncio.sleep(max(ends - self._world.loop.time(), 0))
        if random.random() < 0.3:
            await self._hang_up(held)
        self._world.cloud.end(held, "left")

    def _id(self, random: Random) -> str:
        while True:
            call_id = str(UUID(int=random.getrandbits(128)))
            if shard_of(call_id) == 0 or not self._climate.one_shard:
                return call_id

    async def _told(self, held: Held, late: float) -> None:
        """Nobody registers it: notifications alone tell of it, of some calls only in mid-life."""
        if late:
            await asyncio.sleep(late)
            held.told = self._world.loop.time()
        for delay in (0.0 if late else 2.0, 20.0, 60.0, 300.0):
            self._tell(held, {"state": "established"}, delay)

    async def _register(self, held: Held, random: Random, late: float) -> None:
        await asyncio.sleep(late or random.random() * 5)
        started: datetime | None = START + timedelta(seconds=held.started)
        if random.random() < 0.2:
            started = None if late else random.choice((None, START + timedelta(seconds=held.started + 60)))
        if late and started is None:
            held.told = self._world.loop.time()
        elif started == START + timedelta(seconds=held.started):
            held.asked = self._world.loop.time()
        for attempt in range(1_000):
            outcome = await self._request(lambda app, at=started: app.management.register(held.id, held.tenant, at, {}))
            if outcome is None:
                return
            if isinstance(outcome, InvalidRequest):
                started = None
            await asyncio.sleep(min(2**attempt, 60) * random.uniform(0.5, 1))

    async def _hang_up(self, held: Held) -> None:
        for _ in range(5):
            outcome = await self._request(lambda app: app.management.hang_up(held.id, "bot"))
            if outcome is None:
                return
            await asyncio.sleep(10)

    async def _traffic(self) -> None:
        """Other requests: each of them looks whether sweeps happen."""
        world = self._world
        while True:
            await asyncio.sleep(self._random.uniform(0.4, 1.2) * self._climate.request_every * MINUTE)
            if world.weather.quiet.at(world.loop.time()) or not world.judge.known:
                continue
            call_id = next(reversed(world.judge.known))
            world.spawn(self._ignoring(lambda app, call_id=call_id: app.management.records.read_call(call_id)))

    async def _ask_for_sweep(self) -> None:
        """POST /api/keep-alive: by an outside scheduler or an operator."""
        app = self._world.pick("http")
        if app is not None:
            self._world.tell(app.name, "is asked to sweep")
            await self._world.limited(
                app, self._answer(app, lambda app: app.keeper.sweep("operator", budget=HTTP_BUDGET))
            )

    async def _ignoring(self, ask: Ask) -> None:
        await self._request(ask)

    async def _request(self, ask: Ask) -> Exception | None:
        """A request to a management route, as functions/routing.py answers it. What went wrong, if anything."""
        app = self._world.pick("http")
        if app is None:
            return Died()
        try:
            await app.work(self._answer(app, ask))
        except (Died, CallKeeperError) as error:
            return error
        return None

    async def _answer(self, app: "App", ask: Ask) -> None:
        await ask(app)
        await app.keeper.check_for_stale_sweeps()

    def _tell(self, held: Held, call: dict[str, object], delay: float) -> None:
        body = json.dumps(
            {
                "value": [
                    {
                        "changeType": "deleted" if call["state"] == "terminated" else "updated",
                        "resourceUrl": f"/communications/calls/{held.id}",
                        "resourceData": {"@odata.type": "#microsoft.graph.call", **call},
                    }
                ]
            }
        ).encode()
        self._world.spawn(self._notify(held, body, delay, over=call["state"] == "terminated"))

    async def _notify(self, held: Held, body: bytes, delay: float, *, over: bool) -> None:
        """Post a notification; where it is not taken, perhaps once more."""
        for _ in range(3):
            await asyncio.sleep(delay)
            app = self._world.pick("http")
            if app is not None:
                if over:
                    held.words.add("notification")
                try:
                    await app.work(self._answer(app, lambda app: app.webhook.receive(held.tenant, body)))
                except (Died, CallKeeperError) as error:
                    self._world.tell(app.name, "does not take a notification", type(error).__name__)
                else:
                    return
            if self._random.random() < 0.5:
                return
            delay = 60.0
