"""Deletes ended calls after their retention."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from shared import telemetry
from shared.clock import Clock
from shared.errors import StoreUnavailable, safe_message
from shared.storage.store import CallStore

MAX_PURGE_BATCH = 1_000  # calls that are deleted before the next are read
PURGE_INTERVAL = timedelta(hours=1)  # between two purges of a shard by the same process
MAX_PURGE_TIME = timedelta(seconds=30)  # in one sweep; the next sweep deletes the rest


class Purger:
    """Deletes calls that ended longer ago than the retention, each shard at most once an hour."""

    def __init__(self, store: CallStore, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._next_at: dict[int, datetime] = {}  # by shard

    async def purge(self, shards: Iterable[int], deadline: datetime) -> int:
        """Purge the shards that are due, concurrently, until `deadline` and for at most 30 seconds.

        A failure is logged: the next sweep tries again.

        Returns
        -------
        int
            The number of calls that were deleted.
        """
        purged, now = 0, self._clock.now()
        until = min(deadline, now + MAX_PURGE_TIME)

        async def purge(shard: int) -> None:
            nonlocal purged
            try:
                while self._clock.now() < until:
                    count = await self._store.purge(shard, now - self._retention, MAX_PURGE_BATCH)
                    purged += count
                    if count < MAX_PURGE_BATCH:
                        self._next_at[shard] = now + PURGE_INTERVAL
                        return
            except StoreUnavailable as error:
                telemetry.PURGE_FAILED(shard=shard, error=safe_message(error))

        with suppress(TimeoutError):  # a batch is many requests, and each may be slow
            async with asyncio.timeout(max((until - now).total_seconds(), 0)), asyncio.TaskGroup() as group:
                for shard in shards:
                    if self._next_at.get(shard, now) <= now:
                        group.create_task(purge(shard))
        return purged
