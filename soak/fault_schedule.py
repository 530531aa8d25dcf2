"""The fault schedule of one run: when each fault begins, how long it lasts, what it strikes.

The schedule is drawn from the seed before the run begins. It does not depend on what the keeper does, so the checker
can decide from it alone when a lapse is a violation.
"""

from dataclasses import dataclass, field, replace
from random import Random

from soak.fault_kinds import TICK, FaultKind, Kill
from soak.intervals import HOUR, MINUTE, Interval, Intervals
from soak.relay_faults import RelayProfile, RelaySchedule, draw_relay, draw_relay_kills

APP_ID = "5c1f0b7e-90f4-4a57-a1a2-3d0e7c9b6f21"
TENANTS = (
    "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11",
    "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d",
    "0f5e7d3c-2b1a-4c6d-9e8f-7a6b5c4d3e2f",
)
GROUPS = ("timer", "queue", "http")  # Flex Consumption runs each kind of function in instances of its own
MAX_REDELIVERY = 10 * MINUTE  # the messages of a killed process come back within this time
RETRY_AFTER = (("1.5", 1.5), ("40", 40.0), ("300", 300.0), ("", 2.0))  # the header of a 429, and its seconds
MAX_RETRY_AFTER = 300.0


GRAPH_MODES = ("500", "503", "slow", "429", "hangs", "lost", "mixed", "mixed", "page", "refused", "broken")
TENANT_MODES = ("403", "403", "slow", "429", "401", "noToken", "503", "hangs")


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """The faults and the workload that a run can get. A share is a probability from 0 to 1.

    If a field has several values, one of them is drawn for each run (`intensities`: for each kind of fault).
    """

    hours: float = 24
    calls: int = 50  # alive at any time
    intensities: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    storage: FaultKind = FaultKind(300, 1, 20, ("away", "flaky", "slow"), ("tables", "queues", "both"))
    graph: FaultKind = FaultKind(240, 1, 25, GRAPH_MODES)
    tenant: FaultKind = FaultKind(300, 1, 25, TENANT_MODES, TENANTS)
    timer_paused: FaultKind = FaultKind(300, 14, 40)
    timer_doubled: FaultKind = FaultKind(300, 15, 120)
    timer_death_share: float = 0.3  # of runs: the timer stops at some moment and stays stopped
    queue_loses: FaultKind = FaultKind(400, 5, 60)
    queue_stalls: FaultKind = FaultKind(400, 2, 40)  # the queue delivers nothing
    queue_duplicates: FaultKind = FaultKind(400, 5, 60)
    no_requests: FaultKind = FaultKind(300, 10, 120)
    kills: FaultKind = FaultKind(240, 2, 2)
    sweep_requesters: tuple[str, ...] = ("none", "scheduler", "operator")  # who calls POST /api/keep-alive
    operator_interval: float = 60.0  # mean, in minutes
    max_clock_offset: float = 120.0  # of a process, in seconds
    queue_processes: int = 2
    http_processes: int = 2
    concurrency: tuple[int, ...] = (4, 32)
    fan_out_threshold: int = 20_000
    graph_latency: float = 0.15  # mean, in seconds
    mean_call_hours: float = 4.0
    request_interval: float = 0.75  # mean time between two other requests to the API, in minutes
    one_shard: bool = False  # all calls are in one shard
    short_share: float = 0.15  # of calls: they last minutes
    no_notification_share: float = 0.3  # of calls: Graph notifies only their bot
    early_404_share: float = 0.1  # of calls: Graph does not find them at first
    late_share: float = 0.1  # of calls: they become known to Call Keeper late
    unregistered_share: float = 0.1  # of calls with notifications: only notifications report them
    notification_fault_shares: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0)  # of notifications: lost, or late
    retention_hours: float = 8.0  # ENDED_CALL_RETENTION
    relay: RelayProfile | None = None  # None: it is off


@dataclass(frozen=True, slots=True)
class FaultSchedule:
    """All faults of one run. Times in seconds since its start."""

    profile: FaultProfile
    storage: Intervals
    graph: Intervals
    tenant: dict[str, Intervals]
    timer_paused: Intervals
    timer_doubled: Intervals
    queue_loses: Intervals
    queue_stalls: Intervals
    queue_duplicates: Intervals
    no_requests: Intervals
    kills: tuple[Kill, ...]
    sweep_requests: tuple[float, ...]  # when POST /api/keep-alive comes
    has_scheduler: bool  # True if an outside scheduler sends these requests
    seconds: float = field(default=0.0)  # duration of the run
    relay: RelaySchedule | None = None

    def count_faults(self) -> int:
        """Return the number of faults."""
        kinds = (self.storage, self.graph, self.timer_paused, self.timer_doubled, self.queue_loses, self.queue_stalls)
        several = (*kinds, self.queue_duplicates, self.no_requests, *self.tenant.values())
        of_relay = self.relay.count_faults() if self.relay else 0
        return sum(len(intervals.all) for intervals in several) + len(self.kills) + of_relay


def draw(seed: int, profile: FaultProfile) -> FaultSchedule:
    """Draw the fault schedule of a seed.

    Each kind of fault has its own stream of random numbers, so that a change to one does not change the others. The
    names of the streams define what a seed means: if one changes, all seeds draw other faults.
    """

    def drawn(kind: FaultKind, stream: str) -> Intervals:
        random = Random(f"{seed}/{stream}")
        return kind.draw(random, profile.hours, random.choice(profile.intensities))

    tenants: list[Interval] = list(drawn(profile.tenant, "tenant"))
    sweep_requests, has_scheduler = _draw_sweep_requests(seed, profile)
    kills, relay = _draw_kills(seed, profile), None
    if profile.relay:
        relay = draw_relay(seed, profile.relay, profile.hours, profile.intensities)
        more = draw_relay_kills(seed, profile.relay, profile.hours, profile.intensities)
        kills = tuple(sorted((*kills, *more), key=lambda kill: (kill.at, kill.group)))
    return FaultSchedule(
        profile,
        storage=drawn(profile.storage, "storage"),
        graph=drawn(profile.graph, "graph"),
        tenant={tenant: Intervals(each for each in tenants if each.target == tenant) for tenant in TENANTS},
        timer_paused=_with_timer_death(seed, profile, drawn(profile.timer_paused, "timer_paused")),
        timer_doubled=drawn(profile.timer_doubled, "timer_doubled"),
        queue_loses=drawn(profile.queue_loses, "queue_loses"),
        queue_stalls=drawn(profile.queue_stalls, "queue_stands"),
        queue_duplicates=drawn(profile.queue_duplicates, "queue_doubles"),
        no_requests=drawn(profile.no_requests, "quiet"),
        kills=kills,
        sweep_requests=sweep_requests,
        has_scheduler=has_scheduler,
        seconds=profile.hours * HOUR,
        relay=relay,
    )


def _with_timer_death(seed: int, profile: FaultProfile, pauses: Intervals) -> Intervals:
    """Return the pauses of the timer. In some runs the last one begins at the timer's death and does not end."""
    random = Random(f"{seed}/timer dies")
    if random.random() >= profile.timer_death_share:
        return pauses
    death = random.random() * profile.hours * HOUR
    before = [replace(pause, end=min(pause.end, death)) for pause in pauses if pause.start < death]
    return Intervals([*before, Interval(death, profile.hours * HOUR, "dead")])


def _draw_sweep_requests(seed: int, profile: FaultProfile) -> tuple[tuple[float, ...], bool]:
    """Draw when sweeps are requested: every 15 minutes by a scheduler, irregularly by an operator, or never."""
    random = Random(f"{seed}/asks")
    requester, end = random.choice(profile.sweep_requesters), profile.hours * HOUR
    times, at = [], random.random() * TICK
    while requester != "none" and at < end:
        times.append(at)
        at += TICK if requester == "scheduler" else random.expovariate(1 / profile.operator_interval) * MINUTE
    return tuple(times), requester == "scheduler"


def _draw_kills(seed: int, profile: FaultProfile) -> tuple[Kill, ...]:
    """Draw the kills of all groups. 6 in 10 come a second before a tick, so that they strike during a sweep."""
    found: list[Kill] = []
    for group in GROUPS:
        random = Random(f"{seed}/kills/{group}")
        for interval in profile.kills.draw(random, profile.hours, random.choice(profile.intensities)):
            at = interval.start
            if random.random() < 0.6:
                at = (at // TICK + 1) * TICK - 1
            down = random.choice((1.0, 20.0, 110.0))
            by_steps = random.random() < 0.5
            number = int(random.expovariate(1 / (300 if by_steps else 60)))
            found.append(Kill(at, group, number, random.random() < 0.5, down, by_steps))
    return tuple(sorted(found, key=lambda kill: (kill.at, kill.group)))
