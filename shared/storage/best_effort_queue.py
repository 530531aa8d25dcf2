"""Sends messages without failing: if the queue does not take one, the next sweep does its work."""

from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import Timing
from shared.errors import StoreUnavailable
from shared.storage.wakeup_queue import Message, MessageQueue, WakeUp

MAX_PUT_BACKS = 14  # after 1, 2, 4, 8, 8, … minutes: 95 minutes in all, which is more than two leases


class BestEffortQueue[M: Message = WakeUp]:
    """A queue with a circuit breaker: after a failure it sends nothing for half a minute.

    A send to a queue that is away takes up to ten seconds, and requests and sweeps wait for it.
    One instance serves a whole process, so that one caller's failure spares the others the wait.
    """

    def __init__(self, queue: MessageQueue[M], clock: Clock, timing: Timing) -> None:
        self._queue = queue
        self._clock = clock
        self._timing = timing
        self._open_until: datetime | None = None  # the circuit breaker is open until then

    async def send(self, message: M, delay: timedelta = timedelta()) -> bool:
        """Send a message that becomes visible after `delay`. A failure is logged, not raised.

        Returns
        -------
        bool
            True if the queue took the message. False if it did not, or if the circuit breaker is open.
        """
        now = self._clock.now()
        if self._open_until and now < self._open_until:
            return False
        try:
            await self._queue.send(message, delay)
        except StoreUnavailable as error:
            self._open_until = self._clock.now() + self._timing.minute / 2
            telemetry.QUEUE_FAILED(kind=message.kind, error=str(error))
            return False
        return True

    async def send_or_raise(self, message: M, delay: timedelta) -> None:
        """Send a message that must not be lost. The circuit breaker does not apply.

        Raises
        ------
        StoreUnavailable
            The queue did not take the message.
        """
        await self._queue.send(message, delay)

    async def put_back(self, message: M) -> None:
        """Send a message again that could not be handled, with a longer delay each time.

        After `MAX_PUT_BACKS` times the message is dropped, and the sweeps do its work.

        Raises
        ------
        StoreUnavailable
            The queue did not take the message.
        """
        if message.put_back >= MAX_PUT_BACKS:
            telemetry.QUEUE_FAILED(kind=message.kind, error="put back too often; the sweeps do its work")
            return
        again = message.model_copy(update={"put_back": message.put_back + 1})
        await self._queue.send(again, self._timing.retry_delay(again.put_back, self._timing.lease))
