"""The workload: bots that register and hang up calls, Graph's notifications, and other requests to the API."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from shared.errors import CallKeeperError, InvalidRequest
from shared.storage.store import shard_of
from soak.fault_schedule import TENANTS
from soak.graph_posts import body_of, item_of
from soak.intervals import HOUR, MINUTE
from soak.process import START, ProcessDied
from soak.relay_traffic import RelayTraffic
from soak.virtual_graph import VirtualCall
from soak.world import AppProcess, World

type ApiCall = Callable[..., Coroutine[Any, Any, object]]  # makes a coroutine of an app only if it is awaited

HTTP_BUDGET = timedelta(minutes=3)  # of a sweep by POST /api/keep-alive


class Bots:
    """Keeps as many calls alive as the fault profile says, and sends the other requests."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._random = Random(f"{seed}/bots")
        self._number = 0
        self._profile = world.schedule.profile
        self._traffic = RelayTraffic(world.relay.posts, self.notify, world.spawn, seed) if world.relay else None
        shares = self._profile.notification_fault_shares
        self._lost_share, self._late_share = self._random.choice(shares), self._random.choice(shares)

    def start(self) -> None:
        """Start the first calls and the other traffic."""
        for _ in range(self._profile.calls):
            self._world.loop.call_later(self._random.random() * 20 * MINUTE, self._start_call)
        self._world.spawn(self._send_requests())
        for at in self._world.schedule.sweep_requests:
            self._world.loop.call_at(at, lambda: self._world.spawn(self._request_sweep()))

    def on_call_end(self, call: VirtualCall) -> None:
        """Let Graph notify the end of a call, and start another call."""
        random = self._random
        if not call.notifies_us:
            self._start_successor()
            return
        result = {"code": 408, "subcode": 8537} if call.cause == "lapsed" else {"code": 200, "subcode": 5010}
        if random.random() >= self._lost_share:
            delay = random.random() * 30 * MINUTE if random.random() < self._late_share else random.random()
            self._notify_after(call, {"state": "terminated", "resultInfo": result}, delay)
            if random.random() < 0.3:
                self._notify_after(call, {"state": "terminated", "resultInfo": result}, delay + random.random() * 120)
        self._start_successor()

    def _start_successor(self) -> None:
        if self._world.loop.time() < self._world.schedule.seconds:
            self._world.loop.call_later(self._random.expovariate(1 / 180), self._start_call)

    def _start_call(self) -> None:
        self._number += 1
        self._world.spawn(self._run_call(Random(f"{self._seed}/call/{self._number}")))

    async def _run_call(self, random: Random) -> None:
        """Start a call, report it to Call Keeper, and end it."""
        call = self._world.graph.create(self._draw_id(random), random.choice(TENANTS))
        self._world.trace("bot", "calls", call.id)
        ends = call.started + (
            random.uniform(1, 600)
            if random.random() < self._profile.short_share
            else random.expovariate(1 / self._profile.mean_call_hours) * HOUR
        )
        call.notifies_us = random.random() >= self._profile.no_notification_share
        late = random.uniform(600, 2400) if random.random() < self._profile.late_share else 0.0
        if self._traffic and call.notifies_us:
            self._world.spawn(self._traffic.follow(call))
        unregistered = call.notifies_us and random.random() < self._profile.unregistered_share
        if call.notifies_us and not (unregistered and late):
            self._notify_after(call, {"state": "establishing"}, random.random())
        if unregistered:
            await self._report_by_notifications(call, late)
        else:
            await self._register(call, random, late)
        await asyncio.sleep(max(ends - self._world.loop.time(), 0))
        if random.random() < 0.3:
            await self._hang_up(call)
        self._world.graph.end(call, "left")

    def _draw_id(self, random: Random) -> str:
        while True:
            call_id = str(UUID(int=random.getrandbits(128)))
            if shard_of(call_id) == 0 or not self._profile.one_shard:
                return call_id

    async def _report_by_notifications(self, call: VirtualCall, late: float) -> None:
        """Report a call by notifications alone. If `late` is not 0, the first one comes so many seconds later."""
        if late:
            await asyncio.sleep(late)
            call.reported = self._world.loop.time()
        for delay in (0.0 if late else 2.0, 20.0, 60.0, 300.0):
            self._notify_after(call, {"state": "established"}, delay)

    async def _register(self, call: VirtualCall, random: Random, late: float) -> None:
        """Register a call, again and again until it succeeds. In 1 of 5 cases the start is missing or wrong."""
        await asyncio.sleep(late or random.random() * 5)
        started: datetime | None = START + timedelta(seconds=call.started)
        if random.random() < 0.2:
            started = None if late else random.choice((None, START + timedelta(seconds=call.started + 60)))
        if late and started is None:
            call.reported = self._world.loop.time()
        elif started == START + timedelta(seconds=call.started):
            call.registered = self._world.loop.time()
        for attempt in range(1_000):
            to = self._world.relay.posts.callback(call).registration if self._world.relay else None
            error = await self._request(
                lambda app, at=started, to=to: app.management.register(call.id, call.tenant, at, {}, to=to)
            )
            if error is None:
                return
            if isinstance(error, InvalidRequest):
                started = None
            await asyncio.sleep(min(2**attempt, 60) * random.uniform(0.5, 1))

    async def _hang_up(self, call: VirtualCall) -> None:
        for _ in range(5):
            error = await self._request(lambda app: app.management.hang_up(call.id, "bot"))
            if error is None:
                return
            await asyncio.sleep(10)

    async def _send_requests(self) -> None:
        """Send other requests: each of them checks whether sweeps are stale."""
        world = self._world
        while True:
            await asyncio.sleep(self._random.uniform(0.4, 1.2) * self._profile.request_interval * MINUTE)
            if world.schedule.no_requests.at(world.loop.time()) or not world.checker.recorded:
                continue
            call_id = next(reversed(world.checker.recorded))
            world.spawn(self._ignoring(lambda app, call_id=call_id: app.management.records.read_call(call_id)))

    async def _request_sweep(self) -> None:
        """Send POST /api/keep-alive, as an outside scheduler or an operator does."""
        app = self._world.pick_process("http")
        if app is not None:
            self._world.trace(app.name, "is asked to sweep")
            await self._world.run_function(
                app, self._answer(app, lambda app: app.keeper.sweep("operator", budget=HTTP_BUDGET))
            )

    async def _ignoring(self, call: ApiCall) -> None:
        await self._request(call)

    async def _request(self, call: ApiCall) -> Exception | None:
        """Send a request to a management route, as functions/routing.py answers it. Return its error, if any."""
        app = self._world.pick_process("http")
        if app is None:
            return ProcessDied()
        try:
            await app.run(self._answer(app, call))
        except (ProcessDied, CallKeeperError) as error:
            return error
        return None

    async def _answer(self, app: AppProcess, call: ApiCall) -> None:
        await call(app)
        await app.staleness_check.run()

    def _notify_after(self, call: VirtualCall, data: dict[str, object], delay: float) -> None:
        is_end = data["state"] == "terminated"
        entity = {"@odata.type": "#microsoft.graph.call", **data}
        serial = self._traffic.next_serial() if self._traffic else 0
        body = body_of([item_of(call.id, serial, entity, is_end=is_end)])
        self._world.spawn(self.notify(call, body, delay, is_end=is_end))

    async def notify(self, call: VirtualCall, body: bytes, delay: float, *, is_end: bool = False) -> None:
        """Post a notification, and again a minute later in half of the cases in which it is not accepted."""
        for _ in range(3):
            await asyncio.sleep(delay)
            app = self._world.pick_process("http")
            if app is not None:
                if is_end:
                    call.evidence.add("notification")
                try:
                    await app.run(self._answer(app, lambda app: self._post(app, call, body)))
                except (ProcessDied, CallKeeperError) as error:
                    self._world.trace(app.name, "does not take a notification", type(error).__name__)
                else:
                    return
            if self._random.random() < 0.5:
                return
            delay = 60.0

    async def _post(self, app: AppProcess, call: VirtualCall, body: bytes) -> None:
        if self._world.relay:
            await self._world.relay.posts.post(app.webhook, call, body, self._random)
        else:
            await app.webhook.receive(call.tenant, body)
