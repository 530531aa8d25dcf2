"""Tenants that have to wait: because Graph asked for it, or because nobody answers for them at the moment.

Graph counts per app and tenant ("throttling limits" page), so with several bots each of a tenant's waits alone.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.leases import Account, Timing

IN_VAIN = 32  # keepAlives of a tenant in a row without an answer


@dataclass(frozen=True, slots=True)
class Slow:
    """Why, and until when, the calls of a tenant wait."""

    until: datetime
    reason: str
    status: int | None


class Tenants:
    """What a process knows of them. All of it is forgotten with the process, which costs some requests and no call."""

    def __init__(self, clock: Clock, timing: Timing) -> None:
        self._clock = clock
        self._timing = timing
        self._slow: dict[Account, Slow] = {}
        self._in_vain: Counter[Account] = Counter()  # since the last answer

    def slowed(self, account: Account) -> Slow | None:
        """Until when the tenant's calls have to wait, None if they need not."""
        slow = self._slow.get(account)
        if slow is None or slow.until <= self._clock.now():
            self._slow.pop(account, None)
            return None
        return slow

    def throttled(self, account: Account, wait: timedelta) -> None:
        """Graph asked the tenant to wait."""
        self._slow_down(account, Slow(self._clock.now() + wait, "throttled", 429))

    def hung(self, account: Account) -> None:
        """No answer came. Where none does for any call, they wait a minute, and then one tries for all."""
        self._in_vain[account] += 1
        if self._in_vain[account] >= IN_VAIN:
            self._slow_down(account, Slow(self._clock.now() + self._timing.minute, "postponed", None))

    def answered(self, account: Account) -> None:
        """A keepAlive succeeded."""
        self._in_vain.pop(account, None)

    def _slow_down(self, account: Account, slow: Slow) -> None:
        known = self._slow.get(account)
        if known is None or known.until < slow.until:
            self._slow[account] = slow
