"""The faults of a run on real processes. Each is a generator that begins it, yields its description, and ends it."""

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random

from azure.storage.queue import QueueClient

from soak.real import MINUTE
from soak.real.bots import TENANTS
from soak.real.world import World

TIMERS_DISABLED = {"AzureWebJobs.keep_alive_timer.Disabled": "true"}
THIRD_OF_A_LEASE = 15  # minutes
TICK = 15  # minutes between two ticks of the timers
FAULTS_WITHOUT_TIMERS = 2  # how many faults come while the timers are disabled
GRAPH_FAULT_SHARE = 0.3  # of the other faults: one of Graph's comes with them

type Begin = Callable[[Context], Iterator[str]]


@dataclass
class Context:
    """The world that faults act on, and their random numbers."""

    world: World
    random: Random
    settings: dict[str, str] = field(default_factory=dict)  # of the hosts that start from now on

    @property
    def timers_disabled(self) -> bool:
        """True if the last deployment has disabled the timers."""
        return bool(self.settings)

    @contextmanager
    def fault(self, **members: object) -> Generator[None]:
        """Add a fault to the simulator for the block."""
        fault = self.world.fault(**members)
        try:
            yield
        finally:
            self.world.control("DELETE", f"/faults/{fault}")

    def wait_for_sweep(self) -> None:
        """Wait until keepAlives are sent, which are slowed a little, but not longer than until the next tick."""
        with self.fault(operation="keepAlive", delaySeconds=0.2 * 60):
            before, until = _count_keep_alives(self.world), time.monotonic() + TICK * MINUTE
            while _count_keep_alives(self.world) == before and time.monotonic() < until:
                time.sleep(0.05)


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and its longest duration in simulated minutes. 0: it has no duration."""

    begin: Begin
    max_minutes: float

    @property
    def name(self) -> str:
        """The name in the summary."""
        return self.begin.__name__.replace("_", " ")


def one_host_killed(context: Context) -> Iterator[str]:
    """Kill a host with SIGKILL during a sweep, and start it again."""
    number = context.random.randrange(len(context.world.stack.hosts))
    context.wait_for_sweep()
    context.world.stack.hosts[number].child.kill()
    yield f"host {number + 1} is killed during a sweep"
    context.world.stack.hosts[number].start(**context.settings)


def both_hosts_killed(context: Context) -> Iterator[str]:
    """Kill both hosts with SIGKILL during a sweep, and start them again."""
    context.wait_for_sweep()
    for host in context.world.stack.hosts:
        host.child.kill()
    yield "both hosts are killed during a sweep"
    for host in context.world.stack.hosts:
        host.start(**context.settings)


def storage_stopped(context: Context) -> Iterator[str]:
    """Stop storage, so that it refuses connections, and start it again with its data."""
    context.wait_for_sweep()
    with context.world.storage_stopped():
        yield "storage stops during a sweep and refuses connections"


def storage_silent(context: Context) -> Iterator[str]:
    """Suspend storage, so that it accepts connections and answers nothing."""
    with context.world.storage_outage():
        yield "storage accepts requests and answers none"


def one_host_suspended(context: Context) -> Iterator[str]:
    """Suspend a host during a sweep. When it continues, what it knows is out of date."""
    number = context.random.randrange(len(context.world.stack.hosts))
    context.wait_for_sweep()
    child = context.world.stack.hosts[number].child
    child.send(signal.SIGSTOP)
    yield f"host {number + 1} is suspended during a sweep, and continues later"
    child.send(signal.SIGCONT)


def graph_unavailable(context: Context) -> Iterator[str]:
    """Let Graph answer every request with 503."""
    with context.fault(status=503):
        yield "Graph answers 503"


def graph_throttles(context: Context) -> Iterator[str]:
    """Let Graph answer one tenant with 429."""
    tenant, seconds = context.random.choice(TENANTS), context.random.choice((0.5, 1, 3))
    with context.fault(tenantId=tenant, status=429, retryAfter=seconds):
        yield f"Graph answers 429 to one tenant, Retry-After {seconds:g}"


def graph_drops_connections(context: Context) -> Iterator[str]:
    """Let Graph cut half of the connections before the work, and half of the others after it."""
    with (
        context.fault(dropConnection=True, probability=0.5),
        context.fault(dropConnection=True, responseOnly=True, probability=0.5),
    ):
        yield "Graph cuts three of four connections, some of them after its work"


def graph_slow(context: Context) -> Iterator[str]:
    """Let Graph answer late, and half of the requests later than our time-out."""
    with context.fault(delaySeconds=5 * 60, probability=0.5), context.fault(delaySeconds=60):
        yield "Graph answers late, half of the requests after our time-out"


def no_tokens(context: Context) -> Iterator[str]:
    """Let Entra answer 503. Tokens in our cache are still valid."""
    with context.fault(operation="token", status=503):
        yield "Entra issues no token"


def messages_lost(context: Context) -> Iterator[str]:
    """Empty the queue: retries, sweeps of shards and the watchdog are lost."""
    connection = context.world.stack.storage.connection_string
    with QueueClient.from_connection_string(connection, "keep-alive") as queue:
        queue.clear_messages()
    yield "all messages on the queue are lost"


def keys_rotated(context: Context) -> Iterator[str]:
    """Sign all notifications with new keys. Entra publishes its old keys for some time."""
    context.world.control("POST", "/keys/rotate", {"kind": "notification"})
    context.world.control("POST", "/keys/rotate", {"kind": "entra", "keepOld": True})
    yield "Graph and Entra sign with new keys"


def tokens_changed(context: Context) -> Iterator[str]:
    """Change the kind of the notifications' tokens, until the next such change."""
    kind = context.random.choice(("entra", "entraV1", "legacy"))
    context.world.control("PUT", "/delivery", {"token": kind})
    yield f"notifications change to tokens of the kind {kind}"


def timers_switched(context: Context) -> Iterator[str]:
    """Deploy hosts whose timers are disabled while HTTP works; or, if they are, hosts whose timers fire again."""
    context.settings = {} if context.timers_disabled else TIMERS_DISABLED
    for host in context.world.stack.hosts:
        host.child.stop()
    yield f"a deployment: from now on the timers {'are disabled' if context.timers_disabled else 'fire again'}"
    for host in context.world.stack.hosts:
        host.start(**context.settings)


GRAPH_FAULTS = (
    Fault(graph_unavailable, THIRD_OF_A_LEASE),
    Fault(graph_throttles, 12),
    Fault(graph_drops_connections, 12),
    Fault(graph_slow, 10),
    Fault(no_tokens, 10),
)
SWITCH_TIMERS = Fault(timers_switched, 0)
OUR_FAULTS = (
    Fault(one_host_killed, 8),
    Fault(both_hosts_killed, 5),
    Fault(one_host_suspended, 10),
    Fault(storage_stopped, 8),
    Fault(storage_silent, 8),
    SWITCH_TIMERS,
    Fault(messages_lost, 0),
    Fault(keys_rotated, 0),
    Fault(tokens_changed, 0),
)


class FaultDeck:
    """Draws one fault after the other. Each kind comes once before any comes again.

    While the timers are disabled only Graph has faults, because the condition then needs all other paths.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._deck: list[Fault] = []
        self._drawn_without_timers = 0

    def draw(self) -> tuple[Fault, ...]:
        """Draw the next fault, sometimes with a second one, of Graph."""
        random = self._context.random
        if self._context.timers_disabled:
            self._drawn_without_timers += 1
            if self._drawn_without_timers <= FAULTS_WITHOUT_TIMERS:
                return (random.choice(GRAPH_FAULTS),)
            self._drawn_without_timers = 0
            return (SWITCH_TIMERS,)
        if not self._deck:
            self._deck = random.sample([*OUR_FAULTS, *GRAPH_FAULTS], len(OUR_FAULTS) + len(GRAPH_FAULTS))
        first = self._deck.pop()
        if first in OUR_FAULTS and random.random() < GRAPH_FAULT_SHARE:
            return first, random.choice(GRAPH_FAULTS)
        return (first,)


def inflict(context: Context, faults: tuple[Fault, ...], report: Callable[[str], None]) -> None:
    """Begin these faults, report each, let them last, and end them."""
    longest = min((fault.max_minutes for fault in faults if fault.max_minutes), default=0)
    minutes = context.random.uniform(longest / 2, longest)
    with ExitStack() as active:
        for fault in reversed(faults):
            what = active.enter_context(contextmanager(fault.begin)(context))
            report(f"{what}, for {minutes:.0f} minutes" if fault.max_minutes else what)
        time.sleep(minutes * MINUTE)


def _count_keep_alives(world: World) -> int:
    counts = world.control("GET", "/requests?limit=1").json()["counts"]
    return int(counts.get("keepAlive", {}).get("total", 0))
