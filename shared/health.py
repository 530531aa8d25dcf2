"""Whether Call Keeper can do its work: settings, storage, keys of tokens, sweeps that happen and renew most calls."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared import BUILD, VERSION
from shared.api.views import HealthView
from shared.domain.leases import credible
from shared.errors import SettingsInvalid, StoreUnavailable
from shared.services import Services, services
from shared.storage.store import SHARDS

CHECK_TTL = timedelta(seconds=5)
KEYS_TIMEOUT = timedelta(seconds=1)  # who asks for health waits no longer for keys; the fetch goes on
MOST_CALLS_FAILING = "most calls could not be renewed by the last sweep: see keep_alive.call.failing in the log"


@dataclass(frozen=True, slots=True)
class _Check:
    parts: Services
    began_at: datetime
    view: asyncio.Task[HealthView]


_last_check: _Check | None = None


async def check_health() -> HealthView:
    """Look at everything that the keeper needs. Graph is not asked: watermarks tell whether it let calls be renewed.

    Anybody may ask, so one look serves all who ask within 5 seconds.
    """
    global _last_check  # noqa: PLW0603 (one per process is the point)
    try:
        parts = services()
    except SettingsInvalid as error:
        return _view("unhealthy", settings=str(error))
    now = parts.clock.now()
    if (
        _last_check is None
        or _last_check.parts is not parts
        or not timedelta() <= now - _last_check.began_at < CHECK_TTL
    ):
        _last_check = _Check(parts, now, asyncio.create_task(_run_checks(parts)))
    return await asyncio.shield(_last_check.view)  # who hangs up takes it from nobody


async def _run_checks(parts: Services) -> HealthView:
    try:
        sweeps, calls = await _check_sweeps(parts)
        await parts.queue.ping()
        keys = await _check_keys(parts)
    except SettingsInvalid as error:
        return _view("unhealthy", settings=str(error))
    except StoreUnavailable as error:
        return _view("unhealthy", settings="ok", storage=str(error))
    status: Literal["healthy", "degraded"] = "healthy" if sweeps == calls == keys == "ok" else "degraded"
    return _view(status, settings="ok", storage="ok", keys=keys, sweeps=sweeps, calls=calls)


async def _check_keys(parts: Services) -> str:
    """Whether the keys of each kind of token that comes in were loaded once; those serve through an outage."""
    kinds = (*parts.notification_token_kinds, *parts.management_token_kinds)
    await asyncio.gather(*(kind.keys.load_missing(KEYS_TIMEOUT) for kind in kinds))
    missing = [kind.name for kind in kinds if kind.keys.unloaded_urls()]
    if not missing:
        return "ok"
    return (
        f"keys of {' and '.join(missing)} tokens are not loaded yet, such tokens get 503: see signing_keys.fetch.failed"
    )


async def _check_sweeps(parts: Services) -> tuple[str, str]:
    """What they tell of sweeps and of calls. Not how many fail: anybody may ask.

    Among many calls a few fail at any time, for reasons of their own, which alerts tell; here it is whether most do.
    """
    read = await asyncio.gather(*(parts.store.get_watermark(shard) for shard in range(SHARDS)))
    now, timing = parts.clock.now(), parts.settings.timing
    known = [mark for mark in (credible(mark, now, timing) for mark in read) if mark]
    never = SHARDS - len(known)
    late = sum(mark.sweep_started_at < now - timing.at_risk_after for mark in known)
    failing = sum(mark.failing + len(mark.unwritten) for mark in known)
    most_fail = failing > sum(mark.renewed for mark in known)
    return _describe_sweeps(never, late, timing.at_risk_after), MOST_CALLS_FAILING if most_fail else "ok"


def _describe_sweeps(never: int, late: int, after: timedelta) -> str:
    parts = [f"{late} of {SHARDS} shards were not swept for {after / timedelta(minutes=1):g} minutes"] if late else []
    if never:
        parts.append(f"{never} of {SHARDS} shards have not been swept yet: the next run of the timer does it")
    return "; ".join(parts) or "ok"


def _view(status: Literal["healthy", "degraded", "unhealthy"], **checks: str) -> HealthView:
    return HealthView(status=status, checks=checks, version=VERSION, build=BUILD)
