"""Holds the promises against what the simulator has on record. It knows nothing of how Call Keeper keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from soak.fault_schedule import Climate, forecast
from soak.liveness import Liveness
from soak.real import LEASE, SPEED
from soak.real.bots import Life
from soak.real.world import Known, Sent, Simulated, World

LAPSED = (408, 8537)
NOT_FOUND = {"keepAliveNotFound", "hangupNotFound", "lookupNotFound"}
# The condition of docs/reliability.md: one path open for so long, Graph in the last of it.
PATHS = {path.name: path for path in Liveness(forecast(0, Climate(hours=1))).paths}
TIMER = timedelta(seconds=PATHS["timer"].window)
REQUESTS, GRAPH = (timedelta(seconds=seconds) for seconds in (PATHS["requests"].window, PATHS["requests"].answers))
SLACK = timedelta(minutes=2)  # by how much the clocks of the simulator and of this machine may drift apart in a run


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in simulated time, and what was wrong: Graph's troubles, ours, timers that stood still."""

    start: datetime
    end: datetime
    kind: Literal["graph", "ours", "frozen"] = "ours"


@dataclass
class Findings:
    """What a run has shown."""

    violations: list[str] = field(default_factory=list)
    unknown: int = 0  # lapsed, and nobody had told Call Keeper
    excused: list[str] = field(default_factory=list)  # lapsed where the condition did not hold
    ended: int = 0
    told: int = 0  # of those: with Graph's own reason
    margin: timedelta = timedelta(minutes=LEASE)  # the least that a lease had left when it was renewed


class Judge:
    """Judges call by call, when all is done. `now` is the real time."""

    def __init__(self, world: World, troubles: Sequence[Span], now: datetime) -> None:
        self._world = world
        self._troubles = troubles
        self._simulated_now, self._now = world.simulated_now(), now
        self.findings = Findings()

    def judge(self, lives: Sequence[Life]) -> Findings:
        """Every call, and the lists of all of them."""
        ended, active = self._listed("ended"), self._listed("active")
        for call_id in {one for one in ended if ended.count(one) > 1} | set(ended) & set(active):
            self._broken(call_id, "is listed more than once")
        for life in lives:
            self._one(life, self._world.simulated(life.id), self._world.known(life.id))
        return self.findings

    def is_settled(self, lives: Sequence[Life]) -> bool:
        """Whether no known call that is over is still taken for alive."""
        over = {call.id for call in self._world.all_simulated([life.id for life in lives]) if call.over}
        return not over.intersection(self._listed("active"))

    def _one(self, life: Life, seen: Simulated, known: Known | None) -> None:
        since = self._known_since(life, seen)
        if since is None or ((seen.code, seen.subcode) == LAPSED and seen.ended_at and since > seen.ended_at):
            self.findings.unknown += (seen.code, seen.subcode) == LAPSED  # or its lapse was all that was told of it
            return
        if known is None:
            self._broken(life.id, "was acknowledged, and is not on record")
            return
        self._note_margin(seen)
        if (seen.code, seen.subcode) == LAPSED:
            self._lapsed(seen, since)
        if seen.over:
            self._closed(seen, known)
        elif known.status != "active":
            self._broken(life.id, f"is alive at Graph, and taken for {known.status}")
        if life.hung_up and not seen.over:
            self._broken(life.id, "was to be hung up, which was acknowledged, and is alive")

    def _lapsed(self, seen: Simulated, since: datetime) -> None:
        """A violation, unless no path was open for long enough while the lease ran and the call was known."""
        assert seen.ended_at is not None
        known = max(since, seen.lease.renewed_at)
        times = f"known {since:%H:%M:%S}, last renewed {seen.lease.renewed_at:%H:%M:%S}, over {seen.ended_at:%H:%M:%S}"
        if self._could_be_kept(known, seen.ended_at):
            self._broken(seen.id, f"lapsed: {times}")
        else:
            self.findings.excused.append(f"call {seen.id} lapsed, and no path was open for long enough: {times}")

    def _closed(self, seen: Simulated, known: Known) -> None:
        """It must be closed: with the reason that was told, or without one if none came through."""
        end = known.termination
        if end is None:
            self._broken(seen.id, "is over, and taken for alive")
            return
        self.findings.ended += 1
        codes, last = (end.code, end.subcode), _word_of_the_end(seen)
        is_told = (end.source, codes) == ("notification", (seen.code, seen.subcode))
        self.findings.told += is_told
        if not is_told and last and last.acknowledged:
            self._broken(
                seen.id, f"was told to have ended with {seen.code}/{seen.subcode}, and shows {end.source} {codes}"
            )
        elif not is_told and (end.source not in NOT_FOUND or codes != (None, None)):
            self._broken(seen.id, f"has an end that nobody told: {end.source} {codes}")
        if seen.ended_at and self._simulated(end.ended_at) < seen.ended_at - SLACK:
            self._broken(seen.id, f"was closed before Graph ended it, {seen.ended_at:%H:%M:%S}")
        if [event.kind for event in self._world.story(seen.id)].count("ended") > 1:
            self._broken(seen.id, "was closed more than once")

    def _known_since(self, life: Life, seen: Simulated) -> datetime | None:
        """Since when Call Keeper has known it: the first acknowledgement, of the bot or of Graph."""
        times = [attempt.at for sent in seen.notifications for attempt in sent.attempts if attempt.status == 202]
        if life.acknowledged:
            times.append(self._simulated(life.acknowledged))
        return min(times, default=None)

    def _note_margin(self, seen: Simulated) -> None:
        end = [] if (seen.code, seen.subcode) == LAPSED else [seen.ended_at or self._world.simulated_now()]
        times = [seen.started_at, *seen.keep_alive_times, *end]
        longest = max((later - earlier for earlier, later in pairwise(times)), default=timedelta())
        self.findings.margin = min(self.findings.margin, timedelta(minutes=LEASE) - longest)

    def _could_be_kept(self, start: datetime, end: datetime) -> bool:
        """The condition: the timers' path, or that of requests (which come all the time) with Graph in its end."""
        if any(gap.end - gap.start >= TIMER for gap in self._gaps(start, end, {"graph", "ours", "frozen"})):
            return True
        return any(
            tail.end - tail.start >= GRAPH
            for gap in self._gaps(start, end, {"ours"})
            for tail in self._gaps(gap.start + REQUESTS - GRAPH, gap.end, {"graph", "ours"})
        )

    def _gaps(self, start: datetime, end: datetime, kinds: set[str]) -> list[Span]:
        """The stretches in between without trouble of these kinds."""
        found, at = [], start
        for span in sorted(self._troubles, key=lambda it: it.start):
            if span.kind in kinds and span.end > at and span.start < end:
                found.append(Span(at, span.start))
                at = span.end
        return [*found, Span(at, end)]

    def _simulated(self, real: datetime) -> datetime:
        return self._simulated_now + (real - self._now) * SPEED

    def _listed(self, status: str) -> list[str]:
        found: list[str] = []
        more = ""
        while True:
            page = self._world.ask("GET", f"/calls?status={status}&limit=100{more}").json()
            found += [call["id"] for call in page["value"]]
            if not page.get("continuation"):
                return found
            more = f"&continuation={page['continuation']}"

    def _broken(self, call_id: str, what: str) -> None:
        self.findings.violations.append(f"call {call_id} {what}")


def _word_of_the_end(seen: Simulated) -> Sent | None:
    """The notification that told of it."""
    return next((one for one in seen.notifications if one.state == "terminated" or one.change_type == "deleted"), None)
