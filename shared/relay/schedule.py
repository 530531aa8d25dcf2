"""The times of the relay: when an attempt is repeated, and when a delivery is given up."""

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from shared.domain.deliveries import DELIVERY_WINDOW
from shared.domain.leases import Timing

FIRST_RETRY = timedelta(seconds=5)
MAX_RETRY_DELAY = timedelta(minutes=15)
MAX_DOUBLINGS = 12  # far above the longest delay
REFUSAL_WINDOW = timedelta(minutes=2)  # from the begin of a refused delivery's first attempt to that of its last
# So four attempts, or five that begin with a 401: 5 + 5 + 15 + 30 s, and 60 s of attempts before the last.
REFUSAL_DELAYS = (timedelta(seconds=5), timedelta(seconds=15), timedelta(seconds=30))
MAX_REFUSALS = 5  # attempts that were refused, with the repetition after a 401
MAX_RETRY_AFTER = timedelta(hours=1)  # of a `Retry-After`
BREAKER_PAUSE = timedelta(seconds=30)  # before the first probe; doubled by each probe that fails
MAX_BREAKER_PAUSE = timedelta(minutes=5)
OVERDUE_AFTER = timedelta(minutes=1)  # after which the sweep and the next notification take up an attempt
_SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits between attempts. They shrink in proportion to the lease, but not below a second."""

    timing: Timing
    random: Random

    def retry_delay(self, failures: int) -> timedelta:
        """Return the wait after the failed attempt number `failures`, from 1: 5 s, doubled each time up to 15 minutes.

        It is shortened at random by up to a fifth, so that the lanes of a destination do not retry all at once.
        """
        delay = min(FIRST_RETRY * 2 ** min(max(failures, 1) - 1, MAX_DOUBLINGS), MAX_RETRY_DELAY)
        return self._scaled(delay * self.random.uniform(0.8, 1))

    def refusal_delay(self, refusals: int) -> timedelta | None:
        """Return the wait after the refused attempt number `refusals`, from 1; None if that was the last one."""
        if refusals > len(REFUSAL_DELAYS):
            return None
        return self._scaled(REFUSAL_DELAYS[refusals - 1])

    def breaker_pause(self, probes: int) -> timedelta:
        """Return the wait before the next probe, after `probes` probes that failed."""
        return self._scaled(min(BREAKER_PAUSE * 2 ** min(probes, 8), MAX_BREAKER_PAUSE))

    @property
    def longest_delay(self) -> timedelta:
        """The longest wait between two attempts, at random as above."""
        return self.retry_delay(MAX_DOUBLINGS)

    @property
    def window(self) -> timedelta:
        """The time after which a delivery is given up."""
        return self._scaled(DELIVERY_WINDOW)

    @property
    def overdue_after(self) -> timedelta:
        """The delay after which an attempt counts as forgotten."""
        return self._scaled(OVERDUE_AFTER)

    def _scaled(self, duration: timedelta) -> timedelta:
        return max(self.timing.scaled(duration), _SHORTEST)
