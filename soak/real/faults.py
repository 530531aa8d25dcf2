"""What goes wrong: each trouble a context that begins it, says what it is, and ends it."""

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

FROZEN = {"AzureWebJobs.keep_alive_timer.Disabled": "true"}
THIRD_OF_A_LEASE = 15  # minutes
SWEEPS = 15  # minutes between two ticks of the timers
WHILE_FROZEN = 2  # troubles
TOGETHER = 0.3  # how often Graph is in trouble while something else is

type Begin = Callable[[Scene], Iterator[str]]


@dataclass
class Scene:
    """What troubles act on."""

    world: World
    random: Random
    settings: dict[str, str] = field(default_factory=dict)  # what hosts are started with

    @property
    def frozen(self) -> bool:
        """Whether the timers stand still."""
        return bool(self.settings)

    @contextmanager
    def fault(self, **members: object) -> Generator[None]:
        """A fault of the simulator, for as long as the block lasts."""
        fault = self.world.fault(**members)
        try:
            yield
        finally:
            self.world.control("DELETE", f"/faults/{fault}")

    def wait_for_a_sweep(self) -> None:
        """Until keepAlives are under way, slowed a little; or for a sweep's period at most."""
        with self.fault(operation="keepAlive", delaySeconds=0.2 * 60):
            before, until = _keep_alives(self.world), time.monotonic() + SWEEPS * MINUTE
            while _keep_alives(self.world) == before and time.monotonic() < until:
                time.sleep(0.05)


@dataclass(frozen=True)
class Trouble:
    """A kind of trouble, and how many minutes it lasts at most; 0: it only happens."""

    begin: Begin
    most: float

    @property
    def name(self) -> str:
        """Its name in the summary."""
        return self.begin.__name__.replace("_", " ")


def one_host_killed(scene: Scene) -> Iterator[str]:
    """SIGKILL, in the middle of a sweep where there is one."""
    number = scene.random.randrange(len(scene.world.stack.hosts))
    scene.wait_for_a_sweep()
    scene.world.stack.hosts[number].child.kill()
    yield f"host {number + 1} is killed in mid-sweep"
    scene.world.stack.hosts[number].start(**scene.settings)


def both_hosts_killed(scene: Scene) -> Iterator[str]:
    """As above, and nobody is left."""
    scene.wait_for_a_sweep()
    for host in scene.world.stack.hosts:
        host.child.kill()
    yield "both hosts are killed in mid-sweep"
    for host in scene.world.stack.hosts:
        host.start(**scene.settings)


def storage_stopped(scene: Scene) -> Iterator[str]:
    """Connections are refused; the data is there again afterwards."""
    scene.wait_for_a_sweep()
    with scene.world.storage_stopped():
        yield "storage stops in mid-sweep: connections are refused"


def storage_silent(scene: Scene) -> Iterator[str]:
    """Connections are made, and nothing is answered."""
    with scene.world.storage_outage():
        yield "storage falls silent: it takes requests and answers none"


def one_host_stalled(scene: Scene) -> Iterator[str]:
    """A process that stands still and goes on: what it does then is out of date."""
    number = scene.random.randrange(len(scene.world.stack.hosts))
    scene.wait_for_a_sweep()
    child = scene.world.stack.hosts[number].child
    child.send(signal.SIGSTOP)
    yield f"host {number + 1} stands still in mid-sweep, and goes on later"
    child.send(signal.SIGCONT)


def graph_away(scene: Scene) -> Iterator[str]:
    """503 for everything."""
    with scene.fault(status=503):
        yield "Graph answers 503"


def graph_throttles(scene: Scene) -> Iterator[str]:
    """429 for one tenant."""
    tenant, seconds = scene.random.choice(TENANTS), scene.random.choice((0.5, 1, 3))
    with scene.fault(tenantId=tenant, status=429, retryAfter=seconds):
        yield f"Graph answers 429 to one tenant, Retry-After {seconds:g}"


def graph_drops(scene: Scene) -> Iterator[str]:
    """Most connections are cut, half of them after the work was done."""
    with (
        scene.fault(dropConnection=True, probability=0.5),
        scene.fault(dropConnection=True, responseOnly=True, probability=0.5),
    ):
        yield "Graph cuts three connections of four, some of them after its work"


def graph_crawls(scene: Scene) -> Iterator[str]:
    """Answers that come too late, often."""
    with scene.fault(delaySeconds=5 * 60, probability=0.5), scene.fault(delaySeconds=60):
        yield "Graph answers late, half of the time too late"


def no_tokens(scene: Scene) -> Iterator[str]:
    """Entra is away; tokens that are there still serve."""
    with scene.fault(operation="token", status=503):
        yield "no token can be had"


def messages_lost(scene: Scene) -> Iterator[str]:
    """The queue is emptied: retries, shards and the dead man's switch."""
    connection = scene.world.stack.storage.connection_string
    with QueueClient.from_connection_string(connection, "keep-alive") as queue:
        queue.clear_messages()
    yield "all messages on the queue are lost"


def keys_rotated(scene: Scene) -> Iterator[str]:
    """Notifications of both kinds are signed with new keys; Entra publishes its old ones for a while."""
    scene.world.control("POST", "/keys/rotate", {"kind": "notification"})
    scene.world.control("POST", "/keys/rotate", {"kind": "entra", "keepOld": True})
    yield "Graph and Entra sign with new keys"


def tokens_changed(scene: Scene) -> Iterator[str]:
    """Notifications change to another kind of token, in the middle of calls, and stay with it."""
    kind = scene.random.choice(("entra", "entraV1", "legacy"))
    scene.world.control("PUT", "/delivery", {"token": kind})
    yield f"notifications change to tokens of the kind {kind}"


def timers_turned(scene: Scene) -> Iterator[str]:
    """A deployment, after which the timers stand still though HTTP lives; the next one mends that."""
    scene.settings = {} if scene.frozen else FROZEN
    for host in scene.world.stack.hosts:
        host.child.stop()
    yield f"a deployment: from now on the timers {'stand still' if scene.frozen else 'fire again'}"
    for host in scene.world.stack.hosts:
        host.start(**scene.settings)


OF_GRAPH = (
    Trouble(graph_away, THIRD_OF_A_LEASE),
    Trouble(graph_throttles, 12),
    Trouble(graph_drops, 12),
    Trouble(graph_crawls, 10),
    Trouble(no_tokens, 10),
)
TURN = Trouble(timers_turned, 0)
OURS = (
    Trouble(one_host_killed, 8),
    Trouble(both_hosts_killed, 5),
    Trouble(one_host_stalled, 10),
    Trouble(storage_stopped, 8),
    Trouble(storage_silent, 8),
    TURN,
    Trouble(messages_lost, 0),
    Trouble(keys_rotated, 0),
    Trouble(tokens_changed, 0),
)


class Troubles:
    """Draws one after the other, each kind once before any comes again.

    While the timers stand still only Graph is in trouble: the condition asks for the other paths to be whole.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._deck: list[Trouble] = []
        self._frozen = 0  # troubles since the timers stand still

    def draw(self) -> tuple[Trouble, ...]:
        """The next one; sometimes with one of Graph's beside it."""
        random = self._scene.random
        if self._scene.frozen:
            self._frozen += 1
            if self._frozen <= WHILE_FROZEN:
                return (random.choice(OF_GRAPH),)
            self._frozen = 0
            return (TURN,)
        if not self._deck:
            self._deck = random.sample([*OURS, *OF_GRAPH], len(OURS) + len(OF_GRAPH))
        first = self._deck.pop()
        if first in OURS and random.random() < TOGETHER:
            return first, random.choice(OF_GRAPH)
        return (first,)


def pass_through(scene: Scene, troubles: tuple[Trouble, ...], say: Callable[[str], None]) -> None:
    """Begin them, say so, let them last, end them."""
    most = min((trouble.most for trouble in troubles if trouble.most), default=0)
    minutes = scene.random.uniform(most / 2, most)
    with ExitStack() as under_way:
        for trouble in reversed(troubles):
            what = under_way.enter_context(contextmanager(trouble.begin)(scene))
            say(f"{what}, for {minutes:.0f} minutes" if trouble.most else what)
        time.sleep(minutes * MINUTE)


def _keep_alives(world: World) -> int:
    counts = world.control("GET", "/requests?limit=1").json()["counts"]
    return int(counts.get("keepAlive", {}).get("total", 0))
