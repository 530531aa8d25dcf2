"""The counts of a sweep, of one shard or of all."""

from dataclasses import dataclass
from datetime import timedelta

from shared.keeping.renewer import Outcome


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """The calls and shards of a sweep by what became of them, and its smallest margin.

    Attributes
    ----------
    renewed, ended, failing
        Calls, by the outcome of their keepAlive.
    purged
        Ended calls that were deleted after their retention.
    skipped, failed, handed_over
        Shards that were fresh, that could not be swept, and that were left to the queue.
    margin
        The shortest time that a lease had left when the sweep began; None if there was no call.
    """

    renewed: int = 0
    ended: int = 0
    failing: int = 0
    purged: int = 0
    skipped: int = 0
    failed: int = 0
    handed_over: int = 0
    margin: timedelta | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "SweepCounts":
        """Return the counts of one keepAlive. A throttled one counts for nothing: it is sent again."""
        match outcome:
            case Outcome.RENEWED:
                return cls(renewed=1)
            case Outcome.ENDED:
                return cls(ended=1)
            case Outcome.FAILING:
                return cls(failing=1)
            case Outcome.THROTTLED:
                return cls()

    def __add__(self, other: "SweepCounts") -> "SweepCounts":
        """Return the sums, and the smaller margin."""
        margins = [margin for margin in (self.margin, other.margin) if margin is not None]
        return SweepCounts(
            renewed=self.renewed + other.renewed,
            ended=self.ended + other.ended,
            failing=self.failing + other.failing,
            purged=self.purged + other.purged,
            skipped=self.skipped + other.skipped,
            failed=self.failed + other.failed,
            handed_over=self.handed_over + other.handed_over,
            margin=min(margins, default=None),
        )
