"""The world of one run: the processes of a deployment, its store and queue, Graph, and the faults that strike them."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from random import Random
from typing import Any, cast

from shared.api.continuation_tokens import ContinuationSigner
from shared.api.management import Management
from shared.api.records import Records
from shared.api.webhook import SenderAllowList, Webhook
from shared.auth.tokens import Claims, TokenVerifier
from shared.errors import CallKeeperError
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.renewer import Renewer
from shared.keeping.staleness import StalenessCheck
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import CallStore
from shared.storage.wakeup_queue import WakeUp, parse_wake_up
from soak.apps import APPS
from soak.checker import TIMING, Checker, Findings
from soak.fault_kinds import MAX_KILL_DELAY, TICK, Kill
from soak.fault_schedule import GROUPS, FaultProfile, draw
from soak.graph_posts import read_bearer
from soak.intervals import MINUTE
from soak.liveness import LivenessCondition
from soak.loop import VirtualLoop
from soak.process import START, Environment, Process, ProcessDied, SkewedClock
from soak.relay_faults import RELAY_GROUPS
from soak.relay_world import RelayWorld
from soak.virtual_graph import ProcessGraph, VirtualGraph
from soak.virtual_queue import ProcessQueue, QueueFaults, VirtualQueue
from soak.virtual_storage import CheckedTable, ProcessTable

FUNCTION_TIMEOUT = 5 * MINUTE  # host.json


class Verifier:
    """Replaces `TokenVerifier`: the header contains the tenant and the bearer's end. Other tests verify tokens."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    async def verify(self, authorization: str | None) -> Claims:
        """Return the claims."""
        text = authorization or ""
        return read_bearer(text, self._now()) or Claims(text, audience="")


class AppProcess(Process):
    """A process with the product in it, built as in `shared/services.py`."""

    def __init__(self, name: str, world: "World") -> None:
        environment, random, profile = world.environment, world.environment.random, world.schedule.profile
        super().__init__(name, environment)
        clock = SkewedClock(world.loop, random.uniform(-profile.max_clock_offset, profile.max_clock_offset))
        self.clock = clock
        table = ProcessTable(world.table, self, environment)
        self.relay = world.relay.connect(self, table, clock, TIMING) if world.relay else None
        store = CallStore(table, self.relay.planner if self.relay else None)
        graph, queue = ProcessGraph(world.graph, self, clock), ProcessQueue(world.queue, self, environment)
        plan = SweepConfig(
            timing=TIMING,
            concurrency=random.choice(profile.concurrency),
            fan_out_threshold=profile.fan_out_threshold,
            retention=timedelta(hours=profile.retention_hours),
        )
        wakeups = BestEffortQueue(queue, clock, plan.timing)
        renewer = Renewer(store, graph, wakeups, clock, plan.timing, concurrency=plan.concurrency)
        self.keeper = Keeper(store, renewer, wakeups, clock, plan, outbox_care=self.relay.care if self.relay else None)
        self.staleness_check = StalenessCheck(store, self.keeper, wakeups, clock, plan)
        records = Records(store, clock, plan.timing, ContinuationSigner(store))
        self.management = Management(
            store, graph, renewer, clock, plan.timing, queue=wakeups, records=records, apps=APPS
        )
        verifier = cast("TokenVerifier", Verifier(self.now))
        pass_through = self.relay.pass_through(store) if self.relay else None
        self.webhook = Webhook(store, verifier, wakeups, clock, SenderAllowList(), apps=APPS, relay=pass_through)


class World:
    """The world of one run, without its bots.

    Parameters
    ----------
    seed
        Defines the faults and all other random choices.
    profile
        The faults and the workload that the run can get.
    loop
        The event loop in virtual time.
    """

    def __init__(self, seed: int, profile: FaultProfile, loop: VirtualLoop) -> None:
        self.loop = loop
        self.schedule = draw(seed, profile)
        self.random = Random(f"{seed}/chance")
        self.findings = Findings(seed)
        self.lines: list[str] | None = None
        self._hash = hashlib.sha256()
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._dead: list[AppProcess] = []  # kept, because asyncio complains of tasks that vanish with their process
        self.environment = Environment(loop, self.schedule, self.random, self.trace)
        self.graph = VirtualGraph(self.environment)
        self.liveness = LivenessCondition(self.schedule)
        self.checker = Checker(self.findings, self.graph, self.liveness, loop.time, self.trace)
        self.table = CheckedTable(self.checker.on_commit, self.checker.on_watermark)
        faults = QueueFaults(self.schedule.queue_loses, self.schedule.queue_stalls, self.schedule.queue_duplicates)
        self.queue: VirtualQueue = VirtualQueue(
            self.environment, faults, parse_wake_up, lambda: self.pick_process("queue"), self.spawn
        )
        self.queue.handle = self._handle_message
        self.queue.on_put = self._check_queue
        self.graph.on_keep_alive = self.checker.on_keep_alive
        self.graph.on_early_keep_alive = self.checker.on_early_keep_alive
        self.processes: dict[str, list[AppProcess]] = {group: [] for group in (*GROUPS, *RELAY_GROUPS)}
        self.relay = RelayWorld(self, self.findings, seed, self.schedule.relay) if self.schedule.relay else None
        if self.relay:
            self.table.on_write = self.relay.checker.on_write

    @property
    def digest(self) -> str:
        """A hash of the trace: two runs with the same digest are the same."""
        return self._hash.hexdigest()[:16]

    def trace(self, source: str, *what: object) -> None:
        """Add a line to the trace."""
        line = f"{source:<8} {' '.join(map(str, what))}"
        self._hash.update(f"{self.loop.time():.6f} {line}".encode())
        self.trace_log(line)

    def trace_log(self, line: str) -> None:
        """Add a line to the trace that is not part of the digest."""
        if self.lines is not None:
            self.lines.append(f"{_at(self.loop.time())} {line}")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside everything else."""
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            raise error  # a defect of the simulation

    def pick_process(self, group: str) -> AppProcess | None:
        """Return a process of a group that is alive, None if all are dead."""
        alive = [process for process in self.processes[group] if process.alive]
        return self.random.choice(alive) if alive else None

    def start(self) -> None:
        """Start the processes and the timer, and schedule the kills."""
        profile = self.schedule.profile
        for group, count in zip(GROUPS, (1, profile.queue_processes, profile.http_processes), strict=True):
            for number in range(count):
                self._start_process(group, number)
        if profile.relay:
            for group, count in zip(RELAY_GROUPS, (profile.relay.processes, 1), strict=True):
                for number in range(count):
                    self._start_process(group, number)
        for kill in self.schedule.kills:
            self.loop.call_at(kill.at, self._kill, kill)
        self.spawn(self._run_timer())
        if self.relay:
            self.relay.start()

    def stop(self) -> None:
        """Kill all processes and cancel all tasks."""
        self.loop.set_exception_handler(lambda *_: None)
        for processes in self.processes.values():
            for process in processes:
                process.on_death = lambda: None
                process.kill()
        for task in list(self._tasks):
            task.cancel()

    async def run_function(self, process: Process, work: Coroutine[Any, Any, object]) -> bool:
        """Run a function, which the host kills with its process after five minutes. False if the process died."""
        limit = self.loop.call_later(FUNCTION_TIMEOUT, self._time_out, process)
        try:
            await process.run(work)
        except ProcessDied:
            return False
        except CallKeeperError as error:
            self.trace(process.name, "fails", type(error).__name__, error)
        finally:
            limit.cancel()
        return True

    def _start_process(self, group: str, number: int) -> None:
        process = AppProcess(f"{group}-{number}", self)
        process.on_death = lambda: self._restart(process, group, number)
        processes = self.processes[group]
        processes[number:] = [process, *processes[number + 1 :]]
        self.trace(process.name, "starts")

    def _restart(self, process: AppProcess, group: str, number: int) -> None:
        self.findings.counts["kills"] += 1
        self._dead.append(process)
        self.trace(process.name, "dies")
        self.loop.call_later(process.down, self._start_process, group, number)

    def _kill(self, kill: Kill) -> None:
        process = self.pick_process(kill.group)
        if process is not None:
            process.down = kill.down
            if kill.by_steps:
                self.loop.after_steps(kill.number, process.kill)
            else:
                process.kill_at_request(kill.number, after_effect=kill.after_effect)
            self.loop.call_later(MAX_KILL_DELAY, process.kill)

    async def _run_timer(self) -> None:
        """Tick as a timer of Azure: every 15 minutes, without overlap, and once past due after a restart."""
        due = TICK
        while True:
            await asyncio.sleep(due - self.loop.time() + self.random.random())
            if pause := self.schedule.timer_paused.at(self.loop.time()):
                self.trace("timer", "stands still until", _at(pause.end))
                await asyncio.sleep(pause.end - self.loop.time())
                if self.random.random() < 0.5:
                    due = (self.loop.time() // TICK + 1) * TICK
                    continue
            if self.schedule.timer_doubled.at(self.loop.time()):
                self.spawn(self._tick_again())
            while not (  # noqa: ASYNC110 - there is no event
                (process := self.pick_process("timer")) and await self._tick(process)
            ):
                await asyncio.sleep(1)  # the next process finds the tick past due
            due = max(due + TICK, self.loop.time() // TICK * TICK)

    async def _tick_again(self) -> None:
        await asyncio.sleep(self.random.random() * 90)
        await self._tick(AppProcess("timer-x", self))

    async def _tick(self, process: AppProcess) -> bool:
        """Sweep by the timer. False if the process died during the sweep."""
        self.trace(process.name, "ticks")
        sweep = process.keeper.sweep("timer", unless_younger_than=TIMING.sweep_fresh_for)
        return await self.run_function(process, sweep)

    async def _handle_message(self, process: Process, message: WakeUp) -> None:
        app = cast("AppProcess", process)
        await self.limit(app, app.keeper.handle(message))

    async def limit(self, process: Process, work: Coroutine[Any, Any, object]) -> None:
        """Run the work of a function, after five minutes of which the host kills the process."""
        limit = self.loop.call_later(FUNCTION_TIMEOUT, self._time_out, process)
        try:
            await work
        finally:
            limit.cancel()

    def _time_out(self, process: Process) -> None:
        if process.alive:
            self.checker.on_function_timeout(process.name)
        process.kill()

    def _check_queue(self) -> None:
        watchdogs = sum('"due":"' in message.text for message in self.queue.waiting)
        self.checker.check_queue(watchdogs, len(self.queue.waiting))


def _at(seconds: float) -> str:
    return f"{START + timedelta(seconds=seconds):%d %H:%M:%S.%f}"[:-3]
