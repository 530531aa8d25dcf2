"""The relay's part of a fault profile and of a fault schedule: faults of bots, of the queue `relay`, of processes."""

from dataclasses import dataclass
from random import Random

from soak.fault_kinds import FaultKind, Kill
from soak.intervals import HOUR, MINUTE, Intervals, union

INSTANCES = ("a", "b", "c")  # of the bot: the values of `to`
BOT, LOG, ENDS = "bot", "log", "ends"  # the targets: Graph's requests; all our events; `call.ended` alone
DESTINATIONS = (*(f"{BOT}/{instance}" for instance in INSTANCES), LOG, ENDS)
RELAY_GROUPS = ("relay", "relay_timer")  # Flex Consumption runs each function that is no HTTP in instances of its own
MODES = (
    *("down", "down", "slow", "flapping", "hangs", "lost", "stray", "500", "503", "429"),
    *("refuses", "refuses", "gone", "401 once", "redirects", "mixed"),
)
REFUSED_KINDS = ("established", "participants", "call.ended", "call.established")
ENABLED_AFTER = 10 * MINUTE  # at most, after the end of a fault `gone`: an operator enables the target


@dataclass(frozen=True, slots=True)
class RelayProfile:
    """The faults and the traffic of the relay. A share is a probability from 0 to 1."""

    target: FaultKind = FaultKind(120, 1, 20, MODES)  # of each destination
    dead: tuple[tuple[str, str], ...] = ()  # destinations that never work, each with its mode
    timer_paused: FaultKind = FaultKind(120, 2, 30)
    queue_loses: FaultKind = FaultKind(120, 2, 30)
    queue_stalls: FaultKind = FaultKind(120, 2, 20)
    queue_duplicates: FaultKind = FaultKind(120, 5, 60)
    no_token: FaultKind = FaultKind(240, 1, 15)
    kills: FaultKind = FaultKind(40, 0, 0)  # of the processes `http`, `relay` and `relay_timer`, each kind alone
    processes: int = 2  # of the queue `relay`
    update_interval: float = 8.0  # mean time between two updates of a call, in minutes
    burst_share: float = 0.2  # of updates: several at once
    several_share: float = 0.1  # of bodies: they are about several calls
    question_share: float = 0.1  # of bodies: they have a notification that wants an answer
    duplicate_share: float = 0.1  # of bodies: Graph sends them twice
    old_bearer_share: float = 0.2  # of bodies: Graph's bearer ends soon, or has just ended
    query_share: float = 0.7  # of calls: the callback has `?to=`
    no_to_share: float = 0.03  # of calls: neither the callback nor the registration names an instance


@dataclass(frozen=True, slots=True)
class RelaySchedule:
    """All faults of the relay in one run. Times in seconds since its start."""

    profile: RelayProfile
    destinations: dict[str, Intervals]
    refused_kinds: dict[str, str]
    timer_paused: Intervals
    queue_loses: Intervals
    queue_stalls: Intervals
    queue_duplicates: Intervals
    no_token: Intervals
    enables: tuple[tuple[float, str], ...]  # when an operator enables which target

    def mode(self, destination: str, now: float) -> str:
        """Return how the destination behaves now, "" if it is well."""
        for name, mode in self.profile.dead:
            if name == destination:
                return mode
        fault = self.destinations[destination].at(now)
        return fault.mode if fault else ""

    def count_faults(self) -> int:
        """Return the number of faults."""
        others = (self.timer_paused, self.queue_loses, self.queue_stalls, self.queue_duplicates, self.no_token)
        return sum(len(each.all) for each in (*self.destinations.values(), *others)) + len(self.profile.dead)


def draw_relay(seed: int, profile: RelayProfile, hours: float, intensities: tuple[float, ...]) -> RelaySchedule:
    """Draw the faults of the relay. Each kind has its own stream of random numbers, as in `fault_schedule.draw`."""

    def drawn(kind: FaultKind, stream: str) -> Intervals:
        random = Random(f"{seed}/relay/{stream}")
        return kind.draw(random, hours, random.choice(intensities))

    destinations = {name: drawn(profile.target, name) for name in DESTINATIONS}
    random = Random(f"{seed}/relay/refused kinds")
    refused = {name: random.choice(REFUSED_KINDS[:2] if "/" in name else REFUSED_KINDS[2:]) for name in DESTINATIONS}
    gone = union(*([each for each in found if each.mode == "gone"] for found in destinations.values()))
    enables = [
        (min(each.end, hours * HOUR) + random.random() * ENABLED_AFTER, name.partition("/")[0])
        for name, found in destinations.items()
        for each in found
        if each.mode == "gone"
    ]
    # The last one comes when no destination answers 410 any more, so that none stays switched off by a race.
    last = max((each.end for each in gone), default=0.0) + ENABLED_AFTER
    enables += [(last + random.random() * MINUTE, name) for name in sorted({target for _, target in enables})]
    return RelaySchedule(
        profile,
        destinations,
        refused,
        timer_paused=drawn(profile.timer_paused, "timer"),
        queue_loses=drawn(profile.queue_loses, "loses"),
        queue_stalls=drawn(profile.queue_stalls, "stalls"),
        queue_duplicates=drawn(profile.queue_duplicates, "duplicates"),
        no_token=drawn(profile.no_token, "no token"),
        enables=tuple(sorted(enables)),
    )


def draw_relay_kills(
    seed: int, profile: RelayProfile, hours: float, intensities: tuple[float, ...]
) -> tuple[Kill, ...]:
    """Draw the deaths of processes while they deliver."""
    found: list[Kill] = []
    for group in ("http", *RELAY_GROUPS):
        random = Random(f"{seed}/relay/kills/{group}")
        for interval in profile.kills.draw(random, hours, random.choice(intensities)):
            by_steps = random.random() < 0.5
            number = int(random.expovariate(1 / (60 if by_steps else 8)))
            found.append(
                Kill(interval.start, group, number, random.random() < 0.5, random.choice((1.0, 20.0)), by_steps)
            )
    return tuple(found)
