"""When a call must not lapse: the condition of docs/reliability.md, computed from the schedule of faults alone.

What the keeper did plays no part in it; else taking a wake-up from it would excuse the lapses that follow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from soak.fault_schedule import ARMED, BACK, LONGEST_RETRY_AFTER, TENANTS, TICK, Weather
from soak.intervals import MINUTE, Span, Spans, gaps, stretched, union
from soak.virtual_graph import LEASE, Held

FRESH = 3 * MINUTE
STALE = 20 * MINUTE
HANDED = 4 * MINUTE  # until a message is handed out, and what it asks for is done
UNHEARD = 5 * MINUTE  # until a request does itself what the queue does not
LOOKS = 8 * MINUTE  # a request looks at one shard of sixteen, once a minute
SWEEP = 2 * MINUTE  # a sweep, where all answer
TROUBLED = 6 * MINUTE  # a sweep until the first retries, where Graph does not
RETRIES = 8 * MINUTE  # the longest pause between two retries
SPREAD = 1.5 * MINUTE  # of retries, and until a message is handed out
AFTER_429 = LONGEST_RETRY_AFTER + MINUTE  # the wait that was asked for, and the spread of what waited
AFTER_SILENCE = 1.5 * MINUTE  # a tenant for which nobody answered waits a minute
CHAIN = 16 * MINUTE  # a retry that was lost may have been due as late as this
BUDGET = 4 * MINUTE  # SWEEP_BUDGET
LONGEST = 1.5 * BUDGET  # a sweep of a shard, for which two ticks are enough without the queue
LITTLE = 30 * MINUTE  # a call registered with less left of its lease is renewed at once


@dataclass(frozen=True, slots=True)
class Path:
    """A way by which a call is renewed: what must work for so long, and how long tables and Graph at the end of it."""

    name: str
    bad: Spans
    window: float
    answers: float


class Liveness:
    """The condition for one life."""

    def __init__(self, weather: Weather) -> None:
        self.skew = 2 * weather.climate.clock_off  # between two clocks
        self.fresh = FRESH + self.skew  # a tick may leave a shard alone, as another's sweep seems so young
        self._slow = weather.climate.graph_seconds / min(weather.climate.concurrency)
        tables = [span for span in weather.storage if span.where in {"tables", "both"}]
        queue = [
            *[span for span in weather.storage if span.where in {"queues", "both"}],
            *weather.queue_stands,
            *_kills(weather, "queue", BACK),
        ]
        loses = list(weather.queue_loses)
        posted = union(queue, loses)
        alone = timer = union(weather.timer_paused, _kills(weather, "timer", 0))
        wide = weather.climate.fan_out_above < weather.climate.calls
        if wide:  # the timer leaves its work to the queue, but for stale shards
            timer = union(timer, posted)
        requests = union(posted, weather.quiet, _kills(weather, "http", 0))
        retried = union(queue, stretched(loses, after=CHAIN))
        both = union(timer, retried)
        by_timer, retries = TICK + self.fresh + SWEEP, RETRIES + SPREAD
        by_switch, by_requests = STALE + self.skew + HANDED, STALE + self.skew + LOOKS
        mends = ((union(tables, timer, queue), by_timer), (union(tables, requests), by_requests))
        broken = list(_broken(loses, mends, weather.seconds))
        self.outages = bool(weather.storage.all or weather.queue_stands.all)
        self.timer = timer
        self.queue = posted
        self.paths: tuple[Path, ...] = (
            Path("timer", timer, by_timer, by_timer),
            Path("timer and retries", both, TICK + self.fresh + TROUBLED, retries),
            Path("switch", union(retried, broken), by_switch, retries),
            Path("requests", union(requests, retried), by_requests, retries),
        )
        if wide:
            by_itself = STALE + self.skew + TICK + SWEEP
            self.paths += (Path("timer alone", alone, by_itself, by_itself),)
        noticed = union(weather.quiet, _kills(weather, "http", 0))
        by_itself = STALE + UNHEARD + self.skew + LOOKS + SWEEP
        self.paths += (Path("requests alone", noticed, by_itself, by_itself),)
        if weather.asks_always:
            self.paths += (Path("scheduler", union(_kills(weather, "http", 0)), TICK + SWEEP, TICK + SWEEP),)
        self.beginnings: tuple[Path, ...] = (
            Path("registration", union(_kills(weather, "http", 0)), MINUTE, MINUTE),
            Path("first word without a start", union(posted, _kills(weather, "http", 0)), HANDED, HANDED),
        )
        self._silent = {
            tenant: union(tables, map(_with_wait, weather.graph), map(_with_wait, weather.tenant[tenant]))
            for tenant in TENANTS
        }

    def saves(self, tenant: str, start: float, end: float, rank: int = 0, size: int = 1) -> str | None:
        """The path by which a call of this tenant must have been renewed in that time; None if there was none.

        `rank` is the number of calls whose lease began before its own: they come first. `size` is that of its shard.
        """
        work = (rank + 1) * self._slow
        for path in self.paths:
            parts = int(work / BUDGET) if path.name == "timer" else 0  # without the queue the rest waits for a tick
            if path.name == "timer" and size * self._slow > LONGEST:
                continue
            if self._fits(path, self._silent[tenant], (start, end), work + parts * TICK):
                return path.name
        return None

    def began(self, held: Held) -> str | None:
        """The path by which a call that came to us in mid-life must have been renewed then; None if there was none.

        These begin at that very moment. A registration renews what has little left, by two clocks and a row that may
        be off: what has more is left to the other paths, which take less.
        """
        for path, at, little in zip(self.beginnings, (held.asked, held.told), (LITTLE - self.skew, LEASE), strict=True):
            if at is None or not at < held.lapses - path.window or held.lapses - at > little:
                continue
            if _clear(union(path.bad, self._silent[held.tenant]), at, at + path.window):
                return path.name
        return None

    def share(self, seconds: float, *, step: float = 5 * MINUTE) -> tuple[int, int]:
        """Of how many moments and tenants the lease before would have been saved, and of how many in all."""
        moments = [LEASE + step * number for number in range(int((seconds - LEASE) / step))]
        held = sum(self.saves(tenant, at - LEASE, at) is not None for at in moments for tenant in TENANTS)
        return held, len(moments) * len(TENANTS)

    def found_by(self, tenant: str, start: float, end: float, size: int) -> bool:
        """Whether timer, tables and Graph were fine all that time, and the sweep of so many calls is soon done."""
        return (
            size * self._slow <= MINUTE and _clear(self.timer, start, end) and _clear(self._silent[tenant], start, end)
        )

    def queue_clear(self, start: float, end: float) -> bool:
        """Whether the queue delivered everything all that time."""
        return _clear(self.queue, start, end)

    @staticmethod
    def _fits(path: Path, silent: Spans, between: tuple[float, float], longer: float) -> bool:
        window, answers = path.window + longer, path.answers + longer
        for good_from, good_to in gaps(path.bad, *between):
            if good_to - good_from < window:
                continue
            for answers_from, until in gaps(silent, good_from, good_to):
                if until - good_from >= window and until - answers_from >= answers:
                    return True
        return False


def _with_wait(span: Span) -> Span:
    """Trouble with Graph, and how long its calls wait after it."""
    return Span(span.start, span.end + (AFTER_429 if span.mode in {"429", "mixed"} else AFTER_SILENCE))


def _clear(bad: Spans, start: float, end: float) -> bool:
    return next(gaps(bad, start, end), None) == (start, end)


def _kills(weather: Weather, group: str, after: float) -> list[Span]:
    """The times about a process's death: from when it may come until the next one is there."""
    return [Span(kill.at, kill.at + ARMED + kill.down + after) for kill in weather.kills if kill.group == group]


def _broken(loses: list[Span], mends: tuple[tuple[Spans, float], ...], seconds: float) -> Iterator[Span]:
    """From when a dead man's switch may be lost until a sweep by another path must have left one again."""
    for span in loses:
        ends = [
            good_from + window
            for bad, window in mends
            for good_from, good_to in gaps(bad, span.end, seconds)
            if good_to - good_from >= window
        ]
        yield Span(span.start, min(ends, default=seconds + LEASE))
