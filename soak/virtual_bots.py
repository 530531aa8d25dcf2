"""The virtual bots: the relay's destinations, what they answer, and the network between them and the processes."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from random import Random
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

from shared.config.relay_targets import RelayTarget, RelayTargets
from shared.errors import TokenUnavailable
from shared.relay.sender import Answer, NotSent, SendError
from soak.fault_schedule import APP_ID
from soak.process import START, Environment, Process
from soak.relay_faults import BOT, ENDS, LOG, RelaySchedule

FLAPS_EVERY = 20.0  # seconds: a bot that flaps is down in every other such time
BOT_RETRY_AFTER = ("5", "30", "300", "date", "")  # of a 429 or 503
_MIXED_MODES = ("down", "slow", "hangs", "lost", "500", "429", "503", "refuses", "")
_GONE, _UNAUTHORIZED, _TOO_MANY, _UNAVAILABLE = 410, 401, 429, 503
TARGETS = RelayTargets(
    (
        RelayTarget(name=BOT, url="https://bot.example/{to}", format="graph", appId=APP_ID, audience=APP_ID),
        RelayTarget(name=LOG, url="https://log.example/", format="events", audience="api://log"),
        RelayTarget(
            name=ENDS, url="https://ends.example/", format="events", audience="api://ends", types=("call.ended",)
        ),
    ),
    APP_ID,
)


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """A request to a bot on its way: what the process sends, and since when."""

    process: Process
    destination: str
    headers: Mapping[str, str]
    body: bytes
    sent: float
    timeout: float


class BotObserver(Protocol):
    """Sees each request to a bot as it is sent, as it arrives, and as its sender stops to wait for an answer."""

    def on_send(self, sending: Sending) -> None:
        """See a request that is sent."""
        ...

    def on_arrival(self, sending: Sending, status: int | None) -> None:
        """See a request that arrives, and the bot's status; None if it gives no answer."""
        ...

    def on_sent(self, sending: Sending) -> None:
        """See that the sender waits no more."""
        ...

    def is_first_arrival(self, sending: Sending) -> bool:
        """True if no attempt of the delivery arrived before."""
        ...


class VirtualBots:
    """All destinations of a run."""

    def __init__(self, environment: Environment, schedule: RelaySchedule, seed: int, observer: BotObserver) -> None:
        self.random = Random(f"{seed}/relay/bots")
        self.observer = observer
        self.loop = environment.loop
        self._schedule = schedule

    def draw_mode(self, destination: str) -> str:
        """Return how the destination treats a request that is sent to it now."""
        now = self.loop.time()
        mode = self._schedule.mode(destination, now)
        if mode == "mixed":
            return self.random.choice(_MIXED_MODES)
        if mode == "flapping":
            return "down" if int(now / FLAPS_EVERY) % 2 else ""
        return mode

    def receive(self, sending: Sending, mode: str) -> Answer:
        """Let a request arrive. Return the answer of the bot, which may get lost."""
        answer = self._answer(sending, mode)
        self.observer.on_arrival(sending, answer.status)
        return answer

    def _answer(self, sending: Sending, mode: str) -> Answer:  # noqa: PLR0911 - one for each mode
        kinds = kinds_of(sending.body)
        match mode:
            case "gone":
                return Answer(_GONE, {})
            case "401 once" if self.observer.is_first_arrival(sending):
                return Answer(_UNAUTHORIZED, {})
            case "refuses" if self._schedule.refused_kinds[sending.destination] in kinds:
                return Answer(self.random.choice((400, 403, 404, 422)), {})
            case "redirects":
                return Answer(302, {"Location": "https://elsewhere.example/"})
            case "500":
                return Answer(self.random.choice((500, 501)), {})
            case "429" | "503":
                return Answer(self.random.choice((int(mode), 502, 504)), self._draw_retry_after())
        if "participantJoiningNotification" in kinds:
            return Answer(200, {"Content-Type": "application/json"}, b'{"decision": "accept"}')
        return Answer(self.random.choice((200, 202, 204)), {})

    def _draw_retry_after(self) -> dict[str, str]:
        text = self.random.choice(BOT_RETRY_AFTER)
        if text == "date":
            text = format_datetime(START + timedelta(seconds=self.loop.time() + 60), usegmt=True)
        return {"Retry-After": text} if text else {}


class ProcessSender:
    """The bots as one process reaches them. Replaces `RelaySender`."""

    def __init__(self, bots: VirtualBots, process: Process) -> None:
        self._bots = bots
        self._process = process

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 - as the product's sender
        *,
        read_body: bool = False,
    ) -> Answer:
        """Send a body. Raises `NotSent`."""
        if not self._process.alive:  # a task in the background, which nothing cancels
            raise asyncio.CancelledError
        seconds = timeout.total_seconds()
        sending = Sending(self._process, destination_of(url), dict(headers), body, self._process.now(), seconds)
        self._bots.observer.on_send(sending)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(sending, self._bots.draw_mode(sending.destination))
        except TimeoutError:
            raise NotSent("timeout") from None
        finally:
            self._bots.observer.on_sent(sending)
        return answer if read_body else Answer(answer.status, answer.headers)

    async def _exchange(self, sending: Sending, mode: str) -> Answer:
        random, process = self._bots.random, self._process
        there, back = random.uniform(0.003, 0.02), random.uniform(0.005, 0.05)
        match mode:
            case "down":
                await process.request(there, lambda: None)
                _fail(random.choice(("refused", "refused", "tls", "addressRefused")))
            case "hangs":
                await process.request(
                    there, lambda: self._bots.receive(sending, mode) if random.random() < 0.5 else None
                )
                await asyncio.sleep(sending.timeout + 1)
            case "stray":  # it is on its way for longer than anybody waits
                self._bots.loop.call_later(random.uniform(1, 90), self._bots.receive, sending, mode)
                await asyncio.sleep(sending.timeout + 1)
            case "lost":
                await process.request(there, lambda: self._bots.receive(sending, mode))
                _fail("broken")
            case "slow":
                there, back = random.uniform(0.3, 6), random.uniform(0.3, 6)
        answer = await process.request(there, lambda: self._bots.receive(sending, mode))
        await asyncio.sleep(back)
        return answer


class ProcessTokens:
    """The tokens of the bot as one process obtains them. Replaces `GraphTokens`."""

    def __init__(self, schedule: RelaySchedule, process: Process) -> None:
        self._schedule = schedule
        self._process = process

    async def get(
        self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False, audience: str | None = None
    ) -> str:
        """Return a token that says whom it is for. Raises `TokenUnavailable`."""
        del refresh
        if self._schedule.no_token.at(self._process.now()):
            await self._process.request(0.2, lambda: None)
            raise TokenUnavailable("Entra issues none")
        return own_token(tenant_id, app_id, audience)


def own_token(tenant_id: str, app_id: str | None, audience: str | None) -> str:
    """Return the token that a late delivery or an event must carry."""
    return f"own/{tenant_id}/{app_id}/{audience}"


def destination_of(url: str) -> str:
    """Return the name of the destination with this address."""
    parts = urlsplit(url)
    target, to = (parts.hostname or "").partition(".")[0], parts.path.strip("/")
    return f"{target}/{to}" if to else target


def kinds_of(body: bytes) -> set[str]:
    """Return the states, resources and types of the notifications in a body, or the type of an event."""
    content = json.loads(body)
    if "type" in content:
        return {content["type"]}
    found: set[str] = set()
    for item in content["value"]:
        data = item["resourceData"]
        entity = data[0] if isinstance(data, list) else data
        found |= {entity.get("state", ""), entity["@odata.type"].rpartition(".")[2]}
        found |= {"participants"} if "/participants" in item["resourceUrl"] else set()
    return found


def _fail(error: SendError) -> NoReturn:
    raise NotSent(error)
