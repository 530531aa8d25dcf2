"""Whether Call Keeper can do its work: settings, storage, and whether sweeps still happen."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared import VERSION
from shared.errors import SettingsInvalid, StoreUnavailable
from shared.leases import credible
from shared.services import Services, services
from shared.store import SHARDS
from shared.views import HealthView

KEPT = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class _Look:
    parts: Services
    began_at: datetime
    view: asyncio.Task[HealthView]


_last: _Look | None = None


async def check() -> HealthView:
    """Look at everything that the keeper needs, but Graph: its answers are seen in each sweep.

    Anybody may ask, so one look serves all who ask within 5 seconds.
    """
    global _last  # noqa: PLW0603 (one per process is the point)
    try:
        parts = services()
    except SettingsInvalid as error:
        return _view("unhealthy", settings=str(error))
    now = parts.clock.now()
    if _last is None or _last.parts is not parts or not timedelta() <= now - _last.began_at < KEPT:
        _last = _Look(parts, now, asyncio.create_task(_look(parts)))
    return await asyncio.shield(_last.view)  # who hangs up takes it from nobody


async def _look(parts: Services) -> HealthView:
    try:
        sweeps = await _sweeps(parts)
        await parts.queue.ping()
    except SettingsInvalid as error:
        return _view("unhealthy", settings=str(error))
    except StoreUnavailable as error:
        return _view("unhealthy", settings="ok", storage=str(error))
    return _view("healthy" if sweeps == "ok" else "degraded", settings="ok", storage="ok", sweeps=sweeps)


async def _sweeps(parts: Services) -> str:
    marks = await asyncio.gather(*(parts.store.watermark(shard) for shard in range(SHARDS)))
    now, timing = parts.clock.now(), parts.settings.timing
    known = filter(None, (credible(mark, now, timing) for mark in marks))
    late = SHARDS - sum(mark.sweep_started_at >= now - timing.at_risk_after for mark in known)
    return f"{late} of {SHARDS} shards were not swept for {timing.at_risk_after}" if late else "ok"


def _view(status: Literal["healthy", "degraded", "unhealthy"], **checks: str) -> HealthView:
    return HealthView(status=status, checks=checks, version=VERSION)
