"""Reads watermarks, and calculates when their shards become stale."""

import asyncio
from datetime import datetime, timedelta

from shared import telemetry
from shared.domain.leases import Timing, Watermark, credible
from shared.errors import safe_message
from shared.storage.store import SHARDS, CallStore


def time_until_stale(watermark: Watermark | None, now: datetime, timing: Timing) -> timedelta:
    """Return the time until a shard is stale: zero or less if it is, zero if it has no credible watermark."""
    last = credible(watermark, now, timing)
    return last.sweep_started_at + timing.sweep_stale_after - now if last else timedelta()


async def read_watermarks(store: CallStore) -> list[Watermark | None]:
    """Return the watermarks of all shards, in order; see `read_watermark`."""
    return await asyncio.gather(*(read_watermark(store, shard) for shard in range(SHARDS)))


async def read_watermark(store: CallStore, shard: int) -> Watermark | None:
    """Return a shard's watermark. If it cannot be read, log why and return None, so that other shards are swept."""
    try:
        return await store.get_watermark(shard)
    except Exception as error:  # noqa: BLE001 (a bug or a damaged row of one shard must not stop the others' sweep)
        telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
        return None
