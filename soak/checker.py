"""The checker: holds a run to the promises of docs/reliability.md, at each write, each end and each lapse of a call."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.domain.calls import Call, Status, TerminationSource
from shared.domain.leases import Timing, Watermark
from shared.storage.store import shard_of
from soak.backoff_checker import MAX_EARLY
from soak.fault_kinds import TICK
from soak.intervals import MINUTE
from soak.liveness import LivenessCondition
from soak.process import START
from soak.virtual_graph import VirtualCall, VirtualGraph
from soak.virtual_storage import CallWrite

TIMING = Timing()
YOUNG = 6 * MINUTE  # a 404 in the first minutes of a call is asked again
MAX_WATCHDOGS = 24  # messages on the queue
MAX_WATCHDOGS_WITHOUT_OUTAGES = 12  # of them, if storage never fails and the queue never stalls
MAX_MESSAGES = 1_000  # on the queue


@dataclass
class Findings:
    """The result of one run. Times in seconds."""

    seed: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    margin: float = float("inf")  # the smallest of any renewal while the condition held
    smallest_margin: float = float("inf")  # of any renewal
    digest: str = ""
    latencies: list[tuple[str, float]] = field(default_factory=list)  # by destination: until the bot first took it


@dataclass(slots=True)
class RecordedCall:
    """A call at Graph, its record in the store, and when the record came."""

    virtual: VirtualCall
    record: Call
    since: float
    shard: int


class Checker:
    """Sees every write of every process, and what happens at Graph.

    Parameters
    ----------
    findings
        Gets the violations and counts.
    graph
        Knows the truth about each call.
    liveness
        Says when a lapse is a violation.
    now
        Returns the seconds since the start of the run.
    trace
        Adds a line to the trace of the run.
    """

    def __init__(
        self,
        findings: Findings,
        graph: VirtualGraph,
        liveness: LivenessCondition,
        now: Callable[[], float],
        trace: Callable[..., None],
    ) -> None:
        self._findings = findings
        self._graph = graph
        self._liveness = liveness
        self._now = now
        self._trace = trace
        self._watermarks: dict[int, Watermark] = {}
        self.recorded: dict[str, RecordedCall] = {}
        self._active: dict[int, dict[str, RecordedCall]] = {}
        self._ended_events: Counter[str] = Counter()

    def on_commit(self, written: CallWrite) -> None:
        """Check the write of a call."""
        record, virtual = written.call, self._graph.calls[written.call.id]
        recorded = self.recorded.get(record.id)
        if recorded is None:
            recorded = self.recorded[record.id] = RecordedCall(virtual, record, self._now(), shard_of(record.id))
        was_active = written.before is not Status.ENDED
        recorded.record = record
        self._ended_events[record.id] += sum(event.kind == "ended" for event in written.events)
        if record.status is Status.ENDED:
            self._active.get(recorded.shard, {}).pop(record.id, None)
            if was_active:
                self._check_closing(virtual, record, new=written.before is None)
            if self._ended_events[record.id] > 1:
                self._add_violation("closed twice", record.id)
        else:
            self._active.setdefault(recorded.shard, {})[record.id] = recorded
            self._check_claim(recorded, self._watermarks.get(recorded.shard))

    def on_watermark(self, shard: int, watermark: Watermark) -> None:
        """Check the write of a watermark: each renewal that it claims must have happened."""
        self._watermarks[shard] = watermark
        self._findings.counts["watermarks"] += 1
        for recorded in self._active.get(shard, {}).values():
            self._check_claim(recorded, watermark)

    def on_keep_alive(self, call: VirtualCall) -> None:
        """Record the margin of a keepAlive that has reached Graph, before the new lease begins."""
        now, recorded = self._now(), self.recorded.get(call.id)
        self._findings.counts["keepAlives"] += 1
        left = call.lapses - now
        self._findings.smallest_margin = min(self._findings.smallest_margin, left)
        if (
            left < self._findings.margin
            and recorded
            and self._liveness.find_path(call.tenant, max(call.renewed, recorded.since), call.lapses)
        ):
            self._findings.margin = left

    def on_end(self, call: VirtualCall) -> None:
        """Check the end of a call at Graph: a lapse is a violation if a path was open."""
        counts, recorded = self._findings.counts, self.recorded.get(call.id)
        counts["ends"] += 1
        self._trace("Graph", "ends", call.id, call.cause)
        if call.cause != "lapsed":
            return
        path = self._find_path(call, recorded)
        counts["lapses excused"] += recorded is not None and not path
        counts["lapses unknown"] += recorded is None and not path
        if path:
            self._add_violation(f"lapsed, though this path was open: {path}", call.id)

    def _find_path(self, call: VirtualCall, recorded: RecordedCall | None) -> str | None:
        """Return the path that could have renewed a call that lapses, None if there was none."""
        first = max(call.registered or 0, call.reported or 0)
        came_first = first > call.renewed and (recorded is None or recorded.since >= first)
        if came_first and (path := self._liveness.find_first_path(call)):
            return path
        if recorded is None:
            return None
        start = max(call.renewed, recorded.since)
        return self._liveness.find_path(
            call.tenant, start, self._now(), self._count_before(call), self._count_in_shard(call, start)
        )

    def check_end_found(self, call: VirtualCall) -> None:
        """Check that an end is on record, a sweep period and 60 seconds after it, if there was no fault."""
        recorded = self.recorded.get(call.id)
        if recorded is None or call.ended is None or recorded.since > call.ended:
            return
        start, end = call.ended - self._liveness.fresh - TICK, self._now()
        size = self._count_in_shard(call, start)
        if start < 0 or not self._liveness.must_find_end(call.tenant, start, end, size):
            return
        # Without a true start the keeper must take the call for new when its record comes.
        began = call.started if call.registered is not None else recorded.since
        if call.ended - began < YOUNG + self._liveness.skew and not self._liveness.is_queue_clear(start, end):
            return
        termination = recorded.record.termination
        by_notification = termination and termination.source is TerminationSource.NOTIFICATION
        self._findings.counts["ends in time"] += not by_notification
        if recorded.record.status is not Status.ENDED:
            self._add_violation("its end was not found within a sweep period and 60 s", call.id)

    def check_queue(self, watchdogs: int, messages: int) -> None:
        """Check the number of messages on the queue, and of those of the watchdog among them."""
        counts = self._findings.counts
        counts["most watchdogs"] = max(counts["most watchdogs"], watchdogs)
        counts["most messages"] = max(counts["most messages"], messages)
        bound = MAX_WATCHDOGS if self._liveness.has_queue_faults else MAX_WATCHDOGS_WITHOUT_OUTAGES
        if watchdogs > bound or messages > MAX_MESSAGES:
            self._add_violation("the queue grows", f"{watchdogs} watchdogs, {messages} messages")

    def on_function_timeout(self, process: str) -> None:
        """Record that the host ended a function after five minutes, and its process with it."""
        self._findings.counts["function time-outs"] += 1
        self._add_violation("a function took as long as the host allows", process)

    def on_early_keep_alive(self, process: str, count: int) -> None:
        """Check how many keepAlives a process has sent for a tenant during one backoff."""
        self._findings.counts["most early"] = max(self._findings.counts["most early"], count)
        if count == MAX_EARLY + 1:
            self._add_violation("sends keepAlives for a tenant that has to wait", process)

    def check_final_state(self) -> None:
        """Check, an hour after the last fault, that records and Graph agree, except ends that no sweep can know yet."""
        for recorded in self.recorded.values():
            ended = recorded.virtual.ended
            if ended is not None and self._now() - ended < TICK + self._liveness.fresh + MINUTE:
                continue
            if (ended is None) != (recorded.record.status is Status.ACTIVE):
                self._add_violation("at the end of the run its record and Graph differ", recorded.virtual.id)

    def _check_closing(self, call: VirtualCall, record: Call, *, new: bool) -> None:
        counts, source = self._findings.counts, record.termination and str(record.termination.source)
        counts["closed"] += 1
        counts[f"closed by {source}"] += 1
        call.times_closed += 1
        if call.ended is None:
            self._add_violation("closed while Graph held it", call.id)
        if source not in call.evidence:
            self._add_violation(f"closed without evidence from Graph ({source})", call.id)
        if call.times_closed > 1:
            self._add_violation("closed twice", call.id)
        self._trace("record", "tombstone" if new else "ended", call.id, source)

    def _count_before(self, call: VirtualCall) -> int:
        """Return how many active calls of the shard have an earlier deadline."""
        active = self._active.get(shard_of(call.id), {}).values()
        return sum(each.virtual.renewed < call.renewed for each in active)

    def _count_in_shard(self, call: VirtualCall, start: float) -> int:
        """Return how many calls of the shard were alive at `start` or are alive now, whichever is more."""
        shard = shard_of(call.id)
        recorded = [each for each in self.recorded.values() if each.shard == shard]
        return max(
            sum(each.since <= at and (each.virtual.ended is None or each.virtual.ended >= at) for each in recorded)
            for at in (start, self._now())
        )

    def _check_claim(self, recorded: RecordedCall, watermark: Watermark | None) -> None:
        """Check that record and watermark claim no renewal that Graph did not see, within the skew of one clock.

        The start of a call is its bot's claim, or the time at which its record came. Neither is ours.
        """
        claimed = _seconds(recorded.record.lease.last_renewal(watermark, TIMING))
        true = max(recorded.virtual.renewed, _seconds(recorded.record.started_at))
        if claimed > true + self._liveness.skew / 2 + 1:
            self._add_violation(
                f"claims a renewal {(claimed - true) / MINUTE:.1f} minutes after the last one", recorded.virtual.id
            )

    def _add_violation(self, what: str, subject: str) -> None:
        at = START + timedelta(seconds=self._now())
        self._findings.violations.append(f"{at:%d %H:%M:%S} {subject}: {what}")
        self._trace("CHECKER", "violation", subject, what)


def _seconds(moment: datetime) -> float:
    return (moment - START).total_seconds()
