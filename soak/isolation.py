"""The isolation of bots: how much longer the others wait if one bot answers nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from soak.fault_schedule import FaultProfile
from soak.runner import runs

MAX_WORSE = 1.10  # times the p99 without the dead bot
BUSY_CALLS, BUSY_INTERVAL = 30, 2.0  # calls, and minutes between their updates: else a p99 rests on a few deliveries


@dataclass(frozen=True, slots=True)
class Heard:
    """The p99 of the time until a bot that is well hears, in seconds, and of how many deliveries."""

    p99: float
    deliveries: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Heard":
        """Return the p99 of these times."""
        return cls(sorted(seconds)[int(len(seconds) * 0.99)], len(seconds))


@dataclass(frozen=True, slots=True)
class Isolation:
    """The times of the bots that are well: beside dead ones, and if all are well.

    Notifications come in the webhook; events of sweeps through the queue, whose workers the dead bots keep busy.
    """

    notifications: tuple[Heard, Heard]
    events: tuple[Heard, Heard]
    violations: int

    @property
    def ratio(self) -> float:
        """The p99 beside dead bots divided by the other, of notifications or events, whichever is worse."""
        return max(beside.p99 / well.p99 for beside, well in (self.notifications, self.events))

    @property
    def is_kept(self) -> bool:
        """True if the others wait at most a tenth longer, and no run had a violation."""
        return self.ratio <= MAX_WORSE and not self.violations


def measure_isolation(profile: FaultProfile, seeds: Iterable[int], workers: int) -> Isolation:
    """Run the same seeds with the dead bots of a profile and with all bots well, and compare the others."""
    assert profile.relay is not None  # noqa: S101 - the caller chooses a profile of the relay
    dead = {name for name, _ in profile.relay.dead}
    notifications, events = list[Heard](), list[Heard]()
    violations = 0
    for each in (profile.relay.dead, ()):
        relay = replace(profile.relay, dead=each, update_interval=BUSY_INTERVAL)
        findings = list(runs(seeds, replace(profile, calls=BUSY_CALLS, relay=relay), workers))
        heard = [(name, seconds) for one in findings for name, seconds in one.latencies if name not in dead]
        notifications.append(Heard.of([seconds for name, seconds in heard if "/" in name]))
        events.append(Heard.of([seconds for name, seconds in heard if "/" not in name]))
        violations += sum(len(one.violations) for one in findings)
    return Isolation((notifications[0], notifications[1]), (events[0], events[1]), violations)
