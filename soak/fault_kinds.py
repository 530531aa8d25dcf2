"""One kind of fault: how often it comes, how long it lasts, and how it shows; and the death of a process."""

from dataclasses import dataclass
from random import Random

from soak.intervals import MINUTE, Interval, Intervals

TICK = 15 * MINUTE  # KEEP_ALIVE_SCHEDULE: 0 */15 * * * *
MAX_KILL_DELAY = 2 * MINUTE  # a process that is to be killed dies within this time, whatever it does


@dataclass(frozen=True, slots=True)
class FaultKind:
    """The frequency, duration and modes of one kind of fault.

    Parameters
    ----------
    every
        Mean time between two faults, in minutes. 0: the fault never comes.
    shortest, longest
        Bounds of its duration, in minutes.
    modes
        The ways in which it can show. Each fault shows in one of them.
    targets
        What it can strike. Each fault strikes one of them.
    at_ticks
        True if each fault begins a minute before a tick of the timer.
    """

    every: float
    shortest: float
    longest: float
    modes: tuple[str, ...] = ("",)
    targets: tuple[str, ...] = ("",)
    at_ticks: bool = False

    def draw(self, random: Random, hours: float, intensity: float) -> Intervals:
        """Draw the faults of a whole run. `intensity` multiplies how often they come."""
        found: list[Interval] = []
        if not self.every or not intensity:
            return Intervals()
        at = self._begin(random.expovariate(intensity / self.every))
        while at < hours * 60:
            end = min(at + random.uniform(self.shortest, self.longest), hours * 60)
            found.append(Interval(at * MINUTE, end * MINUTE, random.choice(self.modes), random.choice(self.targets)))
            at = self._begin(end + random.expovariate(intensity / self.every))
        return Intervals(found)

    def _begin(self, at: float) -> float:
        return (at * MINUTE // TICK + 1) * TICK / MINUTE - 1 if self.at_ticks else at


@dataclass(frozen=True, slots=True)
class Kill:
    """The death of one process of a group, `at` seconds into the run; a new one starts `down` seconds later.

    If `by_steps`, the process dies `number` steps of the event loop later, so between any two awaits. Otherwise it
    dies at its `number`-th request, before or after the effect of that request. In both cases it dies after
    `MAX_KILL_DELAY` at the latest.
    """

    at: float
    group: str
    number: int
    after_effect: bool
    down: float
    by_steps: bool
