"""The states of destinations: switched off (410), resting (Retry-After), or behind an open breaker.

A destination in trouble has a row, which all instances read at most every 30 seconds. A healthy one has none, so it
costs one read of all rows in that time.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared import telemetry
from shared.clock import Clock
from shared.domain.deliveries import DELIVERY_WINDOW, Destination, DestinationState
from shared.errors import StoreConflict, StoreUnavailable, safe_message
from shared.relay.schedule import MAX_RETRY_AFTER, Schedule
from shared.storage.outbox import OutboxStore
from shared.storage.stored import Stored

CACHE_TTL = timedelta(seconds=30)  # of the states that other instances wrote
FAILURES_BEFORE_OPEN = 5  # attempts in a row without an answer, or with a 5xx, after which the breaker opens
PROBE_TIMEOUT = timedelta(seconds=45)  # after which a probe counts as dead: more than an attempt and its writes take
PROBE_WAIT = timedelta(seconds=15)  # of other deliveries while a probe runs: as long as a late attempt
REREAD_AFTER_ERROR = timedelta(seconds=5)  # each notification would wait for the read, one after another
IDLE_TIME = 2 * DELIVERY_WINDOW  # after the last rest or probe: no delivery from before is pending
MAX_COUNTED = 10_000  # destinations whose failures are counted: a callback may name any `to`
MAX_CONFLICTS = 10  # of one write: each means that another writer was faster


type StateChange = Callable[[DestinationState], DestinationState]


class Obstacle(StrEnum):
    """The reasons not to ask a destination."""

    DISABLED = "disabled"
    RESTING = "resting"
    BREAKER_OPEN = "breakerOpen"


@dataclass(frozen=True, slots=True)
class Blocked:
    """A destination must not be asked, before `until` at the earliest."""

    obstacle: Obstacle
    until: datetime


class Destinations:
    """Knows which destinations may be asked now. Every method but `refresh` and `blocked` may raise `StoreUnavailable`.

    It counts failures in a row in memory, and writes a row only when a breaker opens or closes, or if an answer asks
    for a pause.
    """

    def __init__(self, outbox: OutboxStore, clock: Clock, schedule: Schedule) -> None:
        self._outbox = outbox
        self._clock = clock
        self._schedule = schedule
        self._states: dict[Destination, Stored[DestinationState]] = {}
        self._failures: dict[Destination, int] = {}
        self._read_at: datetime | None = None
        self._reading = asyncio.Lock()

    async def refresh(self, *, force: bool = False) -> None:
        """Read the states if they are older than 30 seconds. If they cannot be read, the known ones stay."""
        async with self._reading:
            now = self._clock.now()
            if self._read_at and timedelta() <= now - self._read_at < CACHE_TTL and not force:
                return
            try:
                self._states = await self._outbox.get_destinations()
            except StoreUnavailable as error:
                telemetry.STATE_ACCESS_FAILED(error=safe_message(error))
                self._read_at = self._clock.now() - CACHE_TTL + REREAD_AFTER_ERROR
                return
            self._read_at = now

    def blocked(self, destination: Destination) -> Blocked | None:
        """Return why the destination must not be asked, None if it may be. An open breaker blocks until its probe."""
        stored = self._states.get(destination)
        if stored is None:
            return None
        state, now = stored.value, self._clock.now()
        if state.disabled_at is not None:
            return Blocked(Obstacle.DISABLED, now)
        if state.rests_until is not None and now < state.rests_until:
            return Blocked(Obstacle.RESTING, state.rests_until)
        if state.opens_at is None:
            return None
        return Blocked(Obstacle.BREAKER_OPEN, max(state.opens_at, now))

    def disabled_at(self, destination: Destination) -> datetime | None:
        """Return when the destination was switched off, None if it is on."""
        stored = self._states.get(destination)
        return stored.value.disabled_at if stored else None

    async def admit(self, destination: Destination) -> Blocked | None:
        """Return None if a retry may ask the destination now. Behind an open breaker it claims the one probe."""
        await self.confirm_disabled([destination])
        blocked = self.blocked(destination)
        if blocked is None or blocked.obstacle is not Obstacle.BREAKER_OPEN:
            return blocked
        now = self._clock.now()
        if now < blocked.until:
            return blocked
        stored = await self._reload(destination)  # another instance may have closed it, or probes already
        blocked = self.blocked(destination)
        now = self._clock.now()  # after `blocked`, which returns its own time if a probe is due
        if stored is None or blocked is None or blocked.obstacle is not Obstacle.BREAKER_OPEN or now < blocked.until:
            return blocked
        is_probed = stored.value.probed_until is not None and now < stored.value.probed_until
        try:
            if not is_probed:
                await self._write(stored, replace(stored.value, probed_until=now + PROBE_TIMEOUT))
                return None
        except StoreConflict:  # another worker was faster
            pass
        return Blocked(Obstacle.BREAKER_OPEN, now + PROBE_WAIT)

    async def confirm_disabled(self, destinations: Iterable[Destination]) -> None:
        """Read the states of those destinations again that count as switched off.

        An operator may have enabled one in another process a moment ago. What is held then would be held forever.
        """
        for destination in set(destinations):
            known = self._states.get(destination)
            if known and known.value.disabled_at is not None:
                await self._reload(destination)

    async def record_success(self, destination: Destination) -> bool:
        """Record an answer that shows the destination well: close its breaker. It does not end a `Retry-After`.

        Returns
        -------
        bool
            True if this closed the breaker: what waited behind it may be delivered now.
        """
        self._failures.pop(destination, None)
        if not self._is_over(self._states.get(destination)):
            return False
        stored = await self._reload(destination)
        if stored is None or not self._is_over(stored):
            return False
        state = stored.value
        try:
            if self._is_resting(state):
                await self._write(stored, replace(state, failures=0, opens_at=None, probed_until=None))
            else:
                await self._outbox.delete_destination(stored)
                self._states.pop(destination, None)
        except StoreConflict:  # another worker has learnt something newer
            return False
        if state.opens_at is None:
            return False
        telemetry.RELAY_UP(target=destination.target, to=destination.to)
        return True

    async def record_failure(self, destination: Destination) -> None:
        """Record an attempt without an answer, or with a 5xx. After five in a row the breaker opens.

        If it is open already, only a probe counts: attempts that were on their way when it opened say nothing new.
        """
        failures = self._count_failure(destination)
        known = self._states.get(destination)
        is_open = known is not None and known.value.opens_at is not None
        if not is_open and failures < FAILURES_BEFORE_OPEN:
            return
        now = self._clock.now()

        def open_breaker(state: DestinationState) -> DestinationState:
            is_probe = state.opens_at is not None and now >= state.opens_at
            if not is_probe and (state.opens_at is not None or failures < FAILURES_BEFORE_OPEN):
                return state
            probes = state.failures + 1 if state.opens_at is not None else 0
            return replace(
                state, failures=probes, opens_at=now + self._schedule.breaker_pause(probes), probed_until=None
            )

        before, after = await self._change(destination, open_breaker)
        if after.opens_at is not None:
            self._failures.pop(destination, None)  # another instance may close it: then five more open it again
        if before.opens_at is None and after.opens_at is not None:
            telemetry.RELAY_DOWN(target=destination.target, to=destination.to, failures=failures)

    async def record_rest(self, destination: Destination, wait: timedelta) -> None:
        """Record a `Retry-After`, which counts at most an hour: nothing is sent to the destination before."""
        until = self._clock.now() + min(wait, MAX_RETRY_AFTER)
        await self._change(
            destination, lambda state: replace(state, rests_until=max(until, state.rests_until or until))
        )

    async def record_gone(self, destination: Destination) -> None:
        """Record a 410: the destination is switched off until an operator enables it."""
        now = self._clock.now()
        before, _ = await self._change(destination, lambda state: replace(state, disabled_at=state.disabled_at or now))
        if before.disabled_at is None:
            telemetry.RELAY_DISABLED(target=destination.target, to=destination.to)

    async def forget_idle(self) -> None:
        """Delete the rows of destinations that were not asked for two days, such as an instance that is gone.

        All instances read all rows. One that is switched off stays: only an operator enables it.
        """
        idle_since = self._clock.now() - IDLE_TIME
        for stored in (await self._outbox.get_destinations()).values():
            state = stored.value
            times = [each for each in (state.rests_until, state.opens_at, state.probed_until) if each]
            if state.disabled_at is None and max(times, default=idle_since) <= idle_since:
                with suppress(StoreConflict):  # it was asked just now
                    await self._outbox.delete_destination(stored)

    async def enable(self, target: str) -> None:
        """Switch all destinations of a target on again."""
        for destination in await self._outbox.get_destinations():
            if destination.target == target:
                await self._enable(destination)

    async def _enable(self, destination: Destination) -> None:
        for _ in range(MAX_CONFLICTS):
            stored = await self._reload(destination)
            if stored is None or stored.value.disabled_at is None:
                return
            try:
                await self._outbox.delete_destination(stored)
            except StoreConflict:
                continue
            self._states.pop(destination, None)
            self._failures.pop(destination, None)
            telemetry.RELAY_UP(target=destination.target, to=destination.to)
            return
        raise StoreUnavailable(f"The state of {destination.target} is being written by too many at once. Try again.")

    async def _change(self, destination: Destination, change: StateChange) -> tuple[DestinationState, DestinationState]:
        """Write the changed state of a destination. Another writer's state is read and changed again.

        Returns
        -------
        tuple[DestinationState, DestinationState]
            The state before and after.
        """
        for _ in range(MAX_CONFLICTS):
            stored = await self._reload(destination)
            before = stored.value if stored else DestinationState(destination)
            after = change(before)
            try:
                if after != before:
                    await self._write(stored, after)
            except StoreConflict:
                continue
            return before, after
        raise StoreUnavailable(f"The state of {destination.target} is being written by too many at once.")

    async def _write(self, before: Stored[DestinationState] | None, after: DestinationState) -> None:
        self._states[after.destination] = await self._outbox.put_destination(before, after)

    async def _reload(self, destination: Destination) -> Stored[DestinationState] | None:
        stored = await self._outbox.get_destination(destination)
        if stored is None:
            self._states.pop(destination, None)
        else:
            self._states[destination] = stored
        return stored

    def _count_failure(self, destination: Destination) -> int:
        """Return how many attempts have failed in a row. The destination that failed longest ago may be forgotten."""
        failures = self._failures.pop(destination, 0) + 1
        self._failures[destination] = failures
        if len(self._failures) > MAX_COUNTED:
            del self._failures[next(iter(self._failures))]
        return failures

    def _is_over(self, stored: Stored[DestinationState] | None) -> bool:
        """True if an answer ends what is on record: an open breaker, or a rest whose time has come."""
        if stored is None or stored.value.disabled_at is not None:
            return False
        return stored.value.opens_at is not None or not self._is_resting(stored.value)

    def _is_resting(self, state: DestinationState) -> bool:
        return state.rests_until is not None and self._clock.now() < state.rests_until
