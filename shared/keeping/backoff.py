"""Tenants that have to wait, because Graph throttled them or does not answer for them.

Graph counts requests per app and tenant ("throttling limits" page), so each bot of a tenant has a backoff of its own.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from shared.clock import Clock
from shared.domain.leases import TenantApp, Timing

TIMEOUTS_BEFORE_BACKOFF = 32  # keepAlives of a tenant in a row without an answer
MAX_TRACKED_TENANTS = 10_000  # with more, the oldest is forgotten, which costs its tenant a few requests
_MAX_EVICTION_SCAN = 8  # of the oldest backoffs, at each new one, to delete those that are over


@dataclass(frozen=True, slots=True)
class Backoff:
    """The reason and the end of a tenant's wait."""

    until: datetime
    reason: str
    status: int | None


class TenantBackoff:
    """The backoffs of a process. They end with the process, which costs some requests and no call."""

    def __init__(self, clock: Clock, timing: Timing, *, max_tenants: int = MAX_TRACKED_TENANTS) -> None:
        self._clock = clock
        self._timing = timing
        self._max_tenants = max_tenants
        self._backoffs: OrderedDict[TenantApp, Backoff] = OrderedDict()  # the newest is last
        self._timeouts: OrderedDict[TenantApp, int] = (
            OrderedDict()
        )  # requests since the last answer; the newest is last

    def current(self, tenant_app: TenantApp) -> Backoff | None:
        """Return the tenant's backoff, None if its calls need not wait."""
        backoff = self._backoffs.get(tenant_app)
        if backoff is None or backoff.until <= self._clock.now():
            self._backoffs.pop(tenant_app, None)
            return None
        return backoff

    def record_throttle(self, tenant_app: TenantApp, wait: timedelta) -> None:
        """Start a backoff because Graph asked the tenant to wait."""
        self._start(tenant_app, Backoff(self._clock.now() + wait, "throttled", 429))

    def record_timeout(self, tenant_app: TenantApp) -> None:
        """Count a keepAlive without an answer.

        After 32 in a row the tenant's calls wait a minute. Then one of them is tried, and decides for the others.
        """
        timeouts = self._timeouts[tenant_app] = self._timeouts.pop(tenant_app, 0) + 1
        if len(self._timeouts) > self._max_tenants:
            self._timeouts.popitem(last=False)
        if timeouts >= TIMEOUTS_BEFORE_BACKOFF:
            self._start(tenant_app, Backoff(self._clock.now() + self._timing.minute, "postponed", None))

    def record_success(self, tenant_app: TenantApp) -> None:
        """End the count of keepAlives without an answer."""
        self._timeouts.pop(tenant_app, None)

    def _start(self, tenant_app: TenantApp, backoff: Backoff) -> None:
        self._forget_expired()
        known = self._backoffs.get(tenant_app)
        if known is None or known.until < backoff.until:
            self._backoffs[tenant_app] = backoff
            self._backoffs.move_to_end(tenant_app)
        if len(self._backoffs) > self._max_tenants:
            self._backoffs.popitem(last=False)

    def _forget_expired(self) -> None:
        """Delete backoffs that are over. `current` does so too, but is never called for a tenant without calls."""
        now = self._clock.now()
        for tenant_app, backoff in list(islice(self._backoffs.items(), _MAX_EVICTION_SCAN)):
            if backoff.until <= now:
                del self._backoffs[tenant_app]
