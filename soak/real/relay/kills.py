"""A run of kills: Graph and the bot act in their thread, while this one kills the host and starts it again."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from azure.data.tables import TableClient, UpdateMode

from local.stack.stack import APP_ID, Options, Stack, running
from soak.real.relay.bot import Bot
from soak.real.relay.graph import SimulatedGraph
from soak.real.relay.leaks import files, find_tokens, stored
from soak.real.relay.record import Arrival, Record
from soak.real.relay.validator import Proof, Validator

SPEED = 30  # a lease takes 90 s: retries come after a second at first, and a delivery is given up after 48 minutes
BUDGET = timedelta(seconds=0.3)  # of a first attempt
MAX_KILL_DELAY = 0.05  # seconds after a notification was sent
MAX_ARRIVALS = 8  # the kill comes with one of the first so many requests that the bot receives
MAX_ROUND = 1.0  # seconds from the first request that the bot receives: then the host is killed whatever happens
MAX_START = 8.0  # seconds until that request: a busy machine needs some, and all calls may wait for a retry
MAX_DRAIN = 150.0  # seconds: a claim of a minute, and more for the retries that follow
OVERDUE_AGE = timedelta(seconds=1)
PROGRESS_STEP = 10  # kills
REPORT_INTERVAL, POLL_INTERVAL = 5.0, 0.5  # seconds

type Moment = Literal["sending", "arrival", "late arrival"]
MOMENTS: tuple[Moment, ...] = ("sending", "sending", "arrival", "arrival", "late arrival")


class Trigger:
    """Kills the host at the moment that a round has drawn. The thread of Graph and the bot calls it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._pid: int | None = None
        self._moment: Moment = "sending"
        self._left = 0
        self.fired, self._has_arrived = threading.Event(), threading.Event()
        self.record: Record | None = None
        self.was_under_way = self.was_waiting = False  # at the last kill

    def arm(self, pid: int) -> Moment:
        """Draw the moment of the next kill, and return it."""
        self._moment, self._left = self._random.choice(MOMENTS), self._random.randint(1, MAX_ARRIVALS)
        self.fired.clear()
        self._has_arrived.clear()
        self._pid = pid
        return self._moment

    def wait(self) -> None:
        """Wait until the host is killed, and kill it if the moment does not come."""
        self._has_arrived.wait(MAX_START)
        if not self.fired.wait(MAX_ROUND):
            self.fire()

    def on_sending(self) -> None:
        """Kill the host up to 50 ms after Graph has sent this notification, if this is the moment."""
        if self._is_due("sending"):
            asyncio.get_running_loop().call_later(self._random.uniform(0, MAX_KILL_DELAY), self.fire)

    def on_arrival(self, arrival: Arrival) -> None:
        """Kill the host before or just after the bot's answer, if this is the moment."""
        self._has_arrived.set()
        is_late = arrival.verdict.proof is Proof.OWN
        if self._is_due("late arrival" if is_late else "arrival"):
            asyncio.get_running_loop().call_later(self._random.choice((0, 0, 0.001, 0.004)), self.fire)

    def fire(self) -> None:
        """Kill the host now, once for each arming."""
        pid, self._pid = self._pid, None
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if self.record:
                self.was_under_way, self.was_waiting = self.record.is_under_way(), bool(self.record.missing())
            self.fired.set()

    def _is_due(self, moment: Moment) -> bool:
        if self._pid is None or moment != self._moment:
            return False
        self._left -= 1
        return self._left == 0


@dataclass
class Findings:
    """The result of a run."""

    record: Record
    kills: int
    under_way: int = 0  # kills while a request with a notification was open that the bot had not accepted
    waiting: int = 0  # kills while the bot had not accepted a notification that was acknowledged
    moments: Counter[str] = field(default_factory=Counter)
    pending: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """A line for each violation."""
        return [*self.record.violations(BUDGET), *self.pending, *self.leaks]

    @property
    def extra(self) -> int:
        """The number of times that the bot accepted a notification once more."""
        accepted = [arrival for arrival in self.record.arrivals if arrival.accepted is not None]
        return len(accepted) - len({arrival.digest for arrival in accepted})

    def proofs(self) -> Counter[Proof]:
        """Return how many requests came with each kind of token."""
        return Counter(arrival.verdict.proof for arrival in self.record.arrivals)


class Run:
    """One run on a running stack.

    Parameters
    ----------
    stack, bot
        The running processes, and the bot that they deliver to.
    trigger
        Kills the host.
    seed
        Defines what Graph sends.
    report
        Called with each line of progress.
    expire_claims
        True to let the claims of a killed host end at once. Otherwise each lasts up to a minute.
    """

    def __init__(  # noqa: PLR0913 - the parts of one run
        self,
        stack: Stack,
        bot: Bot,
        trigger: Trigger,
        seed: int,
        report: Callable[[str], None],
        *,
        expire_claims: bool,
    ) -> None:
        self._stack = stack
        self._bot = bot
        self._record = bot.record
        self._trigger = trigger
        self._report = report
        self._expire_claims = expire_claims
        webhook, random = f"{stack.api}/notifications", Random(f"graph {seed}")
        self._graph = SimulatedGraph(webhook, stack.simulator, bot.record, random, trigger.on_sending)
        self._all_acknowledged, self._stopped = threading.Event(), threading.Event()
        bot.validator = Validator.of_simulator(stack.simulator, stack.settings()["AZURE_AUTHORITY_HOST"], APP_ID)
        trigger.record = bot.record

    def execute(self, kills: int) -> Findings:
        """Kill the host so many times, wait until the bot has received everything, and search for tokens.

        A run whose bot has not received everything after `MAX_DRAIN` has violations.
        """
        findings = Findings(self._record, kills)
        with ThreadPoolExecutor(1) as pool:
            acting = pool.submit(lambda: asyncio.run(self._act()))
            try:
                for number in range(1, kills + 1):
                    findings.moments[self._kill()] += 1
                    findings.under_way += self._trigger.was_under_way
                    findings.waiting += self._trigger.was_waiting
                    if number % PROGRESS_STEP == 0 or number == kills:
                        self._report(f"{number} of {kills} kills; {self._progress()}")
                    if acting.done():
                        break
                self._graph.is_ending = self._bot.is_calm = True
                self._drain(acting)
            finally:
                self._graph.is_ending = True
                self._stopped.set()
            acting.result()
        findings.pending = [f"pending: row {key}" for key in self._pending_rows()]
        findings.leaks = self._find_leaks()
        return findings

    async def _act(self) -> None:
        """Let Graph and the bot act until all notifications are acknowledged, then the bot alone."""
        await self._bot.start()
        try:
            await self._graph.run()
            self._all_acknowledged.set()
            await asyncio.to_thread(self._stopped.wait)
        finally:
            await self._bot.stop()

    def _kill(self) -> Moment:
        """Wait for the moment, kill the host, and start it again."""
        moment = self._trigger.arm(self._stack.host.pid)
        self._trigger.wait()
        self._stack.host.kill()
        if self._expire_claims:
            self._end_claims()
        self._stack.start_host()
        return moment

    def _drain(self, acting: Future[None]) -> None:
        """Wait until Graph has every acknowledgement, the bot every notification, and storage nothing pending."""
        ends, reported = time.monotonic() + MAX_DRAIN, time.monotonic()
        while time.monotonic() < ends and not acting.done():
            if self._all_acknowledged.is_set() and not self._record.missing() and not self._pending_rows():
                return
            if time.monotonic() - reported > REPORT_INTERVAL:
                reported = time.monotonic()
                self._report(f"no more kills; {self._progress()}")
            time.sleep(POLL_INTERVAL)

    def _progress(self) -> str:
        record = self._record
        acknowledged = sum(sent.is_acknowledged for sent in record.sent.values())
        return (
            f"{acknowledged} notifications acknowledged, {len(record.missing())} of them not received yet;"
            f" {len(record.arrivals)} requests at the bot"
        )

    def _pending_rows(self) -> list[str]:
        """Return the keys of deliveries and lanes that wait, read from the table."""
        with self._table() as table:
            found = [
                row["RowKey"]
                for kind in ("lane", "pending", "dead", "disabled")
                for row in table.query_entities(f"RowKey gt '{kind}|' and RowKey lt '{kind}}}'", select=["RowKey"])
            ]
        return list(map(str, found))

    def _end_claims(self) -> None:
        """Let the time pass after which the claims of the killed host end."""
        past = datetime.now(UTC) - OVERDUE_AGE
        with self._table() as table:
            for row in table.query_entities("RowKey gt 'lane|' and RowKey lt 'lane}'"):
                if row.get("claimedUntil") is not None:
                    row["claimedUntil"] = past
                    table.update_entity(row, mode=UpdateMode.MERGE)

    def _find_leaks(self) -> list[str]:
        """End the host and its storage, and search all that they have written for tokens."""
        tokens = {sent.bearer for sent in self._record.sent.values()} | self._record.own_tokens
        self._stack.host.stop()
        leaks = find_tokens(stored(self._stack.storage.connection_string), tokens)
        self._stack.azurite.stop()
        return leaks + find_tokens(files(self._stack.folder), tokens)

    def _table(self) -> TableClient:
        return TableClient.from_connection_string(self._stack.storage.connection_string, "calls")


def run(kills: int, seed: int, report: Callable[[str], None], *, expire_claims: bool = False) -> tuple[Findings, str]:
    """Run all processes, kill the host so many times, and return the findings and the host's log.

    Raises
    ------
    AzuriteError, ProcessError
        A part does not start.
    """
    trigger = Trigger(Random(f"kills {seed}"))
    bot = Bot(Record(), Random(f"bot {seed}"), trigger.on_arrival)
    targets = [{"name": "bot", "url": bot.url, "format": "graph"}]
    settings = {"RELAY_TARGETS": json.dumps(targets), "RELAY_BUDGET": f"PT{BUDGET.total_seconds():g}S"}
    with running(Options(SPEED, schedule="*/2 * * * * *", keep_storage=True, settings=settings)) as stack:
        findings = Run(stack, bot, trigger, seed, report, expire_claims=expire_claims).execute(kills)
        return findings, (stack.folder / "host.log").read_text(encoding="utf-8", errors="replace")
