"""Tenants that have to wait: because Graph asked for it, or because nobody answers for them at the moment.

Graph counts per app and tenant ("throttling limits" page), so with several bots each of a tenant's waits alone.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from shared.clock import Clock
from shared.leases import TenantApp, Timing

IN_VAIN = 32  # keepAlives of a tenant in a row without an answer
MAX_TENANTS = 10_000  # of whom this is known; of more, the oldest is forgotten, which costs its tenant a few requests
_LOOKED_AT = 8  # of the oldest, for some whose wait is over


@dataclass(frozen=True, slots=True)
class Slow:
    """Why, and until when, the calls of a tenant wait."""

    until: datetime
    reason: str
    status: int | None


class Tenants:
    """What a process knows of them. All of it is forgotten with the process, which costs some requests and no call."""

    def __init__(self, clock: Clock, timing: Timing, *, max_tenants: int = MAX_TENANTS) -> None:
        self._clock = clock
        self._timing = timing
        self._max_tenants = max_tenants
        self._slow: OrderedDict[TenantApp, Slow] = OrderedDict()  # the newest is last
        self._in_vain: OrderedDict[TenantApp, int] = OrderedDict()  # requests since the last answer; the newest is last

    def slowed(self, account: TenantApp) -> Slow | None:
        """Until when the tenant's calls have to wait, None if they need not."""
        slow = self._slow.get(account)
        if slow is None or slow.until <= self._clock.now():
            self._slow.pop(account, None)
            return None
        return slow

    def throttled(self, account: TenantApp, wait: timedelta) -> None:
        """Graph asked the tenant to wait."""
        self._slow_down(account, Slow(self._clock.now() + wait, "throttled", 429))

    def hung(self, account: TenantApp) -> None:
        """No answer came. Where none does for any call, they wait a minute, and then one tries for all."""
        times = self._in_vain[account] = self._in_vain.pop(account, 0) + 1
        if len(self._in_vain) > self._max_tenants:
            self._in_vain.popitem(last=False)
        if times >= IN_VAIN:
            self._slow_down(account, Slow(self._clock.now() + self._timing.minute, "postponed", None))

    def answered(self, account: TenantApp) -> None:
        """A keepAlive succeeded."""
        self._in_vain.pop(account, None)

    def _slow_down(self, account: TenantApp, slow: Slow) -> None:
        self._forget_those_who_need_not_wait()
        known = self._slow.get(account)
        if known is None or known.until < slow.until:
            self._slow[account] = slow
            self._slow.move_to_end(account)
        if len(self._slow) > self._max_tenants:
            self._slow.popitem(last=False)

    def _forget_those_who_need_not_wait(self) -> None:
        """A tenant without calls is never asked for again: its wait would be kept for ever."""
        now = self._clock.now()
        for account, slow in list(islice(self._slow.items(), _LOOKED_AT)):
            if slow.until <= now:
                del self._slow[account]
