"""The lease that Graph gives a call, and what is on record of its renewal: watermarks, progress, failures."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

LEASE = timedelta(minutes=45)  # Graph: call-keepAlive page


@dataclass(frozen=True)
class Timing:
    """How long things may take, all in proportion to the lease, so that a laptop can run on a shorter one.

    With Graph's 45 minutes: `max_clock_skew` 4, `watermark_blind_window` 5, `not_found_grace` 6, first retry 1,
    `sweep_fresh_for` 3, `sweep_stale_after` (dead man's switch) 20, renew on registration below 30, at risk after 30.
    """

    lease: timedelta = LEASE

    @cached_property
    def minute(self) -> timedelta:
        """One minute of a 45-minute lease."""
        return self.lease / 45

    @cached_property
    def max_clock_skew(self) -> timedelta:
        """By how much two clocks may differ: each may be off by two minutes."""
        return 4 * self.minute

    @cached_property
    def watermark_blind_window(self) -> timedelta:
        """A call that came on record less than this before a sweep may not have been seen by it.

        The clocks may differ, and a write may take as long as a patient request waits for it.
        """
        return self.max_clock_skew + self.minute

    @cached_property
    def not_found_grace(self) -> timedelta:
        """The age below which a 404 is asked again: two minutes, by clocks that differ."""
        return 2 * self.minute + self.max_clock_skew

    @cached_property
    def sweep_fresh_for(self) -> timedelta:
        """A sweep that began less than this ago need not be repeated."""
        return 3 * self.minute

    @cached_property
    def sweep_stale_after(self) -> timedelta:
        """A sweep is overdue when the last one began longer ago than this."""
        return 20 * self.minute

    @cached_property
    def renew_at_once_below(self) -> timedelta:
        """A call registered with less than this left of its lease is renewed in the registration.

        A call with more outlives a dead timer (20 minutes until the dead man's switch) and ten minutes' trouble.
        """
        return 30 * self.minute

    @cached_property
    def at_risk_after(self) -> timedelta:
        """A call not renewed for this long is at risk."""
        return 30 * self.minute

    def scaled(self, duration: timedelta) -> timedelta:
        """Return a duration that holds for a 45-minute lease, in proportion to this lease."""
        return duration / timedelta(minutes=1) * self.minute

    def retry_delay(self, attempts: int, left: timedelta) -> timedelta:
        """How long to wait before retry number `attempts` (from 1): 1, 2, 4, 8, 8, … minutes.

        Where that were more than half of what is `left` of the lease, half of it, but a minute at least: the last
        minutes of a lease see more tries, not fewer.
        """
        backoff = int(2 ** min(attempts - 1, 3)) * self.minute
        return min(backoff, max(left / 2, self.minute)) if left > timedelta() else backoff


@dataclass(frozen=True, slots=True)
class Watermark:
    """The proof that a shard was swept: each call that was active before `sweep_started_at` was renewed after it.

    Calls whose row says `failing` are excepted, and those of which it could not be written: `unwritten`.
    """

    sweep_started_at: datetime
    finished_at: datetime
    renewed: int = 0
    ended: int = 0
    failing: int = 0
    unwritten: frozenset[str] = frozenset()


def credible(watermark: Watermark | None, now: datetime, timing: Timing) -> Watermark | None:
    """The watermark, if it can be true: one of the future, written by a clock that ran far ahead, proves nothing."""
    return watermark if watermark and watermark.sweep_started_at <= now + timing.max_clock_skew else None


type SweepPosition = tuple[datetime, datetime, str]
"""A call's place in a sweep: the end of its lease, as far as proved; the lease's begin by its own row; its id.

One sweep may take several ticks, and its watermark gives all its calls the same end. The second part keeps those who
were first in it before those who came a tick later.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep came that ran out of time: the place of the last call it took.

    It holds under the watermark that the sweep saw (`base_watermark_at`): with another one the order is another.
    """

    started_at: datetime
    base_watermark_at: datetime | None
    cursor: SweepPosition | None = None
    renewed: int = 0
    ended: int = 0
    failing: int = 0
    unwritten: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WatchdogState:
    """The last dead man's switch that was left: when it comes, and when the last sweep of all shards began."""

    due: datetime
    sweep_began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RenewalFailure:
    """That keepAlive does not succeed for a call, since when, and when it is tried again."""

    since: datetime
    attempts: int
    retry_at: datetime
    reason: str
    status: int | None = None
    subcode: int | None = None


class TenantApp(NamedTuple):
    """A tenant and an app: what Graph's limits are counted by. `app_id` is None for the app of GRAPH_APP_ID."""

    tenant_id: str
    app_id: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """What a sweep needs to know of an active call. `app_id` is the bot's; None: that of GRAPH_APP_ID.

    `hung_up`: Graph accepted a hang-up of ours, so a 404 means that the call is over, however young it is.
    """

    call_id: str
    tenant_id: str
    known_at: datetime
    started_at: datetime
    renewed_at: datetime | None = None
    failing: RenewalFailure | None = None
    app_id: str | None = None
    hung_up: bool = False

    @property
    def tenant_app(self) -> TenantApp:
        """Whose limits at Graph a keepAlive of this call counts against."""
        return TenantApp(self.tenant_id, self.app_id)

    @property
    def began_at(self) -> datetime:
        """When the lease last began, by the call's row alone."""
        return max(self.started_at, self.renewed_at or self.started_at)

    def last_renewal(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """When the lease last began, as far as can be proved: by the row itself, or by the shard's watermark."""
        own_renewal = self.began_at
        if watermark is None or self.failing or self.call_id in watermark.unwritten:
            return own_renewal
        if self.known_at + timing.watermark_blind_window > watermark.sweep_started_at:
            return own_renewal
        return max(own_renewal, watermark.sweep_started_at)

    def expires_at(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """When Graph ends the call, if nobody renews it."""
        return self.last_renewal(watermark, timing) + timing.lease

    def sweep_position(self, watermark: Watermark | None, timing: Timing) -> SweepPosition:
        """Its place in a sweep. It does not change until the watermark does.

        Whether a call that came about the time of the last sweep was in it, clocks that differ cannot tell. Here it
        was: else it goes first in this one and last in the next, 45 minutes later where a sweep takes two ticks.
        """
        last_renewal = self.last_renewal(watermark, timing)
        if watermark and not self.failing and self.call_id not in watermark.unwritten:
            swept_at = watermark.sweep_started_at
            last_renewal = (
                swept_at
                if swept_at - timing.watermark_blind_window - timing.max_clock_skew < last_renewal < swept_at
                else last_renewal
            )
        return last_renewal + timing.lease, self.began_at, self.call_id
