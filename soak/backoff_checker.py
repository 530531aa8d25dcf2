"""How one process asks Graph: it waits for as long as Graph asks, and does not try each call where nobody answers."""

from collections import Counter
from collections.abc import Callable

from soak.intervals import MINUTE

IN_VAIN = 32  # keepAlives of a tenant in a row that nobody answered: then its calls wait a minute
INSTANT = 0.001  # seconds: clocks tell microseconds, so who wakes on time may be one early
MOST_EARLY = 12  # keepAlives in one such wait: who registers a call, or waited for a slot, may not know of it


class Manners:
    """Counts the keepAlives that a process sends for tenants that have to wait. Times in seconds of the life."""

    def __init__(self, now: Callable[[], float], tell: Callable[[int], None]) -> None:
        self._now = now
        self._tell = tell
        self._until: dict[str, float] = {}
        self._early: Counter[str] = Counter()
        self._in_vain: Counter[str] = Counter()

    def sends(self, tenant: str) -> None:
        """A keepAlive leaves the process."""
        if self._now() + INSTANT < self._until.get(tenant, 0.0):
            self._early[tenant] += 1
            self._tell(self._early[tenant])

    def answered(self, tenant: str) -> None:
        """It succeeded."""
        self._in_vain.pop(tenant, None)

    def throttled(self, tenant: str, seconds: float) -> None:
        """Graph asked the tenant to wait."""
        self._wait(tenant, seconds)

    def hung(self, tenant: str) -> None:
        """Nobody answered."""
        self._in_vain[tenant] += 1
        if self._in_vain[tenant] >= IN_VAIN:
            self._wait(tenant, MINUTE)

    def _wait(self, tenant: str, seconds: float) -> None:
        now, until = self._now(), self._until.get(tenant, 0.0)
        if until <= now:
            self._early.pop(tenant, None)
        self._until[tenant] = max(until, now + seconds)
