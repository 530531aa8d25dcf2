"""The dead man's switch: a delayed queue message that starts a sweep of all shards if the timer has stopped.

Each sweep arms it as it begins, so that the sweep may die anywhere. One row, `WatchdogState`, names the last message:
an earlier one is a leftover, so there is one chain of messages however many sweeps there are.
"""

from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.domain.leases import WatchdogState
from shared.errors import StoreUnavailable, safe_message
from shared.keeping.renewal_pass import SweepConfig
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import CallStore
from shared.storage.wakeup_queue import Sweep

FUNCTION_TIMEOUT = timedelta(minutes=5)  # host.json: functionTimeout


class Watchdog:
    """Arms the dead man's switch, and knows whether another sweep of all shards makes a message superfluous."""

    def __init__(self, store: CallStore, queue: BestEffortQueue, clock: Clock, config: SweepConfig) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._config = config
        self._armed_at: datetime | None = None  # when this process last sent the message
        self._due = clock.now()  # when that message becomes visible

    @property
    def has_successor(self) -> bool:
        """True if a message that this process sent is still to come."""
        return self._clock.now() < self._due

    async def arm(self, delay: timedelta, sweep_began_at: datetime | None) -> bool:
        """Send the message that comes after `delay`, unless this process sent one less than 3 minutes ago.

        The message is sent before the row is written: if the write fails there are two messages, which is better than
        none.

        Parameters
        ----------
        delay
            The time until the message becomes visible.
        sweep_began_at
            The start of the last sweep of all shards, for the row.

        Returns
        -------
        bool
            True if a message is on the queue now.
        """
        now = self._clock.now()
        due = now + delay
        if self._armed_at and now - self._armed_at < self._config.timing.sweep_fresh_for and now < self._due:
            return True
        if not await self._queue.send(Sweep(wake_up="watchdog", due=due), delay):
            return False
        self._armed_at, self._due = now, due
        try:
            await self._store.put_watchdog_state(WatchdogState(due, sweep_began_at))
        except StoreUnavailable as error:
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
        return True

    async def is_armed(self, now: datetime) -> bool:
        """True if, by the row, a message of any process is on the queue.

        An operator's sweep asks, so that its repetition leaves no further messages.
        """
        try:
            last = await self._store.get_watchdog_state()
        except StoreUnavailable:
            return False
        return last is not None and now < last.due <= now + self._config.timing.sweep_stale_after

    async def claim_sweep(self) -> bool:
        """Record in the row that a sweep begins that no message asked for.

        The queue may be away, so the row alone tells other processes of the sweep.

        Returns
        -------
        bool
            False if another sweep of all shards is under way: then nothing is written.

        Raises
        ------
        StoreUnavailable
            The row could not be read or written.
        """
        now, last = self._clock.now(), await self._store.get_watchdog_state()
        if last and self.is_superfluous(Sweep(wake_up="request"), last):
            return False
        await self._store.put_watchdog_state(WatchdogState(last.due if last else now, now))
        return True

    def is_superfluous(self, message: Sweep, last: WatchdogState) -> bool:
        """True if a message to sweep all shards has nothing to do.

        A dead man's switch is superfluous if a later one was sent. A request's message is superfluous while a sweep is
        under way. Its watermarks are stale until it ends, so requests notice them again and again. Without this rule
        sweeps would pile up and slow each other down just when there is much to do.
        """
        if message.due:
            return message.due < last.due
        if last.sweep_began_at is None:
            return False
        under_way = min(self._config.budget, self._config.timing.scaled(FUNCTION_TIMEOUT))
        return -self._config.timing.max_clock_skew <= self._clock.now() - last.sweep_began_at < under_way
