"""Spans of time, in seconds of a life: what is out of order from when to when. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MINUTE = 60.0
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to `end`; `mode` says what is out of order, `where` what it strikes."""

    start: float
    end: float
    mode: str = ""
    where: str = ""


class Spans:
    """Spans in order of their start, none of which overlaps another."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self.all = tuple(sorted(spans, key=lambda span: span.start))
        self._starts = [span.start for span in self.all]

    def __iter__(self) -> Iterator[Span]:
        return iter(self.all)

    def at(self, moment: float) -> Span | None:
        """The span that holds this moment."""
        place = bisect_right(self._starts, moment) - 1
        return self.all[place] if place >= 0 and moment < self.all[place].end else None


def union(*several: Iterable[Span]) -> Spans:
    """What any of them covers."""
    merged: list[Span] = []
    for span in sorted((span for spans in several for span in spans), key=lambda span: span.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(Span(span.start, span.end))
    return Spans(merged)


def stretched(spans: Iterable[Span], *, before: float = 0.0, after: float = 0.0) -> list[Span]:
    """Each of them longer, in seconds."""
    return [Span(span.start - before, span.end + after, span.mode, span.where) for span in spans]


def gaps(bad: Spans, start: float, end: float) -> Iterator[tuple[float, float]]:
    """The parts of a stretch of time that no span covers, in order."""
    at = start
    for span in bad.all[max(bisect_right([it.start for it in bad.all], start) - 1, 0) :]:
        if span.start >= end:
            break
        if span.start > at:
            yield at, span.start
        at = max(at, span.end)
    if at < end:
        yield at, end
