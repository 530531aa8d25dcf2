"""Queue triggers: messages hidden while they are processed, deleted, tried again, or moved to `<queue>-poison`."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from uuid import uuid4

from azure.core.exceptions import AzureError
from azure.storage.queue import QueueMessage
from azure_functions_runtime.bindings.datumdef import Datum

from local.host.errors import HostError
from local.host.functions import Function
from local.host.storage import Queues, UndecodableError, create, put, why
from local.host.worker import Worker

logger = logging.getLogger("local.host")

HIDDEN = 10  # seconds that a message stays hidden when its host has died. Azure: 600, too long to watch
_RENEW = HIDDEN / 3
_SHORTEST_POLL = 0.1
_LONGEST_POLL = 1.0
_LONGEST_OUTAGE_POLL = 5.0
_LIFETIME = timedelta(days=7)  # of a message, unless its sender says otherwise

# Errors of the connection reach us as they are when they come up while a response is read.
_STORAGE_ERRORS = (AzureError, OSError, TimeoutError)


class _Verdict(Enum):
    """What becomes of a message."""

    DONE = auto()
    AGAIN = auto()
    POISON = auto()


class QueueListener:
    """Polls one queue and calls its function for each message."""

    def __init__(self, function: Function, worker: Worker, queues: Queues) -> None:
        self._function = function
        self._worker = worker
        self._queues = queues
        self._options = queues.options
        self._queue = queues.client(function.trigger, function=function.name)
        self._poison = queues.client(function.trigger, function=function.name, suffix="-poison")
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    @property
    def name(self) -> str:
        """The function's name."""
        return self._function.name

    async def prepare(self) -> None:
        """Create the queue if it is missing.

        Raises
        ------
        HostError
            The storage does not answer, or refuses.
        """
        try:
            await create(self._queue)
        except _STORAGE_ERRORS as error:
            setting = self._function.trigger.connection
            raise HostError(
                f"function {self.name}: no queue {self._queue.queue_name} at {self._queue.primary_hostname}:"
                f" start Azurite, or correct the setting {setting} ({why(error)})"
            ) from error

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until the host stops; what is being processed then is finished first."""
        try:
            await self._poll(stopping)
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in self._running:  # our time is up: their messages show again by themselves
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def run_by_hand(self, text: str) -> None:
        """Call the function with a message that is in no queue."""
        now = datetime.now(UTC)
        message = QueueMessage(id=str(uuid4()), dequeue_count=1, inserted_on=now, expires_on=now + _LIFETIME)
        await self._worker.invoke(self._function, Datum(text, "string"), _metadata(message))

    async def _poll(self, stopping: asyncio.Event) -> None:
        pause, reachable = 0.0, True
        while not await _wait(stopping, pause):
            try:
                if not reachable:
                    await create(self._queue)  # a storage in memory comes back empty
                found = await self._fetch()
            except _STORAGE_ERRORS as error:
                if reachable:
                    logger.warning("queue.unreachable", extra={"queue": self._queue.queue_name, "error": why(error)})
                reachable, pause = False, _longer(pause, _LONGEST_OUTAGE_POLL)
                continue
            if not reachable:
                logger.info("queue.reachable", extra={"queue": self._queue.queue_name})
            reachable, pause = True, 0.0 if found else _longer(pause, self._longest_poll)
            await self._wait_for_room(stopping)

    @property
    def _longest_poll(self) -> float:
        return min(_LONGEST_POLL, self._options.max_polling_interval.total_seconds())

    async def _fetch(self) -> int:
        pages = self._queue.receive_messages(
            messages_per_page=self._options.batch_size, visibility_timeout=HIDDEN
        ).by_page()
        page = await anext(pages, None)
        found = [message async for message in page] if page else []
        for message in found:
            task = asyncio.create_task(self._process(message))
            self._running.add(task)
            task.add_done_callback(self._done)
        return len(found)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._freed.set()

    async def _wait_for_room(self, stopping: asyncio.Event) -> None:
        """Until no more than `newBatchThreshold` are still running."""
        while len(self._running) > self._options.threshold and not stopping.is_set():
            self._freed.clear()
            await _wait(self._freed, _LONGEST_POLL)

    async def _process(self, message: QueueMessage) -> None:
        try:
            match await self._verdict(message):
                case _Verdict.DONE:
                    await self._queue.delete_message(message)
                case _Verdict.AGAIN:
                    await self._hide(message, int(self._options.visibility_timeout.total_seconds()))
                case _Verdict.POISON:
                    await self._move_to_poison(message)
        except _STORAGE_ERRORS as error:  # it comes back when it is no longer hidden
            logger.warning("queue.message.not_settled", extra={"function": self.name, "error": why(error)})

    async def _verdict(self, message: QueueMessage) -> _Verdict:
        attempt, last = message.dequeue_count or 1, self._options.max_dequeue_count
        if attempt > last:  # its host died with it each time
            return _Verdict.POISON
        try:
            value = self._queues.decoded(message.content)
        except UndecodableError as error:
            logger.warning("queue.message.undecodable", extra={"function": self.name, "error": error})
            return _Verdict.POISON
        if await self._succeeds(message, value):
            return _Verdict.DONE
        return _Verdict.AGAIN if attempt < last else _Verdict.POISON

    async def _succeeds(self, message: QueueMessage, value: Datum) -> bool:
        """Call the function, with the message hidden for as long as it takes."""
        done = asyncio.Event()
        hiding = asyncio.create_task(self._keep_hidden(message, done))
        try:
            outcome = await self._worker.invoke(self._function, value, _metadata(message))
        finally:
            done.set()
            await hiding  # not cancelled: an update under way changes the receipt that the deletion needs
        return outcome.error is None

    async def _keep_hidden(self, message: QueueMessage, done: asyncio.Event) -> None:
        while not await _wait(done, _RENEW):
            try:
                await self._hide(message, HIDDEN)
            except _STORAGE_ERRORS as error:
                logger.warning("queue.message.not_renewed", extra={"function": self.name, "error": why(error)})

    async def _hide(self, message: QueueMessage, seconds: int) -> None:
        updated = await self._queue.update_message(message, visibility_timeout=seconds)
        message.pop_receipt = updated.pop_receipt

    async def _move_to_poison(self, message: QueueMessage) -> None:
        await put(self._poison, message.content)
        await self._queue.delete_message(message)
        logger.error(
            "queue.message.poisoned",
            extra={"function": self.name, "queue": self._poison.queue_name, "dequeue_count": message.dequeue_count},
        )


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait so long at most; whether the event is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def _longer(seconds: float, longest: float) -> float:
    return min(longest, max(_SHORTEST_POLL, seconds * 2))


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    """What the host tells of a message beside its body (Learn: queue trigger, message metadata)."""
    times = {
        "InsertionTime": message.inserted_on,
        "ExpirationTime": message.expires_on,
        "NextVisibleTime": message.next_visible_on,
    }
    texts = {
        "Id": message.id,
        "DequeueCount": str(message.dequeue_count),
        "PopReceipt": message.pop_receipt,
        **{name: time.isoformat() for name, time in times.items() if time},
    }
    return {name: Datum(text, "string") for name, text in texts.items() if text}
