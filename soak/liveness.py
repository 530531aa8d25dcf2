"""When a call must not lapse: the condition of docs/reliability.md, computed from the schedule of faults alone.

What the keeper did plays no part in it; else taking a wake-up from it would excuse the lapses that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from soak.cloud import LEASE
from soak.spans import MINUTE, Span, Spans, gaps, stretched, union
from soak.weather import ARMED, BACK, LONGEST_RETRY_AFTER, TENANTS, TICK, Weather

SKEW = 4 * MINUTE  # two clocks, each off by two
FRESH = 3 * MINUTE + SKEW  # a tick may find another's sweep that is as old as this, and leave the shard alone
SWEEP = 2 * MINUTE  # a sweep, where all answer
STALE = 20 * MINUTE + SKEW
RETRIES = 8 * MINUTE  # the longest pause between two retries

BY_TIMER = TICK + FRESH + SWEEP
BY_TIMER_AND_RETRIES = TICK + FRESH + 6 * MINUTE
BY_SWITCH = STALE + 20 * MINUTE
BY_REQUESTS = STALE + 16 * MINUTE
BY_RETRIES = RETRIES + 1.5 * MINUTE  # of it Graph must answer as long as this
AFTER_GRAPH = LONGEST_RETRY_AFTER + MINUTE  # 429's wait, and the spread of what waited
CHAIN = 16 * MINUTE  # a retry that was lost may have been due as late as this


@dataclass(frozen=True, slots=True)
class Path:
    """A way by which a call is renewed: what must not be out of order, for how long, and Graph at the end of it."""

    name: str
    bad: Spans
    window: float
    graph: float


class Liveness:
    """The condition for one life."""

    def __init__(self, weather: Weather) -> None:
        tables = [span for span in weather.storage if span.where in {"tables", "both"}]
        queue = [
            *[span for span in weather.storage if span.where in {"queues", "both"}],
            *weather.queue_stands,
            *_kills(weather, "queue", BACK),
        ]
        loses = list(weather.queue_loses)
        posted = union(tables, queue, loses)
        timer = union(tables, weather.timer_paused, _kills(weather, "timer", 0))
        if weather.climate.fan_out_above < weather.climate.calls:  # the timer leaves its work to the queue
            timer = union(timer, posted)
        requests = union(posted, weather.quiet, _kills(weather, "http", 0))
        retried = union(tables, queue, stretched(loses, after=CHAIN))
        both = union(timer, retried)
        broken = list(_broken(loses, union(timer, queue), requests, weather.seconds))
        self.timer = timer
        self.queue = posted
        self.paths = (
            Path("timer", timer, BY_TIMER, BY_TIMER),
            Path("timer and retries", both, BY_TIMER_AND_RETRIES, BY_RETRIES),
            Path("switch", union(retried, broken), BY_SWITCH, BY_RETRIES),
            Path("requests", union(requests, retried), BY_REQUESTS, BY_RETRIES),
        )
        self.graph = {
            tenant: union(
                stretched(weather.graph, after=AFTER_GRAPH), stretched(weather.tenant[tenant], after=AFTER_GRAPH)
            )
            for tenant in TENANTS
        }

    def saves(self, tenant: str, start: float, end: float) -> str | None:
        """The path by which a call of this tenant must have been renewed in that time; None if there was none."""
        return next((path.name for path in self.paths if self._fits(path, self.graph[tenant], start, end)), None)

    def share(self, seconds: float, *, step: float = 5 * MINUTE) -> tuple[int, int]:
        """Of how many moments and tenants the lease before would have been saved, and of how many in all."""
        moments = [LEASE + step * number for number in range(int((seconds - LEASE) / step))]
        held = sum(self.saves(tenant, at - LEASE, at) is not None for at in moments for tenant in TENANTS)
        return held, len(moments) * len(TENANTS)

    def found_by(self, tenant: str, start: float, end: float) -> bool:
        """Whether timer, storage and Graph were fine all that time."""
        return _clear(self.timer, start, end) and _clear(self.graph[tenant], start, end)

    def queue_clear(self, start: float, end: float) -> bool:
        """Whether the queue delivered everything all that time."""
        return _clear(self.queue, start, end)

    @staticmethod
    def _fits(path: Path, graph: Spans, start: float, end: float) -> bool:
        for good_from, good_to in gaps(path.bad, start, end):
            if good_to - good_from < path.window:
                continue
            for answers_from, answers_to in gaps(graph, good_from, good_to):
                until = answers_to
                if until - good_from >= path.window and until - answers_from >= path.graph:
                    return True
        return False


def _clear(bad: Spans, start: float, end: float) -> bool:
    return next(gaps(bad, start, end), None) == (start, end)


def _kills(weather: Weather, group: str, after: float) -> list[Span]:
    """The times about a process's death: from when it may come until the next one is there."""
    return [Span(kill.at, kill.at + ARMED + kill.down + after) for kill in weather.kills if kill.group == group]


def _broken(loses: list[Span], timer: Spans, requests: Spans, seconds: float) -> Iterator[Span]:
    """From when a dead man's switch may be lost until a sweep by another path must have left one again."""
    for span in loses:
        ends = [
            good_from + window
            for bad, window in ((timer, BY_TIMER), (requests, BY_REQUESTS))
            for good_from, good_to in gaps(bad, span.end, seconds)
            if good_to - good_from >= window
        ]
        yield Span(span.start, min(ends, default=seconds + LEASE))
