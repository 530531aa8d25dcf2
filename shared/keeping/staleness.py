"""The check by requests: it finds a stale shard, queues a sweep, and sweeps itself if the queue is stalled too."""

import asyncio
from datetime import datetime, timedelta
from itertools import count

from shared import telemetry
from shared.clock import Clock
from shared.errors import safe_message
from shared.keeping.keeper import Keeper
from shared.keeping.renewal_pass import SweepConfig
from shared.keeping.watermarks import time_until_stale
from shared.storage.best_effort_queue import BestEffortQueue
from shared.storage.store import SHARDS, CallStore
from shared.storage.wakeup_queue import Sweep

QUEUE_STALL_AFTER = timedelta(minutes=5)  # if shards are stale for longer, queue messages are not handled
MAX_CHECK_TIME = timedelta(seconds=2)  # a request waits for it


class StalenessCheck:
    """Checks after requests whether sweeps still happen: the third wake-up, beside timer and queue."""

    def __init__(
        self, store: CallStore, keeper: Keeper, queue: BestEffortQueue, clock: Clock, config: SweepConfig
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._queue = queue
        self._clock = clock
        self._config = config
        self._next_check_at: datetime | None = None
        self._checks = count()
        self._stale_since: datetime | None = None  # since when each check found a stale shard
        self._background_sweep: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Check, at most once a minute per process, whether one shard is stale, and queue a sweep if so.

        If shards have been stale for 5 minutes the queue is stalled too, so start a sweep in this process. Called after
        the response is ready: never raises, and gives up after 2 seconds.
        """
        now = self._clock.now()
        if self._next_check_at and now < self._next_check_at:
            return
        self._next_check_at = now + self._config.timing.minute
        try:
            async with asyncio.timeout(MAX_CHECK_TIME.total_seconds()):
                watermark = await self._store.get_watermark(next(self._checks) % SHARDS)
                stale_in = time_until_stale(watermark, self._clock.now(), self._config.timing)
                if self._is_queue_stalled(now, stale_in):
                    self._start_background_sweep()
                if stale_in <= timedelta():
                    await self._queue.send(Sweep(wake_up="request"))
        except Exception as error:  # noqa: BLE001 (the response must be sent, whatever fails here)
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))

    def _is_queue_stalled(self, now: datetime, stale_in: timedelta) -> bool:
        """True if shards have been stale for so long that messages do not help.

        The watermark tells for how long. A shard that was never swept has none, so count from the first check too.
        """
        if stale_in > timedelta():
            self._stale_since = None
            return False
        self._stale_since = self._stale_since or now
        return max(-stale_in, now - self._stale_since) >= self._config.timing.scaled(QUEUE_STALL_AFTER)

    def _start_background_sweep(self) -> None:
        """Sweep concurrently with the requests of this process, one sweep at a time."""
        if self._background_sweep is None or self._background_sweep.done():
            self._background_sweep = asyncio.create_task(self._sweep_unless_under_way())

    async def _sweep_unless_under_way(self) -> None:
        """Sweep because timer and queue are both stalled.

        The watchdog row, not a message, tells other processes that this one is doing it.
        """
        try:
            if await self._keeper.watchdog.claim_sweep():
                fresh_for = self._config.timing.sweep_fresh_for
                await self._keeper.sweep("request", unless_younger_than=fresh_for, without_queue=True)
        except Exception as error:  # noqa: BLE001 (nothing awaits this task: the next request checks again)
            telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
