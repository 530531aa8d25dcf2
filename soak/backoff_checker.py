"""Checks that a process waits if Graph asks it to wait, or if Graph does not answer."""

from collections import Counter
from collections.abc import Callable

from soak.intervals import MINUTE

TIMEOUTS_BEFORE_BACKOFF = 32  # keepAlives of a tenant in a row without an answer: then its calls wait for a minute
CLOCK_RESOLUTION = 0.001  # seconds: clocks count microseconds, so a wait that ends on time can seem one too short
MAX_EARLY = 12  # keepAlives during one wait: a registration, or a task that waited for a slot, may not know of it


class BackoffChecker:
    """Counts the keepAlives that one process sends for a tenant during the tenant's backoff.

    Parameters
    ----------
    now
        Returns the seconds since the start of the run.
    on_early
        Called for each keepAlive that is sent too early, with the number of them during this backoff.
    """

    def __init__(self, now: Callable[[], float], on_early: Callable[[int], None]) -> None:
        self._now = now
        self._on_early = on_early
        self._until: dict[str, float] = {}
        self._early: Counter[str] = Counter()
        self._timeouts: Counter[str] = Counter()

    def record_send(self, tenant: str) -> None:
        """Record that the process sends a keepAlive."""
        if self._now() + CLOCK_RESOLUTION < self._until.get(tenant, 0.0):
            self._early[tenant] += 1
            self._on_early(self._early[tenant])

    def record_success(self, tenant: str) -> None:
        """Record that a keepAlive succeeded."""
        self._timeouts.pop(tenant, None)

    def record_throttle(self, tenant: str, seconds: float) -> None:
        """Record that Graph asked the tenant to wait for so many seconds."""
        self._back_off(tenant, seconds)

    def record_timeout(self, tenant: str) -> None:
        """Record that a keepAlive got no answer."""
        self._timeouts[tenant] += 1
        if self._timeouts[tenant] >= TIMEOUTS_BEFORE_BACKOFF:
            self._back_off(tenant, MINUTE)

    def _back_off(self, tenant: str, seconds: float) -> None:
        now, until = self._now(), self._until.get(tenant, 0.0)
        if until <= now:
            self._early.pop(tenant, None)
        self._until[tenant] = max(until, now + seconds)
