"""The faults of one life: when they come, how long they stay, whom they strike. Drawn from the seed, before it begins.

Nothing here depends on what the keeper does: the judge goes by it.
"""

from dataclasses import dataclass, field, replace
from random import Random

from soak.intervals import HOUR, MINUTE, Span, Spans

TENANTS = (
    "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11",
    "c4d8a1e2-6f3b-4b7a-8d90-5e1f2a3b4c5d",
    "0f5e7d3c-2b1a-4c6d-9e8f-7a6b5c4d3e2f",
)
TICK = 15 * MINUTE  # KEEP_ALIVE_SCHEDULE: 0 */15 * * * *
GROUPS = ("timer", "queue", "http")  # Flex Consumption: each in instances of its own
ARMED = 2 * MINUTE  # within which a process that is to die does so, whatever it does
BACK = 10 * MINUTE  # after which a dead process's messages come back at the latest
RETRY_AFTER = (("1.5", 1.5), ("40", 40.0), ("300", 300.0), ("", 2.0))  # as Graph writes it, and in seconds
LONGEST_RETRY_AFTER = 300.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: minutes between two on average (0: never), how many they last, how they show."""

    every: float
    shortest: float
    longest: float
    modes: tuple[str, ...] = ("",)
    where: tuple[str, ...] = ("",)
    at_ticks: bool = False  # each comes with the next tick of the timer, a minute before it

    def spans(self, random: Random, hours: float, intensity: float) -> Spans:
        """Draw them for a whole life."""
        found: list[Span] = []
        if not self.every or not intensity:
            return Spans()
        at = self._begin(random.expovariate(intensity / self.every))
        while at < hours * 60:
            end = min(at + random.uniform(self.shortest, self.longest), hours * 60)
            found.append(Span(at * MINUTE, end * MINUTE, random.choice(self.modes), random.choice(self.where)))
            at = self._begin(end + random.expovariate(intensity / self.every))
        return Spans(found)

    def _begin(self, at: float) -> float:
        return (at * MINUTE // TICK + 1) * TICK / MINUTE - 1 if self.at_ticks else at


GRAPH_MODES = ("500", "503", "slow", "429", "hangs", "lost", "mixed", "mixed", "page", "refused", "broken")
TENANT_MODES = ("403", "403", "slow", "429", "401", "noToken", "503", "hangs")


@dataclass(frozen=True, slots=True)
class Climate:
    """What a life may meet. Times in minutes, but for `hours` and `clock_off`, in seconds."""

    hours: float = 24
    calls: int = 50
    intensities: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    storage: Kind = Kind(300, 1, 20, ("away", "flaky", "slow"), ("tables", "queues", "both"))
    graph: Kind = Kind(240, 1, 25, GRAPH_MODES)
    tenant: Kind = Kind(300, 1, 25, TENANT_MODES, TENANTS)
    timer_paused: Kind = Kind(300, 14, 40)
    timer_doubled: Kind = Kind(300, 15, 120)
    timer_dies: float = 0.3
    queue_loses: Kind = Kind(400, 5, 60)
    queue_stands: Kind = Kind(400, 2, 40)
    queue_doubles: Kind = Kind(400, 5, 60)
    quiet: Kind = Kind(300, 10, 120)
    kills: Kind = Kind(240, 2, 2)
    asked_by: tuple[str, ...] = (
        "nobody",
        "scheduler",
        "operator",
    )  # of a life: who asks for sweeps, POST /api/keep-alive
    operator_asks: float = 60.0  # on average
    clock_off: float = 120.0
    queues: int = 2
    https: int = 2
    concurrency: tuple[int, ...] = (4, 32)
    fan_out_above: int = 20_000
    graph_seconds: float = 0.15
    lives: float = 4.0  # hours that a call lasts on average
    request_every: float = 0.75
    one_shard: bool = False  # all calls in one shard, one after the other
    short: float = 0.15  # the share of calls that last minutes
    deaf: float = 0.3  # the share of calls whose notifications go to their bot alone
    unseen: float = 0.1  # the share of calls that Graph does not find at first
    late: float = 0.1  # the share of bots that register late
    unregistered: float = 0.1  # the share of calls of which notifications alone tell, of those that are not deaf
    heard: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0)  # of a life: the share of notifications that are lost, or late


@dataclass(frozen=True, slots=True)
class Kill:
    """A process dies: at its so-many-th request from `at` on, before or after it had its effect, or 2 minutes later.

    Or `by_steps`: after so many steps of the loop, between any two awaits of all that runs.
    """

    at: float
    group: str
    number: int
    after_effect: bool
    down: float
    by_steps: bool


@dataclass(frozen=True, slots=True)
class Weather:
    """The schedule of faults of one life."""

    climate: Climate
    storage: Spans
    graph: Spans
    tenant: dict[str, Spans]
    timer_paused: Spans
    timer_doubled: Spans
    queue_loses: Spans
    queue_stands: Spans
    queue_doubles: Spans
    quiet: Spans
    kills: tuple[Kill, ...]
    asks: tuple[float, ...]  # when somebody asks for a sweep
    asks_always: bool  # that is an outside scheduler
    seconds: float = field(default=0.0)

    def tally(self) -> int:
        """How many faults there are."""
        kinds = (self.storage, self.graph, self.timer_paused, self.timer_doubled, self.queue_loses, self.queue_stands)
        several = (*kinds, self.queue_doubles, self.quiet, *self.tenant.values())
        return sum(len(spans.all) for spans in several) + len(self.kills)


def forecast(seed: int, climate: Climate) -> Weather:
    """The faults of a seed. Each kind has randomness of its own, so that changing one does not change the others."""

    def drawn(name: str) -> Spans:
        random = Random(f"{seed}/{name}")
        kind: Kind = getattr(climate, name)
        return kind.spans(random, climate.hours, random.choice(climate.intensities))

    tenants: list[Span] = list(drawn("tenant"))
    asks, asks_always = _asks(seed, climate)
    return Weather(
        climate,
        storage=drawn("storage"),
        graph=drawn("graph"),
        tenant={tenant: Spans(span for span in tenants if span.where == tenant) for tenant in TENANTS},
        timer_paused=_paused(seed, climate, drawn("timer_paused")),
        timer_doubled=drawn("timer_doubled"),
        queue_loses=drawn("queue_loses"),
        queue_stands=drawn("queue_stands"),
        queue_doubles=drawn("queue_doubles"),
        quiet=drawn("quiet"),
        kills=_kills(seed, climate),
        asks=asks,
        asks_always=asks_always,
        seconds=climate.hours * HOUR,
    )


def _paused(seed: int, climate: Climate, drawn: Spans) -> Spans:
    """The pauses of the timer; in some lives it is dead from some moment on."""
    random = Random(f"{seed}/timer dies")
    if random.random() >= climate.timer_dies:
        return drawn
    death = random.random() * climate.hours * HOUR
    before = [replace(span, end=min(span.end, death)) for span in drawn if span.start < death]
    return Spans([*before, Span(death, climate.hours * HOUR, "dead")])


def _asks(seed: int, climate: Climate) -> tuple[tuple[float, ...], bool]:
    """When sweeps are asked for: each quarter of an hour by an outside scheduler, or now and then by an operator."""
    random = Random(f"{seed}/asks")
    who, end = random.choice(climate.asked_by), climate.hours * HOUR
    times, at = [], random.random() * TICK
    while who != "nobody" and at < end:
        times.append(at)
        at += TICK if who == "scheduler" else random.expovariate(1 / climate.operator_asks) * MINUTE
    return tuple(times), who == "scheduler"


def _kills(seed: int, climate: Climate) -> tuple[Kill, ...]:
    found: list[Kill] = []
    for group in GROUPS:
        random = Random(f"{seed}/kills/{group}")
        for span in climate.kills.spans(random, climate.hours, random.choice(climate.intensities)):
            at = span.start
            if random.random() < 0.6:
                at = (at // TICK + 1) * TICK - 1
            down = random.choice((1.0, 20.0, 110.0))
            by_steps = random.random() < 0.5
            number = int(random.expovariate(1 / (300 if by_steps else 60)))
            found.append(Kill(at, group, number, random.random() < 0.5, down, by_steps))
    return tuple(sorted(found, key=lambda kill: (kill.at, kill.group)))
