"""Intervals of virtual time, in seconds since the start of a run, in which a fault lasts."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MINUTE = 60.0
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Interval:
    """The time from `start` up to `end`; `mode` says how the fault shows, `target` what it strikes."""

    start: float
    end: float
    mode: str = ""
    target: str = ""


class Intervals:
    """Intervals that do not overlap, in the order of their start."""

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self.all = tuple(sorted(intervals, key=lambda interval: interval.start))
        self._starts = [interval.start for interval in self.all]

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.all)

    def at(self, moment: float) -> Interval | None:
        """Return the interval that contains this moment, None if there is none."""
        index = bisect_right(self._starts, moment) - 1
        return self.all[index] if index >= 0 and moment < self.all[index].end else None


def union(*several: Iterable[Interval]) -> Intervals:
    """Return the time that at least one of the intervals covers."""
    merged: list[Interval] = []
    for interval in sorted((it for intervals in several for it in intervals), key=lambda it: it.start):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(Interval(interval.start, interval.end))
    return Intervals(merged)


def extended(intervals: Iterable[Interval], *, after: float) -> list[Interval]:
    """Return the intervals, each longer by `after` seconds at its end."""
    return [Interval(each.start, each.end + after, each.mode, each.target) for each in intervals]


def gaps(bad: Intervals, start: float, end: float) -> Iterator[tuple[float, float]]:
    """Yield the parts of the time from `start` to `end` that no interval covers, in order."""
    at = start
    for interval in bad.all[max(bisect_right([it.start for it in bad.all], start) - 1, 0) :]:
        if interval.start >= end:
            break
        if interval.start > at:
            yield at, interval.start
        at = max(at, interval.end)
    if at < end:
        yield at, end
