"""The queue and the host's listener: at least once, in no order, five times at most."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shared.storage import wakeup_queue
from shared.storage.wakeup_queue import WakeUp, parse_wake_up
from soak.fault_schedule import BACK
from soak.process import Died, Process, Scene
from soak.virtual_storage import through, trouble

POLLING = 10.0  # seconds, host.json: maxPollingInterval
AGAIN = 30.0  # seconds, host.json: visibilityTimeout
MOST_DEQUEUED = 5  # host.json: maxDequeueCount
AT_ONCE = 4  # host.json: batchSize + newBatchThreshold
MOST_LOST = 400  # messages of a life


@dataclass(slots=True, eq=False)
class Letter:
    """A message on the queue."""

    text: str
    taken: int = 0


class Post:
    """The queue, and the host that hands its messages to the processes of the group `queue`."""

    def __init__(
        self,
        scene: Scene,
        pick: Callable[[], Process | None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._loop = scene.loop
        self._weather = scene.weather
        self._random = scene.random
        self._tell = scene.tell
        self._pick = pick
        self._spawn = spawn
        self.waiting: dict[Letter, None] = {}
        self.lost = 0
        self.poisoned = 0
        self.sent = 0
        self.handle: Callable[[Process, WakeUp], Coroutine[Any, Any, None]] | None = None
        self.on_put: Callable[[], None] = lambda: None
        self._in_hand: dict[Process, int] = {}

    def put(self, text: str, delay: float) -> None:
        """Take a message; lose it, or take it twice, if these are such times."""
        now = self._loop.time()
        self.sent += 1
        if self._weather.queue_loses.at(now) and self.lost < MOST_LOST and self._random.random() < 0.5:
            self.lost += 1
            self._tell("queue", "loses", text)
            return
        twice = bool(self._weather.queue_doubles.at(now)) and self._random.random() < 0.3
        for _ in range(1 + twice):
            letter = Letter(text)
            self.waiting[letter] = None
            self._show(letter, delay)
            self._loop.call_later(delay + wakeup_queue.MESSAGE_LIFETIME.total_seconds(), self.waiting.pop, letter, None)
        self.on_put()

    def _show(self, letter: Letter, delay: float) -> None:
        self._loop.call_later(delay + self._random.random() * POLLING, self._deliver, letter)

    def _deliver(self, letter: Letter) -> None:
        if letter not in self.waiting:  # its time is over
            return
        now = self._loop.time()
        away = self._weather.queue_stands.at(now) or trouble(self._weather, "queues", now)
        if away and (away.mode not in {"flaky", "slow"} or self._random.random() < 0.5):
            self._show(letter, POLLING if away.mode in {"flaky", "slow"} else away.end - now)
            return
        process = self._pick()
        if process is None or self._in_hand.get(process, 0) >= AT_ONCE:
            self._loop.call_later(1 + self._random.random() * 5, self._deliver, letter)
            return
        self._spawn(self._hand(letter, process))

    async def _hand(self, letter: Letter, process: Process) -> None:
        letter.taken += 1
        self._in_hand[process] = self._in_hand.get(process, 0) + 1
        try:
            assert self.handle is not None  # noqa: S101 the world sets it
            self._tell(process.name, "takes", letter.text)
            await process.work(self.handle(process, parse_wake_up(letter.text)))
        except Died:
            self._show(letter, self._random.uniform(AGAIN, BACK - POLLING))
            return
        except Exception as error:  # noqa: BLE001 (the host counts, and shows it again)
            self._failed(letter, error)
            return
        finally:
            self._in_hand[process] -= 1
        if trouble(self._weather, "queues", self._loop.time()) and self._random.random() < 0.5:
            self._show(letter, AGAIN)  # it was done, but could not be deleted
            return
        self.waiting.pop(letter, None)

    def _failed(self, letter: Letter, error: Exception) -> None:
        self._tell("host", "fails", f"{letter.text} {type(error).__name__}: {error}")
        if letter.taken >= MOST_DEQUEUED:
            self.poisoned += 1
            self.waiting.pop(letter, None)
            self._tell("host", "poisons", letter.text)
        else:
            self._show(letter, AGAIN)


class PostOf:
    """The queue as one process reaches it."""

    def __init__(self, post: Post, process: Process, scene: Scene) -> None:
        self._post = post
        self._process = process
        self._weather = scene.weather
        self._random = scene.random

    async def send(self, message: WakeUp, delay: timedelta = timedelta()) -> None:
        """Leave a message; whole seconds, rounded up."""
        seconds = -(-delay // timedelta(seconds=1))
        span = trouble(self._weather, "queues", self._process.now())
        await through(
            self._process, span, self._random, lambda: self._post.put(message.model_dump_json(), float(seconds))
        )
