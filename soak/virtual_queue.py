"""The virtual queue with the host's listener: delivers messages at least once, in any order, at most five times."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.storage import wakeup_queue
from shared.storage.wakeup_queue import Message as StoredMessage
from shared.storage.wakeup_queue import WakeUp
from soak.fault_schedule import MAX_REDELIVERY
from soak.intervals import Intervals
from soak.process import Environment, Process, ProcessDied
from soak.virtual_storage import through, trouble

MAX_POLLING_INTERVAL = 10.0  # seconds, host.json: maxPollingInterval
VISIBILITY_TIMEOUT = 30.0  # seconds, host.json: visibilityTimeout
MAX_DEQUEUE_COUNT = 5  # host.json: maxDequeueCount
MAX_CONCURRENT = 4  # messages of a process, host.json: batchSize + newBatchThreshold
MAX_LOST = 400  # messages of a run


@dataclass(slots=True, eq=False)
class Message:
    """A message on the queue."""

    text: str
    dequeue_count: int = 0


@dataclass(frozen=True, slots=True)
class QueueFaults:
    """The times in which a queue loses half of its messages, delivers none, or delivers some twice."""

    loses: Intervals
    stalls: Intervals
    duplicates: Intervals


class VirtualQueue[M: StoredMessage = WakeUp]:
    """A queue, and the host that delivers its messages to the processes of one group.

    Parameters
    ----------
    environment
        Loop, faults, random numbers and trace of the run.
    faults
        The faults of this queue. Outages of the storage account strike it too.
    parse
        Returns the message of a text.
    pick_process
        Returns a process that is alive, None if there is none.
    spawn
        Runs a coroutine beside everything else.
    """

    def __init__(
        self,
        environment: Environment,
        faults: QueueFaults,
        parse: Callable[[str], M],
        pick_process: Callable[[], Process | None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._loop = environment.loop
        self._schedule = environment.schedule
        self._faults = faults
        self._parse = parse
        self._random = environment.random
        self._trace = environment.trace
        self._pick_process = pick_process
        self._spawn = spawn
        self.waiting: dict[Message, None] = {}
        self.lost = 0
        self.poisoned = 0
        self.sent = 0
        self.handle: Callable[[Process, M], Coroutine[Any, Any, None]] | None = None
        self.on_put: Callable[[], None] = lambda: None
        self._running: dict[Process, int] = {}

    def put(self, text: str, delay: float) -> None:
        """Accept a message that becomes visible after `delay` seconds; lose or duplicate it by the fault schedule."""
        now = self._loop.time()
        self.sent += 1
        if self._faults.loses.at(now) and self.lost < MAX_LOST and self._random.random() < 0.5:
            self.lost += 1
            self._trace("queue", "loses", text)
            return
        twice = bool(self._faults.duplicates.at(now)) and self._random.random() < 0.3
        lifetime = wakeup_queue.MESSAGE_LIFETIME.total_seconds()
        for _ in range(1 + twice):
            message = Message(text)
            self.waiting[message] = None
            self._deliver_after(message, delay)
            self._loop.call_later(delay + lifetime, self.waiting.pop, message, None)
        self.on_put()

    def _deliver_after(self, message: Message, delay: float) -> None:
        self._loop.call_later(delay + self._random.random() * MAX_POLLING_INTERVAL, self._deliver, message)

    def _deliver(self, message: Message) -> None:
        if message not in self.waiting:  # it has expired
            return
        now = self._loop.time()
        fault = self._faults.stalls.at(now) or trouble(self._schedule, "queues", now)
        if fault and (fault.mode not in {"flaky", "slow"} or self._random.random() < 0.5):
            self._deliver_after(message, MAX_POLLING_INTERVAL if fault.mode in {"flaky", "slow"} else fault.end - now)
            return
        process = self._pick_process()
        if process is None or self._running.get(process, 0) >= MAX_CONCURRENT:
            self._loop.call_later(1 + self._random.random() * 5, self._deliver, message)
            return
        self._spawn(self._run_function(message, process))

    async def _run_function(self, message: Message, process: Process) -> None:
        message.dequeue_count += 1
        self._running[process] = self._running.get(process, 0) + 1
        try:
            assert self.handle is not None  # noqa: S101 - the world sets it
            self._trace(process.name, "takes", message.text)
            await process.run(self.handle(process, self._parse(message.text)))
        except ProcessDied:
            latest = MAX_REDELIVERY - MAX_POLLING_INTERVAL
            self._deliver_after(message, self._random.uniform(VISIBILITY_TIMEOUT, latest))
            return
        except Exception as error:  # noqa: BLE001 - the host counts the failure and delivers the message again
            self._fail(message, error)
            return
        finally:
            self._running[process] -= 1
        if trouble(self._schedule, "queues", self._loop.time()) and self._random.random() < 0.5:
            self._deliver_after(message, VISIBILITY_TIMEOUT)  # it was handled, but could not be deleted
            return
        self.waiting.pop(message, None)

    def _fail(self, message: Message, error: Exception) -> None:
        self._trace("host", "fails", f"{message.text} {type(error).__name__}: {error}")
        if message.dequeue_count >= MAX_DEQUEUE_COUNT:
            self.poisoned += 1
            self.waiting.pop(message, None)
            self._trace("host", "poisons", message.text)
        else:
            self._deliver_after(message, VISIBILITY_TIMEOUT)


class ProcessQueue[M: StoredMessage = WakeUp]:
    """A queue as one process reaches it. Replaces the product's queue client."""

    def __init__(self, queue: VirtualQueue[M], process: Process, environment: Environment) -> None:
        self._queue = queue
        self._process = process
        self._schedule = environment.schedule
        self._random = environment.random

    async def send(self, message: M, delay: timedelta = timedelta()) -> None:
        """Send a message that becomes visible after `delay`, rounded up to whole seconds."""
        seconds = -(-delay // timedelta(seconds=1))
        fault = trouble(self._schedule, "queues", self._process.now())
        await through(
            self._process, fault, self._random, lambda: self._queue.put(message.model_dump_json(), float(seconds))
        )
