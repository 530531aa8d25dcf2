"""The checker of a run on real processes: compares Call Keeper's API with the simulator's records.

It does not know how Call Keeper keeps calls alive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from soak.fault_schedule import FaultProfile, draw
from soak.liveness import LivenessCondition
from soak.real import LEASE, SPEED
from soak.real.bots import BotCall
from soak.real.world import Notification, SimulatedCall, StoredCall, World

LAPSED = (408, 8537)
NOT_FOUND = {"keepAliveNotFound", "hangupNotFound", "lookupNotFound"}
PATHS = {path.name: path for path in LivenessCondition(draw(0, FaultProfile(hours=1))).paths}
TIMER = timedelta(seconds=PATHS["timer"].window)
REQUESTS, REQUESTS_TAIL = (timedelta(seconds=each) for each in (PATHS["requests"].window, PATHS["requests"].tail))
MAX_DRIFT = timedelta(minutes=2)  # between the clocks of the simulator and of this machine during a run


@dataclass(frozen=True, slots=True)
class FaultInterval:
    """The simulated time of a fault: of Graph, of our own processes, or of disabled timers."""

    start: datetime
    end: datetime
    kind: Literal["graph", "ours", "timersDisabled"] = "ours"


@dataclass
class Findings:
    """The result of a run."""

    violations: list[str] = field(default_factory=list)
    unknown: int = 0  # calls that lapsed before they were reported to Call Keeper
    excused: list[str] = field(default_factory=list)  # lapses while the condition did not hold
    ended: int = 0
    with_reason: int = 0  # of them: with the reason of Graph's notification
    margin: timedelta = timedelta(minutes=LEASE)  # the smallest rest of a lease at its renewal


class Checker:
    """Checks each call at the end of a run.

    Parameters
    ----------
    world
        Knows the calls at Graph and in Call Keeper.
    faults
        When there were faults, in simulated time.
    now
        The real time, to convert real times into simulated ones.
    """

    def __init__(self, world: World, faults: Sequence[FaultInterval], now: datetime) -> None:
        self._world = world
        self._faults = faults
        self._simulated_now, self._now = world.simulated_now(), now
        self.findings = Findings()

    def check(self, calls: Sequence[BotCall]) -> Findings:
        """Check the lists of all calls, then each call."""
        ended, active = self._list("ended"), self._list("active")
        for call_id in {each for each in ended if ended.count(each) > 1} | set(ended) & set(active):
            self._add_violation(call_id, "is listed more than once")
        for call in calls:
            self._check_call(call, self._world.simulated_call(call.id), self._world.stored_call(call.id))
        return self.findings

    def is_settled(self, calls: Sequence[BotCall]) -> bool:
        """True if each known call that has ended at Graph is ended on record."""
        ended = {call.id for call in self._world.simulated_calls([call.id for call in calls]) if call.over}
        return not ended.intersection(self._list("active"))

    def _check_call(self, call: BotCall, simulated: SimulatedCall, stored: StoredCall | None) -> None:
        since, lapsed = self._known_since(call, simulated), _has_lapsed(simulated)
        if since is None or (lapsed and simulated.ended_at and since > simulated.ended_at):
            self.findings.unknown += lapsed  # Call Keeper knew nothing of the call, or only its end
            return
        if stored is None:
            self._add_violation(call.id, "was acknowledged, but is not on record")
            return
        self._record_margin(simulated)
        if lapsed:
            self._check_lapse(simulated, since)
        if simulated.over:
            self._check_end(simulated, stored)
        elif stored.status != "active":
            self._add_violation(call.id, f"is active at Graph, but {stored.status} on record")
        if call.hung_up and not simulated.over:
            self._add_violation(call.id, "is active, although its hang-up was acknowledged")

    def _check_lapse(self, simulated: SimulatedCall, since: datetime) -> None:
        """Add a violation if a path was open for long enough while the lease ran and the call was known."""
        assert simulated.ended_at is not None
        renewed = simulated.lease.renewed_at
        times = f"known {since:%H:%M:%S}, last renewed {renewed:%H:%M:%S}, ended {simulated.ended_at:%H:%M:%S}"
        if self._has_open_path(max(since, renewed), simulated.ended_at):
            self._add_violation(simulated.id, f"lapsed: {times}")
        else:
            self.findings.excused.append(f"call {simulated.id} lapsed, but no path was open for long enough: {times}")

    def _check_end(self, simulated: SimulatedCall, stored: StoredCall) -> None:
        """Check that an ended call is ended on record, with the reason of its notification if one was accepted."""
        end = stored.termination
        if end is None:
            self._add_violation(simulated.id, "has ended at Graph, but is active on record")
            return
        self.findings.ended += 1
        codes, notification = (end.code, end.subcode), _end_notification(simulated)
        has_reason = (end.source, codes) == ("notification", (simulated.code, simulated.subcode))
        self.findings.with_reason += has_reason
        if not has_reason and notification and notification.acknowledged:
            notified = f"{simulated.code}/{simulated.subcode}"
            self._add_violation(
                simulated.id, f"was notified to have ended with {notified}, but has {end.source} {codes}"
            )
        elif not has_reason and (end.source not in NOT_FOUND or codes != (None, None)):
            self._add_violation(simulated.id, f"has an end without evidence: {end.source} {codes}")
        if simulated.ended_at and self._to_simulated(end.ended_at) < simulated.ended_at - MAX_DRIFT:
            self._add_violation(simulated.id, f"was closed before Graph ended it, {simulated.ended_at:%H:%M:%S}")
        if [event.kind for event in self._world.events(simulated.id)].count("ended") > 1:
            self._add_violation(simulated.id, "was closed more than once")

    def _known_since(self, call: BotCall, simulated: SimulatedCall) -> datetime | None:
        """Return when Call Keeper first acknowledged the call, to its bot or to Graph. None if it never did."""
        times = [attempt.at for sent in simulated.notifications for attempt in sent.attempts if attempt.status == 202]
        if call.acknowledged:
            times.append(self._to_simulated(call.acknowledged))
        return min(times, default=None)

    def _record_margin(self, simulated: SimulatedCall) -> None:
        end = [] if _has_lapsed(simulated) else [simulated.ended_at or self._world.simulated_now()]
        times = [simulated.started_at, *simulated.keep_alive_times, *end]
        longest = max((later - earlier for earlier, later in pairwise(times)), default=timedelta())
        self.findings.margin = min(self.findings.margin, timedelta(minutes=LEASE) - longest)

    def _has_open_path(self, start: datetime, end: datetime) -> bool:
        """True if the path *timer* was open, or the path *requests* (requests come all the time)."""
        if any(gap.end - gap.start >= TIMER for gap in self._gaps(start, end, {"graph", "ours", "timersDisabled"})):
            return True
        return any(
            tail.end - tail.start >= REQUESTS_TAIL
            for gap in self._gaps(start, end, {"ours"})
            for tail in self._gaps(gap.start + REQUESTS - REQUESTS_TAIL, gap.end, {"graph", "ours"})
        )

    def _gaps(self, start: datetime, end: datetime, kinds: set[str]) -> list[FaultInterval]:
        """Return the times from `start` to `end` without faults of these kinds."""
        found, at = [], start
        for fault in sorted(self._faults, key=lambda each: each.start):
            if fault.kind in kinds and fault.end > at and fault.start < end:
                found.append(FaultInterval(at, fault.start))
                at = fault.end
        return [*found, FaultInterval(at, end)]

    def _to_simulated(self, real: datetime) -> datetime:
        return self._simulated_now + (real - self._now) * SPEED

    def _list(self, status: str) -> list[str]:
        found: list[str] = []
        more = ""
        while True:
            page = self._world.request_ok("GET", f"/calls?status={status}&limit=100{more}").json()
            found += [call["id"] for call in page["value"]]
            if not page.get("continuation"):
                return found
            more = f"&continuation={page['continuation']}"

    def _add_violation(self, call_id: str, what: str) -> None:
        self.findings.violations.append(f"call {call_id} {what}")


def _has_lapsed(simulated: SimulatedCall) -> bool:
    return (simulated.code, simulated.subcode) == LAPSED


def _end_notification(simulated: SimulatedCall) -> Notification | None:
    """Return the notification of the end of a call, None if there is none."""
    sent = simulated.notifications
    return next((each for each in sent if each.state == "terminated" or each.change_type == "deleted"), None)
