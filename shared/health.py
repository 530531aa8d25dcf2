"""The health check: settings, storage, signing keys, and sweeps that run and renew most calls."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from shared import BUILD, VERSION
from shared.api.views import HealthView
from shared.clock import Clock
from shared.domain.leases import Timing, credible
from shared.errors import SettingsInvalid, StoreUnavailable
from shared.storage.store import SHARDS, CallStore

if TYPE_CHECKING:
    from shared.auth.token_kinds import TokenKind
    from shared.storage.wakeup_queue import StorageQueue

CHECK_TTL = timedelta(seconds=5)
KEYS_TIMEOUT = timedelta(seconds=1)  # the longest time that a check waits for keys; the fetch itself goes on
MOST_CALLS_FAILING = "most calls could not be renewed by the last sweep: see keep_alive.call.failing in the log"


@dataclass(slots=True)
class HealthCheck:
    """Checks what Call Keeper needs. It does not ask Graph: watermarks show if Graph let calls be renewed.

    The route needs no key, so all requests within 5 seconds share one check. `relay_fault` names the wrong settings of
    the relay, which is off then.
    """

    store: CallStore
    queue: "StorageQueue"
    token_kinds: "tuple[TokenKind, ...]"
    clock: Clock
    timing: Timing
    relay_fault: str | None = None
    _began_at: datetime | None = field(default=None, init=False)
    _view: asyncio.Task[HealthView] | None = field(default=None, init=False)

    async def run(self) -> HealthView:
        """Return the result of the last check if it is less than 5 seconds old, else of a new one."""
        now = self.clock.now()
        if self._view is None or self._began_at is None or not timedelta() <= now - self._began_at < CHECK_TTL:
            self._began_at, self._view = now, asyncio.create_task(self._check())
        return await asyncio.shield(self._view)  # one client that disconnects must not cancel what others await

    async def _check(self) -> HealthView:
        settings = self.relay_fault or "ok"
        try:
            sweeps, calls = await self._check_sweeps()
            await self.queue.ping()
            keys = await self._check_keys()
        except StoreUnavailable as error:
            return _view("unhealthy", settings=settings, storage=str(error))
        status: Literal["healthy", "degraded"] = "healthy" if sweeps == calls == keys == "ok" else "degraded"
        return _view(
            "unhealthy" if self.relay_fault else status,
            settings=settings,
            storage="ok",
            keys=keys,
            sweeps=sweeps,
            calls=calls,
        )

    async def _check_keys(self) -> str:
        """Check that the keys of each kind of token were loaded once. Loaded keys serve through an outage."""
        await asyncio.gather(*(kind.keys.load_missing(KEYS_TIMEOUT) for kind in self.token_kinds))
        missing = [kind.name for kind in self.token_kinds if kind.keys.unloaded_urls()]
        if not missing:
            return "ok"
        return (
            f"keys of {' and '.join(missing)} tokens are not loaded yet, such tokens get 503: "
            "see signing_keys.fetch.failed"
        )

    async def _check_sweeps(self) -> tuple[str, str]:
        """Return the state of sweeps and of calls by the watermarks, without a number of calls: the route is open.

        Among many calls a few fail at any time, each for its own reason; alerts report those. This check reports a
        failure only if most calls fail.
        """
        read = await asyncio.gather(*(self.store.get_watermark(shard) for shard in range(SHARDS)))
        now, timing = self.clock.now(), self.timing
        known = [mark for mark in (credible(mark, now, timing) for mark in read) if mark]
        never = SHARDS - len(known)
        late = sum(mark.sweep_started_at < now - timing.at_risk_after for mark in known)
        failing = sum(mark.failing + len(mark.unwritten) for mark in known)
        most_fail = failing > sum(mark.renewed for mark in known)
        return _describe_sweeps(never, late, timing.at_risk_after), MOST_CALLS_FAILING if most_fail else "ok"


def settings_view(error: SettingsInvalid) -> HealthView:
    """Return the health of an app whose parts cannot be built, because settings are missing or wrong."""
    return _view("unhealthy", settings=str(error))


def _describe_sweeps(never: int, late: int, after: timedelta) -> str:
    parts = [f"{late} of {SHARDS} shards were not swept for {after / timedelta(minutes=1):g} minutes"] if late else []
    if never:
        parts.append(f"{never} of {SHARDS} shards have not been swept yet: the next run of the timer does it")
    return "; ".join(parts) or "ok"


def _view(status: Literal["healthy", "degraded", "unhealthy"], **checks: str) -> HealthView:
    return HealthView(status=status, checks=checks, version=VERSION, build=BUILD)
