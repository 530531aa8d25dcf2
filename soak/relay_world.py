"""The relay of one run: its parts in each process, its queue and its minute timer, and an operator who enables bots."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Protocol

from shared.api.continuation_tokens import ContinuationSigner
from shared.api.deliveries import Deliveries
from shared.api.records import Records
from shared.domain.leases import Timing
from shared.errors import CallKeeperError
from shared.relay.breaker import Destinations
from shared.relay.care import OutboxCare
from shared.relay.deliverer import Deliverer
from shared.relay.outbox import OutboxPlanner
from shared.relay.passthrough import PassThrough
from shared.relay.reopening import Reopening
from shared.relay.schedule import Schedule
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.outbox import OutboxStore
from shared.storage.relay_queue import RelayMessage, parse_relay_message
from shared.storage.store import CallStore
from shared.storage.table import Table
from soak.apps import APPS
from soak.checker import Findings
from soak.graph_posts import GraphPosts
from soak.intervals import MINUTE
from soak.process import Environment, Process, ProcessDied, SkewedClock
from soak.relay_checker import RelayChecker
from soak.relay_faults import RelaySchedule
from soak.virtual_bots import TARGETS, ProcessSender, ProcessTokens, VirtualBots
from soak.virtual_queue import ProcessQueue, QueueFaults, VirtualQueue

BUDGET, SYNC_BUDGET = timedelta(seconds=1.5), timedelta(seconds=10)  # RELAY_BUDGET, RELAY_SYNC_BUDGET
BODY_RETENTION = timedelta(days=7)  # RELAY_BODY_RETENTION


@dataclass(frozen=True)
class RelayParts:
    """The relay in one process, built as in `shared/services.py`."""

    planner: OutboxPlanner
    outbox: OutboxStore
    destinations: Destinations
    deliverer: Deliverer
    queue: BestEffortQueue[RelayMessage]
    care: OutboxCare
    operator: Deliveries

    def pass_through(self, store: CallStore) -> PassThrough:
        """Return the pass-through of the webhook."""
        return PassThrough(self.deliverer, TARGETS, store, BUDGET, SYNC_BUDGET)


class Host(Protocol):
    """The host of the processes."""

    environment: Environment

    def pick_process(self, group: str) -> Process | None:
        """Return a process of a group that is alive, None if all are dead."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside everything else."""
        ...

    async def run_function(self, process: Process, work: Coroutine[Any, Any, object]) -> bool:
        """Run a function in a process. False if the process died."""
        ...

    async def limit(self, process: Process, work: Coroutine[Any, Any, object]) -> None:
        """Run the work of a function, after five minutes of which the host kills the process."""
        ...


class RelayWorld:
    """The relay of one run, beside the world of the keeper."""

    def __init__(self, host: Host, findings: Findings, seed: int, schedule: RelaySchedule) -> None:
        environment = host.environment
        self._host = host
        self._loop = environment.loop
        self._environment = environment
        self._parts: dict[Process, RelayParts] = {}
        self._schedule = schedule
        self.checker = RelayChecker(findings, environment.schedule, self._loop.time, environment.trace)
        self.bots = VirtualBots(environment, schedule, seed, self.checker)
        self.posts = GraphPosts(seed, schedule, self.checker, self._loop.time)
        faults = QueueFaults(schedule.queue_loses, schedule.queue_stalls, schedule.queue_duplicates)
        self.queue: VirtualQueue[RelayMessage] = VirtualQueue(
            environment, faults, parse_relay_message, lambda: host.pick_process("relay"), host.spawn
        )
        self.queue.handle = self._handle_message
        self._random = Random(f"{seed}/relay/chance")

    def connect(self, process: Process, table: Table, clock: SkewedClock, timing: Timing) -> RelayParts:
        """Return the relay of a new process."""
        outbox = OutboxStore(table)
        queue = BestEffortQueue(ProcessQueue(self.queue, process, self._environment), clock, timing)
        schedule = Schedule(timing, self._random)
        destinations = Destinations(outbox, clock, schedule)
        deliverer = Deliverer(
            outbox,
            TARGETS,
            destinations,
            ProcessSender(self.bots, process),
            ProcessTokens(self._schedule, process),
            queue,
            clock,
            schedule,
        )
        planner = OutboxPlanner(TARGETS, APPS, destinations, queue, clock)
        care = OutboxCare(deliverer, outbox, clock, BODY_RETENTION)
        calls = CallStore(table)
        records = Records(calls, clock, timing, ContinuationSigner(calls))
        reopening = Reopening(outbox, destinations, clock)
        operator = Deliveries(records, outbox, reopening, destinations, TARGETS, queue, APPS, BODY_RETENTION)
        parts = RelayParts(planner, outbox, destinations, deliverer, queue, care, operator)
        self._parts[process] = parts
        return parts

    def start(self) -> None:
        """Start the minute timer, and the operator who enables targets."""
        self._host.spawn(self._run_timer())
        for at, target in self._schedule.enables:
            self._loop.call_at(at, self._spawn_enabling, target)

    async def _run_timer(self) -> None:
        """Run the care of the outbox each minute, without overlap, as `relay_timer` does."""
        host, now, due = self._host, self._loop.time, 1.5 * MINUTE
        while True:
            await asyncio.sleep(max(due - now(), 0) + self._random.random())
            due = (now() // MINUTE + 1.5) * MINUTE
            process = host.pick_process("relay_timer")
            if process is None or self._schedule.timer_paused.at(now()):
                continue
            await host.run_function(process, self._parts[process].care.run())

    async def _handle_message(self, process: Process, message: RelayMessage) -> None:
        await self._host.limit(process, self._parts[process].deliverer.handle(message))

    def _spawn_enabling(self, target: str) -> None:
        self._host.spawn(self._enable(target))

    async def _enable(self, target: str) -> None:
        """Enable a target, as an operator does: again and again until it succeeds."""
        while True:
            app = self._host.pick_process("http")
            if app is not None:
                try:
                    await app.run(self._parts[app].operator.enable(target))
                except (ProcessDied, CallKeeperError) as error:
                    self._environment.trace(app.name, "does not enable", target, type(error).__name__)
                else:
                    self._environment.trace(app.name, "enables", target)
                    return
            await asyncio.sleep(20)
