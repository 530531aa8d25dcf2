"""Leases of calls and the records of their renewal: watermarks, progress of sweeps, failures."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

LEASE = timedelta(minutes=45)  # Graph: call-keepAlive page


@dataclass(frozen=True)
class Timing:
    """Durations, all in proportion to the lease, so that a test environment can use a shorter lease.

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
        """The largest difference of two clocks: each may be wrong by two minutes."""
        return 4 * self.minute

    @cached_property
    def watermark_blind_window(self) -> timedelta:
        """The time before a sweep in which the sweep may have missed a new call.

        The clocks may differ by `max_clock_skew`, and the write of the call may take up to a minute more.
        """
        return self.max_clock_skew + self.minute

    @cached_property
    def not_found_grace(self) -> timedelta:
        """The age below which a 404 does not end a call: two minutes, plus the largest difference of clocks."""
        return 2 * self.minute + self.max_clock_skew

    @cached_property
    def sweep_fresh_for(self) -> timedelta:
        """A sweep that began less than this ago is not repeated."""
        return 3 * self.minute

    @cached_property
    def sweep_stale_after(self) -> timedelta:
        """A sweep is overdue when the last one began longer ago than this."""
        return 20 * self.minute

    @cached_property
    def renew_at_once_below(self) -> timedelta:
        """A call that is registered with less than this left of its lease is renewed by the registration.

        With more left it survives a timer that stopped (20 minutes until the dead man's switch) and 10 minutes more.
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
        """Return the wait before retry number `attempts` (from 1): 1, 2, 4, 8, 8, … minutes.

        The wait is at most half of what is `left` of the lease, but at least a minute, so that the last minutes of a
        lease get more attempts. It is not shortened after the lease is over.
        """
        backoff = int(2 ** min(attempts - 1, 3)) * self.minute
        return min(backoff, max(left / 2, self.minute)) if left > timedelta() else backoff


@dataclass(frozen=True, slots=True)
class Watermark:
    """The proof of a sweep of one shard: each call that was active before `sweep_started_at` was renewed after it.

    Two kinds of calls are excepted: those whose row is `failing`, and those whose result could not be written
    (`unwritten`).
    """

    sweep_started_at: datetime
    finished_at: datetime
    renewed: int = 0
    ended: int = 0
    failing: int = 0
    unwritten: frozenset[str] = frozenset()


def credible(watermark: Watermark | None, now: datetime, timing: Timing) -> Watermark | None:
    """Return the watermark, or None if it is of the future: a clock that was far ahead wrote it."""
    return watermark if watermark and watermark.sweep_started_at <= now + timing.max_clock_skew else None


type SweepPosition = tuple[datetime, datetime, str]
"""A call's position in a sweep: the proved end of its lease; the begin of its lease by its own row; its id.

One sweep may take several ticks of the timer, and its watermark gives all its calls the same end. The second part
orders calls of an earlier tick before those of a later one.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """The position of a sweep that ran out of time: the position of the last call that it processed (`cursor`).

    It is valid only for the watermark that the sweep saw (`base_watermark_at`): another watermark changes the order.
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
    """The last dead man's switch that was armed: when it is due, and when the last sweep of all shards began."""

    due: datetime
    sweep_began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RenewalFailure:
    """The failure of a call's keepAlive: since when, how often, why, and when it is tried again.

    `at_risk`: during these failures the call has gone 30 minutes without a renewal.
    """

    since: datetime
    attempts: int
    retry_at: datetime
    reason: str
    status: int | None = None
    subcode: int | None = None
    at_risk: bool = False


class TenantApp(NamedTuple):
    """A tenant and an app: Graph counts its limits by them. `app_id` is None for the app of GRAPH_APP_ID."""

    tenant_id: str
    app_id: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The part of an active call that a sweep needs. `app_id` is the bot; None: the bot of GRAPH_APP_ID.

    `hung_up`: Graph accepted our hang-up. A 404 then means that the call is over, even if it is young.
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
        """The tenant and app that a keepAlive of this call counts against."""
        return TenantApp(self.tenant_id, self.app_id)

    @property
    def began_at(self) -> datetime:
        """The last begin of the lease, by the call's row alone."""
        return max(self.started_at, self.renewed_at or self.started_at)

    def last_renewal(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """Return the last proved begin of the lease, by the row itself or by the shard's watermark."""
        own_renewal = self.began_at
        if watermark is None or self.failing or self.call_id in watermark.unwritten:
            return own_renewal
        if self.known_at + timing.watermark_blind_window > watermark.sweep_started_at:
            return own_renewal
        return max(own_renewal, watermark.sweep_started_at)

    def expires_at(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """Return when Graph ends the call unless it is renewed."""
        return self.last_renewal(watermark, timing) + timing.lease

    def sweep_position(self, watermark: Watermark | None, timing: Timing) -> SweepPosition:
        """Return the call's position in a sweep. It does not change until the watermark does.

        Clocks differ, so a call that came around the time of the last sweep may or may not have been in it. For the
        order only, assume that it was. Otherwise it would be first in this sweep and last in the next: 45 minutes
        apart if a sweep takes two ticks.
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
