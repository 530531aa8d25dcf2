"""The demo's chapter about the relay: a bot crashes, restarts, and receives what it missed, in order."""

import json
import re
import socket
import sys
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from local.demo.bot import OWN
from local.demo.console import GREEN, RED, Console
from local.demo.report import Delivered, Json, RelayResult
from local.demo.steps import STEP_TIMEOUT, DemoFailed, Requests, short
from local.stack.processes import Child
from local.stack.stack import Stack

APP_ID = "b8c1e6d4-2f3a-4b57-9e0d-6a7c5f1d2e93"  # another made-up bot, so that A and B are relayed to nobody
TARGET, EVENTS_TARGET = "bot-c", "bot-c-events"
PATHS = {TARGET: "notifications", EVENTS_TARGET: "events"}  # of the bot
KEYS = "312"  # that the user presses while the bot is down
BEFORE_CRASH = 4  # deliveries: establishing, established, the same with media, and the event call.established
MIN_ATTEMPTS = 3  # of the first delivery to the dead bot: the first one, and two retries
_SECRET = "the-secret-of-bot-c"  # noqa: S105 (the simulated Entra takes any)
_ACCEPTED = re.compile(r"^accepted (\w+) id=(\S+) token=(\w+)$", re.MULTILINE)
_END_EVENT = r"call \S+ ended \(\d+\): .+"  # the line that the bot logs for the event call.ended


@dataclass
class BotC:
    """The example bot as a process, which can be killed and started again on the same port."""

    port: int = field(default_factory=lambda: _free_port())  # noqa: PLW0108 (it is defined below)
    runs: list[Child] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """The app settings that let Call Keeper serve this bot, and relay its notifications and events to it."""
        bot = {"appId": APP_ID, "credential": "secret", "clientSecretSetting": "BOT_C_SECRET"}
        urls = {name: f"http://127.0.0.1:{self.port}/{path}" for name, path in PATHS.items()}
        graph = {"name": TARGET, "format": "graph", "url": urls[TARGET], "appId": APP_ID}
        events = {"name": EVENTS_TARGET, "format": "events", "url": urls[EVENTS_TARGET], "appId": APP_ID}
        return {
            "GRAPH_APPS": json.dumps([bot]),
            "BOT_C_SECRET": _SECRET,
            "RELAY_TARGETS": json.dumps([graph, {**events, "audience": APP_ID}]),
        }

    @property
    def accepted(self) -> list[tuple[str, str, str]]:
        """The path, the id and the kind of token of each request that it accepted, over all its runs."""
        return [(path, id_, kind) for run in self.runs for path, id_, kind in _ACCEPTED.findall(run.output)]

    def start(self, stack: Stack) -> Child:
        """Start it, and wait until it listens."""
        settings = {**stack.bot_settings(APP_ID), "BOT_SECRET": _SECRET, "BOT_PORT": str(self.port)}
        child = stack.start("bot C", [sys.executable, "-m", "local.demo.bot"], settings)
        child.wait_for(r"Running on", STEP_TIMEOUT.total_seconds())
        self.runs.append(child)
        return child

    def ids_of(self, path: str) -> list[str]:
        """Return the ids of what it accepted at a path, each once: a delivery comes again if its answer was lost."""
        return list(dict.fromkeys(id_ for found, id_, _ in self.accepted if found == path))


class RelayChapter:
    """The steps of the chapter, in their order."""

    def __init__(self, stack: Stack, http: Requests, console: Console, bot: BotC) -> None:
        self._stack = stack
        self._http = http
        self._console = console
        self._bot = bot
        self._call_id = str(uuid.uuid4())

    def run(self, tenant_id: str) -> RelayResult:
        """Run all steps. Raises `DemoFailed` or `ProcessError` if one does not happen as expected."""
        self._console.title("Bot C crashes, and misses nothing")
        self._begin(tenant_id)
        self._crash()
        missed_ids = self._miss()
        restarted = self._restart()
        event = restarted.wait_for(_END_EVENT, STEP_TIMEOUT.total_seconds())[0]
        self._console.say("bot C", "records an answer and hangs up. The event call.ended tells it why the call ended:")
        self._console.more(event)
        return self._conclude(missed_ids, event)

    def _begin(self, tenant_id: str) -> None:
        self._bot.start(self._stack)
        self._console.say("bot C", "starts: examples/bots/python. The callbackUri of its call is Call Keeper's.")
        call = {"id": self._call_id, "tenantId": tenant_id, "appId": APP_ID, "state": "establishing"}
        call["callbackUri"] = f"{self._stack.api}/notifications"
        self._http.send("POST", f"{self._stack.simulator}/control/calls", 201, json=call)
        self._http.wait_until(
            "C is established, and its bot knows it",
            self._deliveries,
            lambda found: len(found) == BEFORE_CRASH and _all_delivered(found),
        )
        self._bot.runs[-1].wait_for(r"subscribeToTone: 200", STEP_TIMEOUT.total_seconds())
        self._console.say("bot C", "receives Graph's notifications through Call Keeper, with Graph's own token.")

    def _crash(self) -> None:
        self._bot.runs[-1].kill()
        self._console.say("bot C", "is killed.", RED)

    def _miss(self) -> list[str]:
        """Let the user press keys, wait until Call Keeper has retried in vain, and return the ids of what waits."""
        for key in KEYS:
            url = f"{self._stack.simulator}/control/calls/{self._call_id}/tone"
            self._http.send("POST", url, 200, json={"tone": f"tone{key}"})
        self._console.say("Graph", f"notifies that the user presses {_spelled(KEYS)}. Call Keeper answers 202.")
        waiting = self._http.wait_until(
            "Call Keeper has retried",
            lambda: [each for each in self._deliveries() if each["status"] == "pending"],
            lambda found: len(found) == len(KEYS) and len(found[0]["attempts"]) >= MIN_ATTEMPTS,
        )
        attempts = waiting[0]["attempts"]
        self._console.say(
            "Call Keeper",
            f"keeps {len(waiting)} deliveries, as GET /api/calls/{short(self._call_id)}/deliveries shows: the first"
            f" was attempted {len(attempts)} times ({attempts[-1]['error']}), the others wait for it.",
        )
        return [str(each["id"]) for each in waiting]

    def _restart(self) -> Child:
        child = self._bot.start(self._stack)
        self._console.say("bot C", "is started again.")
        child.wait_for(rf"heard tone{KEYS[-1]}", STEP_TIMEOUT.total_seconds())
        if (heard := re.findall(r"heard tone(\d)", child.output)) != list(KEYS):
            raise DemoFailed(f"the user pressed {_spelled(KEYS)}, but bot C heard {_spelled(''.join(heard))}")
        self._console.say("bot C", f"receives what it missed, in order: {_spelled(KEYS)}.", GREEN)
        return child

    def _conclude(self, missed_ids: list[str], event: str) -> RelayResult:
        """Compare what Graph sent, what Call Keeper has delivered, and what the bot accepted; print the outcome."""
        found = self._http.wait_until("all is delivered", self._deliveries, self._is_complete)
        kinds = {id_: kind for _, id_, kind in self._bot.accepted}
        deliveries = [_delivered(each, kinds) for each in found]
        self._check_order(deliveries)
        missed = [each for each in deliveries if each.id in missed_ids]
        self._print_missed(missed)
        dead = self._http.send("GET", f"{self._stack.api}/deliveries?status=dead", 200)["value"]
        if dead:
            raise DemoFailed(f"{len(dead)} deliveries are dead, the first one is {dead[0]}")
        self._console.more(f"All {len(found)} deliveries came in order. GET /api/deliveries?status=dead finds none.")
        return RelayResult(self._http.simulated(self._call_id), deliveries, missed, len(dead), event)

    def _check_order(self, deliveries: list[Delivered]) -> None:
        for target, path in PATHS.items():
            stored = [each.id for each in deliveries if each.target == target]
            if (accepted := self._bot.ids_of(path)) != stored:
                raise DemoFailed(f"bot C accepted {accepted}, but they were stored in the order {stored}")

    def _print_missed(self, missed: list[Delivered]) -> None:
        self._console.say(
            "Call Keeper", "requested a token as the bot itself for what was late: Graph's bearer is not stored."
        )
        for key, each in zip(KEYS, missed, strict=True):
            if each.token != OWN:
                raise DemoFailed(f"{each.id} came late, but not with the bot's own token")
            self._console.more(
                f"{each.id}  key {key}  {each.late.total_seconds():.1f} s late, with the bot's own token"
            )

    def _is_complete(self, deliveries: list[Json]) -> bool:
        """True if the bot has everything that Graph sent, and the event of the end."""
        call = self._http.simulated(self._call_id)
        relayed = [each for each in deliveries if each["target"] == TARGET]
        ended = any(each["type"] == "call.ended" for each in deliveries)
        return bool(
            call["over"] and ended and _all_delivered(deliveries) and len(relayed) >= len(call["notifications"])
        )

    def _deliveries(self) -> list[Json]:
        """Return the deliveries of the call, in the order in which they were stored: their ids begin with it."""
        url = f"{self._stack.api}/calls/{self._call_id}/deliveries"
        found: list[Json] = self._http.find(url).get("value", [])  # nothing before its first notification
        return sorted(found, key=lambda each: str(each["id"]))


def _all_delivered(deliveries: list[Json]) -> bool:
    return all(each["status"] == "delivered" for each in deliveries)


def _delivered(delivery: Json, kinds: dict[str, str]) -> Delivered:
    received, delivered = (datetime.fromisoformat(delivery[name]) for name in ("receivedAt", "deliveredAt"))
    return Delivered(
        id=delivery["id"],
        target=delivery["target"],
        type=delivery["type"],
        attempts=len(delivery["attempts"]),
        late=delivered - received,
        token=kinds[delivery["id"]],
    )


def _spelled(keys: str) -> str:
    return ", ".join(keys)


def _free_port() -> int:
    """Return a port that is free now. Call Keeper's settings name it before the bot listens on it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
