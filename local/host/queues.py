"""Queue triggers: a message is hidden while it is processed, then deleted, retried, or moved to `<queue>-poison`."""

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
from local.host.storage import Queues, UndecodableError, create, first_line, put
from local.host.worker import Worker

logger = logging.getLogger("local.host")

# A message stays hidden that long after its host has died. Azure: 10 minutes, too long for a demo or a test.
VISIBILITY_TIMEOUT = timedelta(seconds=10)
_VISIBILITY_RENEWAL = VISIBILITY_TIMEOUT / 3
_MIN_POLL_INTERVAL = timedelta(seconds=0.1)
_MAX_POLL_INTERVAL = timedelta(seconds=1)
_MAX_OUTAGE_POLL_INTERVAL = timedelta(seconds=5)
_MESSAGE_LIFETIME = timedelta(days=7)  # Storage's default

# While a response is read, the SDK passes on errors of the connection unchanged.
_STORAGE_ERRORS = (AzureError, OSError, TimeoutError)


class _Disposition(Enum):
    """The action on a message after its invocation."""

    DELETE = auto()
    RETRY = auto()
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
        self._slot_freed = asyncio.Event()

    @property
    def name(self) -> str:
        """The function's name."""
        return self._function.name

    async def prepare(self) -> None:
        """Create the queue if it is missing.

        Raises
        ------
        HostError
            The storage does not answer, or refuses the request.
        """
        try:
            await create(self._queue)
        except _STORAGE_ERRORS as error:
            setting = self._function.trigger.connection
            raise HostError(
                f"function {self.name}: no queue {self._queue.queue_name} at {self._queue.primary_hostname}:"
                f" start Azurite, or correct the setting {setting} ({first_line(error)})"
            ) from error

    async def run(self, stopping: asyncio.Event) -> None:
        """Poll until the host stops, then finish the messages that are being processed."""
        try:
            await self._poll(stopping)
            if self._running:
                await asyncio.wait(self._running)
        finally:
            for task in self._running:  # the grace period is over; their messages become visible again by themselves
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def run_by_hand(self, text: str) -> None:
        """Call the function with a message that is not on a queue."""
        now = datetime.now(UTC)
        message = QueueMessage(id=str(uuid4()), dequeue_count=1, inserted_on=now, expires_on=now + _MESSAGE_LIFETIME)
        await self._worker.invoke(self._function, Datum(text, "string"), _metadata(message))

    async def _poll(self, stopping: asyncio.Event) -> None:
        pause, reachable = timedelta(), True
        while not await _wait(stopping, pause):
            try:
                if not reachable:
                    await create(self._queue)  # a restarted storage in memory is empty
                found = await self._fetch()
            except _STORAGE_ERRORS as error:
                if reachable:
                    logger.warning(
                        "queue.unreachable", extra={"queue": self._queue.queue_name, "error": first_line(error)}
                    )
                reachable, pause = False, _next_pause(pause, _MAX_OUTAGE_POLL_INTERVAL)
                continue
            if not reachable:
                logger.info("queue.reachable", extra={"queue": self._queue.queue_name})
            reachable, pause = True, timedelta() if found else _next_pause(pause, self._max_poll_interval)
            await self._wait_for_room(stopping)

    @property
    def _max_poll_interval(self) -> timedelta:
        return min(_MAX_POLL_INTERVAL, self._options.max_polling_interval)

    async def _fetch(self) -> int:
        pages = self._queue.receive_messages(
            messages_per_page=self._options.batch_size, visibility_timeout=int(VISIBILITY_TIMEOUT.total_seconds())
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
        self._slot_freed.set()

    async def _wait_for_room(self, stopping: asyncio.Event) -> None:
        """Wait until at most `newBatchThreshold` messages are being processed."""
        while len(self._running) > self._options.threshold and not stopping.is_set():
            self._slot_freed.clear()
            await _wait(self._slot_freed, _MAX_POLL_INTERVAL)

    async def _process(self, message: QueueMessage) -> None:
        try:
            match await self._disposition(message):
                case _Disposition.DELETE:
                    await self._queue.delete_message(message)
                case _Disposition.RETRY:
                    await self._hide(message, self._options.visibility_timeout)
                case _Disposition.POISON:
                    await self._move_to_poison(message)
        except _STORAGE_ERRORS as error:  # the message becomes visible again and is processed once more
            logger.warning("queue.message.not_settled", extra={"function": self.name, "error": first_line(error)})

    async def _disposition(self, message: QueueMessage) -> _Disposition:
        """Process the message, and return what to do with it."""
        attempt, max_attempts = message.dequeue_count or 1, self._options.max_dequeue_count
        if attempt > max_attempts:  # its host died each time before it decided
            return _Disposition.POISON
        try:
            value = self._queues.decoded(message.content)
        except UndecodableError as error:
            logger.warning("queue.message.undecodable", extra={"function": self.name, "error": error})
            return _Disposition.POISON
        if await self._succeeds(message, value):
            return _Disposition.DELETE
        return _Disposition.RETRY if attempt < max_attempts else _Disposition.POISON

    async def _succeeds(self, message: QueueMessage, value: Datum) -> bool:
        """Call the function and keep the message hidden meanwhile. True if the function succeeded."""
        done = asyncio.Event()
        hiding = asyncio.create_task(self._keep_hidden(message, done))
        try:
            outcome = await self._worker.invoke(self._function, value, _metadata(message))
        finally:
            done.set()
            await hiding  # not cancelled, because a pending update changes the receipt that the deletion needs
        return outcome.error is None

    async def _keep_hidden(self, message: QueueMessage, done: asyncio.Event) -> None:
        while not await _wait(done, _VISIBILITY_RENEWAL):
            try:
                await self._hide(message, VISIBILITY_TIMEOUT)
            except _STORAGE_ERRORS as error:
                logger.warning("queue.message.not_renewed", extra={"function": self.name, "error": first_line(error)})

    async def _hide(self, message: QueueMessage, duration: timedelta) -> None:
        updated = await self._queue.update_message(message, visibility_timeout=int(duration.total_seconds()))
        message.pop_receipt = updated.pop_receipt

    async def _move_to_poison(self, message: QueueMessage) -> None:
        await put(self._poison, message.content)
        await self._queue.delete_message(message)
        logger.error(
            "queue.message.poisoned",
            extra={"function": self.name, "queue": self._poison.queue_name, "dequeue_count": message.dequeue_count},
        )


async def _wait(event: asyncio.Event, max_wait: timedelta) -> bool:
    """Wait for the event, at most for `max_wait`. True if it is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max_wait.total_seconds())
    return event.is_set()


def _next_pause(pause: timedelta, max_pause: timedelta) -> timedelta:
    """Return twice the pause, within the limits."""
    return min(max_pause, max(_MIN_POLL_INTERVAL, pause * 2))


def _metadata(message: QueueMessage) -> dict[str, Datum]:
    """Return the trigger metadata of a message (Microsoft Learn: queue trigger, message metadata)."""
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
