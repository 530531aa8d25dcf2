"""One life: a deployment, its bots, its calls and its bad luck."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from random import Random
from typing import Any, cast

from shared.api.management import Management
from shared.api.webhook import SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.config.apps import Apps, BotApp
from shared.errors import CallKeeperError
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Renewer
from shared.storage.store import CallStore
from shared.storage.wakeup_queue import WakeUp
from soak.bots import Bots
from soak.cloud import Cloud, GraphOf, Held
from soak.judge import TIMING, Findings, Judge
from soak.liveness import Liveness
from soak.loop import VirtualLoop
from soak.post import Post, PostOf
from soak.spans import HOUR, MINUTE
from soak.storage import JudgedTable, ProcessTable
from soak.weather import ARMED, GROUPS, TICK, Climate, Kill, forecast
from soak.wire import START, Died, OffClock, Process, Scene

FUNCTION_TIMEOUT = 5 * MINUTE  # host.json
APPS = Apps((BotApp(appId="5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21", credential="managedIdentity"),))


class Verifier:
    """In the place of `TokenVerifier`: the header names the tenant. Tokens are tested elsewhere."""

    async def verify(self, authorization: str | None) -> Claims:
        """The claims."""
        return Claims(authorization or "", audience="")


class App(Process):
    """A process with the product in it, put together as `shared/services.py` does."""

    def __init__(self, name: str, world: "World") -> None:
        scene, random, climate = world.scene, world.scene.random, world.weather.climate
        super().__init__(name, scene)
        clock = OffClock(world.loop, random.uniform(-climate.clock_off, climate.clock_off))
        store = CallStore(ProcessTable(world.table, self, scene))
        graph, queue = GraphOf(world.cloud, self, clock), PostOf(world.post, self, scene)
        plan = SweepConfig(
            timing=TIMING,
            concurrency=random.choice(climate.concurrency),
            fan_out_threshold=climate.fan_out_above,
            retention=timedelta(hours=8),
        )
        renewer = Renewer(store, graph, queue, clock, plan.timing, concurrency=plan.concurrency)
        self.keeper = Keeper(store, renewer, clock, plan)
        self.management = Management(store, graph, renewer, clock, plan.timing, apps=APPS)
        self.webhook = Webhook(store, cast("TokenVerifier", Verifier()), queue, clock, SenderAllowList(), apps=APPS)
        self.clock = clock


class World:
    """A life, from its seed."""

    def __init__(self, seed: int, climate: Climate, loop: VirtualLoop) -> None:
        self.loop = loop
        self.weather = forecast(seed, climate)
        self.random = Random(f"{seed}/chance")
        self.findings = Findings(seed)
        self.lines: list[str] | None = None
        self._hash = hashlib.sha256()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.scene = Scene(loop, self.weather, self.random, self.tell)
        self.cloud = Cloud(self.scene)
        self.liveness = Liveness(self.weather)
        self.judge = Judge(self.findings, self.cloud, self.liveness, loop.time, self.tell)
        self.table = JudgedTable(self.judge.committed, self.judge.swept)
        self.post = Post(self.scene, lambda: self.pick("queue"), self.spawn)
        self.post.handle = self._handle
        self.post.on_put = self._count_waiting
        self.cloud.on_keep_alive = self.judge.kept
        self.cloud.on_early = self.judge.early
        self.groups: dict[str, list[App]] = {group: [] for group in GROUPS}
        self.bots = Bots(self, seed)
        self.cloud.on_end = self._ended

    def tell(self, who: str, *what: object) -> None:
        """Add a line to the trace."""
        line = f"{who:<8} {' '.join(map(str, what))}"
        self._hash.update(f"{self.loop.time():.6f} {line}".encode())
        self.note(line)

    def note(self, line: str) -> None:
        """Add a line to the trace that does not count for whether two lives are the same."""
        if self.lines is not None:
            self.lines.append(f"{_at(self.loop.time())} {line}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something happen in the world, beside everything else."""
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            raise error  # a bug of the world's own

    def pick(self, group: str) -> App | None:
        """A process of a group that is alive."""
        alive = [app for app in self.groups[group] if app.alive]
        return self.random.choice(alive) if alive else None

    def start(self, group: str, number: int) -> None:
        """Start a process in its place of the group."""
        app = App(f"{group}-{number}", self)
        app.on_death = lambda: self._dead(app, group, number)
        apps = self.groups[group]
        apps[number:] = [app, *apps[number + 1 :]]
        self.tell(app.name, "starts")

    async def live(self) -> Findings:
        """Live it to the end, and an hour more in peace."""
        climate = self.weather.climate
        for group, many in zip(GROUPS, (1, climate.queues, climate.https), strict=True):
            for number in range(many):
                self.start(group, number)
        for kill in self.weather.kills:
            self.loop.call_at(kill.at, self._strike, kill)
        self.spawn(self._timer())
        self.bots.begin()
        await asyncio.sleep(self.weather.seconds + HOUR)
        self.judge.settle()
        return self._sum_up()

    def _sum_up(self) -> Findings:
        counts = self.findings.counts
        counts["calls"] = len(self.cloud.calls)
        counts["faults"] = self.weather.tally()
        counts["messages"], counts["lost"], counts["poisoned"] = self.post.sent, self.post.lost, self.post.poisoned
        counts["moments held"], counts["moments"] = self.liveness.share(self.weather.seconds)
        self.findings.digest = self._hash.hexdigest()[:16]
        return self.findings

    def stop(self) -> None:
        """End what still runs."""
        self.loop.set_exception_handler(lambda *_: None)
        for apps in self.groups.values():
            for app in apps:
                app.on_death = lambda: None
                app.kill()
        for task in list(self._tasks):
            task.cancel()

    def _dead(self, app: App, group: str, number: int) -> None:
        self.findings.counts["kills"] += 1
        self.tell(app.name, "dies")
        self.loop.call_later(app.down, self.start, group, number)

    def _strike(self, kill: Kill) -> None:
        app = self.pick(kill.group)
        if app is not None:
            app.down = kill.down
            if kill.by_steps:
                self.loop.after_steps(kill.number, app.kill)
            else:
                app.arm(kill.number, after_effect=kill.after_effect)
            self.loop.call_later(ARMED, app.kill)

    async def _timer(self) -> None:
        """A timer of Azure: each quarter of an hour, no overlap, past due once after a restart."""
        due = TICK
        while True:
            await asyncio.sleep(due - self.loop.time() + self.random.random())
            if pause := self.weather.timer_paused.at(self.loop.time()):
                self.tell("timer", "stands still until", _at(pause.end))
                await asyncio.sleep(pause.end - self.loop.time())
                if self.random.random() < 0.5:
                    due = (self.loop.time() // TICK + 1) * TICK
                    continue
            if self.weather.timer_doubled.at(self.loop.time()):
                self.spawn(self._doubled())
            while not (  # noqa: ASYNC110 there is no event
                (app := self.pick("timer")) and await self._tick(app)
            ):
                await asyncio.sleep(1)  # the next process finds it past due
            due = max(due + TICK, self.loop.time() // TICK * TICK)

    async def _doubled(self) -> None:
        await asyncio.sleep(self.random.random() * 90)
        await self._tick(App("timer-x", self))

    async def _tick(self, app: App) -> bool:
        """Whether the process lived to the end of it."""
        self.tell(app.name, "ticks")
        return await self.limited(app, app.keeper.sweep("timer", unless_younger_than=TIMING.sweep_fresh_for))

    async def limited(self, app: App, work: Coroutine[Any, Any, object]) -> bool:
        """Do something that the host ends after five minutes, and the process with it."""
        limit = self.loop.call_later(FUNCTION_TIMEOUT, self._overtime, app)
        try:
            await app.work(work)
        except Died:
            return False
        except CallKeeperError as error:
            self.tell(app.name, "fails", type(error).__name__, error)
        finally:
            limit.cancel()
        return True

    def _overtime(self, app: App) -> None:
        if app.alive:
            self.judge.overtime(app.name)
        app.kill()

    async def _handle(self, process: Process, message: WakeUp) -> None:
        app = cast("App", process)
        limit = self.loop.call_later(FUNCTION_TIMEOUT, self._overtime, app)
        try:
            await app.keeper.handle(message)
        finally:
            limit.cancel()

    def _count_waiting(self) -> None:
        switches = sum('"due":"' in letter.text for letter in self.post.waiting)
        self.judge.waiting(switches, len(self.post.waiting))

    def _ended(self, held: Held) -> None:
        self.judge.ended(held)
        self.bots.ended(held)
        left_alone = self.liveness.fresh if self.weather.asks else 0  # by a tick, as one that was asked for just swept
        self.loop.call_later(TICK + left_alone + MINUTE, self.judge.due, held)


def _at(seconds: float) -> str:
    return f"{START + timedelta(seconds=seconds):%d %H:%M:%S.%f}"[:-3]


class _Tell(logging.Handler):
    """The product's own log lines, in the trace."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(f"log      {record.getMessage()}")


def listening(world: World) -> logging.Handler:
    """What adds the product's log to the trace of a life."""
    return _Tell(world.note)
