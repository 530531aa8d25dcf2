"""Holds the promise against what happens: at each write, at each end of a call, at each moment that a lease lapses."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.domain.calls import Call, Status, TerminationSource
from shared.domain.leases import Timing, Watermark
from shared.storage.store import shard_of
from soak.cloud import Cloud, Held
from soak.liveness import Liveness
from soak.manners import MOST_EARLY
from soak.spans import MINUTE
from soak.storage import CallWrite
from soak.weather import TICK
from soak.wire import START

TIMING = Timing()
YOUNG = 6 * MINUTE  # a 404 in so short a life is asked again
MOST_SWITCHES = 24
MOST_IN_CALM = 12  # of them, where storage never fails and the queue never stands still
MOST_WAITING = 1_000


@dataclass
class Findings:
    """What came out of one life. Times in seconds."""

    seed: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    margin: float = float("inf")  # the least that a lease had left when it was renewed, while the condition held
    least: float = float("inf")  # the same, whatever the weather
    digest: str = ""


@dataclass(slots=True)
class Known:
    """What the store holds of a call, and since when."""

    held: Held
    call: Call
    since: float
    shard: int


class Judge:
    """Sees every write of every process."""

    def __init__(
        self, findings: Findings, cloud: Cloud, liveness: Liveness, now: Callable[[], float], tell: Callable[..., None]
    ) -> None:
        self._findings = findings
        self._cloud = cloud
        self._liveness = liveness
        self._now = now
        self._tell = tell
        self._watermarks: dict[int, Watermark] = {}
        self.known: dict[str, Known] = {}
        self._live: dict[int, dict[str, Known]] = {}
        self._ended_lines: Counter[str] = Counter()

    def committed(self, written: CallWrite) -> None:
        """A call was written."""
        call, held = written.call, self._cloud.calls[written.call.id]
        known = self.known.get(call.id)
        if known is None:
            known = self.known[call.id] = Known(held, call, self._now(), shard_of(call.id))
        was_active = written.before is not Status.ENDED
        known.call = call
        self._ended_lines[call.id] += sum(event.kind == "ended" for event in written.events)
        if call.status is Status.ENDED:
            self._live.get(shard_of(call.id), {}).pop(call.id, None)
            if was_active:
                self._closed(held, call, new=written.before is None)
            if self._ended_lines[call.id] > 1:
                self._violated("closed twice", call.id)
        else:
            self._live.setdefault(shard_of(call.id), {})[call.id] = known
            self._check_claim(known, self._watermarks.get(shard_of(call.id)))

    def swept(self, shard: int, watermark: Watermark) -> None:
        """A watermark was written: what it claims must be so."""
        self._watermarks[shard] = watermark
        self._findings.counts["watermarks"] += 1
        for known in self._live.get(shard, {}).values():
            self._check_claim(known, watermark)

    def kept(self, held: Held) -> None:
        """Graph got a keepAlive, just before the lease begins anew."""
        now, known = self._now(), self.known.get(held.id)
        self._findings.counts["keepAlives"] += 1
        left = held.lapses - now
        self._findings.least = min(self._findings.least, left)
        if (
            left < self._findings.margin
            and known
            and self._liveness.saves(held.tenant, max(held.lease_from, known.since), held.lapses)
        ):
            self._findings.margin = left

    def ended(self, held: Held) -> None:
        """Graph let a call go."""
        counts, known = self._findings.counts, self.known.get(held.id)
        counts["ends"] += 1
        self._tell("Graph", "ends", held.id, held.cause)
        if held.cause != "lapsed":
            return
        path = self._path(held, known)
        counts["lapses excused"] += known is not None and not path
        counts["lapses unknown"] += known is None and not path
        if path:
            self._violated(f"lapsed, though it could have been kept ({path})", held.id)

    def _path(self, held: Held, known: Known | None) -> str | None:
        """By which path a call that lapses could have been kept."""
        began = max(held.asked or 0, held.told or 0)
        if began > held.lease_from and (known is None or known.since >= began) and (path := self._liveness.began(held)):
            return path
        if known is None:
            return None
        start = max(held.lease_from, known.since)
        return self._liveness.saves(held.tenant, start, self._now(), self._rank(held), self._size(held, start))

    def due(self, held: Held) -> None:
        """A sweep period and 60 seconds after the end: by now it must be on record, if all was fine."""
        known = self.known.get(held.id)
        if known is None or held.ended is None or known.since > held.ended:
            return
        start, end = held.ended - self._liveness.fresh - TICK, self._now()
        if start < 0 or not self._liveness.found_by(held.tenant, start, end, self._size(held, start)):
            return
        met = held.started if held.asked is not None else known.since  # nobody told its age: it may have just begun
        if held.ended - met < YOUNG + self._liveness.skew and not self._liveness.queue_clear(start, end):
            return
        told = known.call.termination
        self._findings.counts["ends in time"] += told is None or told.source is not TerminationSource.NOTIFICATION
        if known.call.status is not Status.ENDED:
            self._violated("its end was not found within a sweep period and 60 s", held.id)

    def waiting(self, switches: int, messages: int) -> None:
        """So many messages are on the queue."""
        counts = self._findings.counts
        counts["most switches"] = max(counts["most switches"], switches)
        counts["most messages"] = max(counts["most messages"], messages)
        if switches > (MOST_SWITCHES if self._liveness.outages else MOST_IN_CALM) or messages > MOST_WAITING:
            self._violated("the queue grows", f"{switches} switches, {messages} messages")

    def overtime(self, process: str) -> None:
        """The host ended a function that took too long, and its process with it."""
        self._findings.counts["function time-outs"] += 1
        self._violated("a function took as long as the host allows", process)

    def early(self, process: str, many: int) -> None:
        """A process sent so many keepAlives for a tenant while it had to wait."""
        self._findings.counts["most early"] = max(self._findings.counts["most early"], many)
        if many == MOST_EARLY + 1:
            self._violated("asks on for a tenant that has to wait", process)

    def settle(self) -> None:
        """After an hour of peace: the record and Graph agree, but for ends that no sweep can have found yet."""
        for known in self.known.values():
            if known.held.ended is not None and self._now() - known.held.ended < TICK + self._liveness.fresh + MINUTE:
                continue
            if (known.held.ended is None) != (known.call.status is Status.ACTIVE):
                self._violated("the record and Graph differ in the end", known.held.id)

    def _closed(self, held: Held, call: Call, *, new: bool) -> None:
        counts, source = self._findings.counts, call.termination and str(call.termination.source)
        counts["closed"] += 1
        counts[f"closed by {source}"] += 1
        held.closed += 1
        if held.ended is None:
            self._violated("ended by us while Graph held it", held.id)
        if source not in held.words:
            self._violated(f"ended without Graph's word ({source})", held.id)
        if held.closed > 1:
            self._violated("closed twice", held.id)
        self._tell("record", "tombstone" if new else "ended", held.id, source)

    def _rank(self, held: Held) -> int:
        """How many calls of the shard come before it, the earliest deadline first."""
        live = self._live.get(shard_of(held.id), {}).values()
        return sum(each.held.lease_from < held.lease_from for each in live)

    def _size(self, held: Held, start: float) -> int:
        """How many calls of its shard were alive then, or are now, whatever is more."""
        shard = shard_of(held.id)
        known = [each for each in self.known.values() if each.shard == shard]
        return max(
            sum(each.since <= at and (each.held.ended is None or each.held.ended >= at) for each in known)
            for at in (start, self._now())
        )

    def _check_claim(self, known: Known, watermark: Watermark | None) -> None:
        """No renewal is claimed that Graph did not see, but for the clock of who wrote it.

        The start is a bot's word, or, where it gave none, the time at which it came: that is no claim of ours.
        """
        claimed = _seconds(known.call.lease.last_renewal(watermark, TIMING))
        true = max(known.held.lease_from, _seconds(known.call.started_at))
        if claimed > true + self._liveness.skew / 2 + 1:
            self._violated(
                f"claims a renewal {(claimed - true) / MINUTE:.1f} minutes after the last one", known.held.id
            )

    def _violated(self, what: str, who: str) -> None:
        at = START + timedelta(seconds=self._now())
        self._findings.violations.append(f"{at:%d %H:%M:%S} {who}: {what}")
        self._tell("JUDGE", "violation", who, what)


def _seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()
