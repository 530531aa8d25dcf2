"""Graph, by its documents and in few words: it holds calls, and lets go of those that nobody keeps."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime

from shared.domain.notifications import OperationNotification, ResultInfo
from shared.errors import GraphError, GraphThrottled, TokenUnavailable
from shared.graph.client import GraphCall
from shared.graph.error_mapping import error_from_response, error_from_transport
from shared.graph.recording import RecordRequest
from shared.http_client import Response, TransportError
from soak.manners import Manners
from soak.spans import MINUTE
from soak.weather import RETRY_AFTER
from soak.wire import START, OffClock, Process, Scene

LEASE = 45 * MINUTE  # Graph: call-keepAlive page
PATIENCE = 10.0  # seconds: GRAPH_TIMEOUT
UNSEEN = 30.0  # seconds after its start in which Graph may not yet find a call
REMEMBERED = 5 * MINUTE  # in which a look-up still finds an ended call

_REFUSALS = ((400, 8501), (409, 8519), (400, None))
_STRANGERS = (
    Response(404, {"content-type": "text/html"}, b"<html>"),
    Response(404, {}),
    Response(200, {"content-type": "text/html", "request-id": "0"}, b"<html>"),
)
_FORBIDDEN = (7504, 7505, 7507)
_MIXED = ("500", "slow", "503", "429", "hangs", "lost", "broken", "page", "refused", "401", "noToken", "403")


@dataclass(slots=True)
class Held:
    """A call, as Graph has it. Times in seconds of the life."""

    id: str
    tenant: str
    started: float
    lease_from: float
    seen_from: float
    ended: float | None = None
    cause: str = ""
    keep_alives: int = 0
    deaf: bool = False  # its notifications do not come to us
    asked: float | None = None  # when its bot first asked to register it, with its true start
    told: float | None = None  # when we were first told of it, in mid-life, without its start
    closed: int = 0  # how often the record was ended
    words: set[str] = field(default_factory=set)  # by what ways Graph told us that it is over

    @property
    def lapses(self) -> float:
        """When Graph ends it, if it gets no keepAlive."""
        return self.lease_from + LEASE


class Cloud:
    """All calls."""

    def __init__(self, scene: Scene) -> None:
        self._loop = scene.loop
        self.weather = scene.weather
        self.random = scene.random
        self.calls: dict[str, Held] = {}
        self.on_end: Callable[[Held], None] = lambda _call: None
        self.on_early: Callable[[str, int], None] = lambda _process, _many: None
        self.on_keep_alive: Callable[[Held], None] = lambda _call: None

    def create(self, call_id: str, tenant: str) -> Held:
        """A bot makes a call."""
        now = self._loop.time()
        unseen = self.random.random() * UNSEEN if self.random.random() < self.weather.climate.unseen else 0.0
        call = self.calls[call_id] = Held(call_id, tenant, now, now, now + unseen)
        self._loop.call_at(call.lapses, self._look, call)
        return call

    def end(self, call: Held, cause: str) -> None:
        """A call is over."""
        if call.ended is None:
            call.ended, call.cause = self._loop.time(), cause
            self.on_end(call)

    def keep(self, call: Held) -> None:
        """A keepAlive has come."""
        self.on_keep_alive(call)
        call.keep_alives += 1
        call.lease_from = self._loop.time()

    def _look(self, call: Held) -> None:
        if call.ended is not None:
            return
        if call.lapses <= self._loop.time():
            self.end(call, "lapsed")
        else:
            self._loop.call_at(call.lapses, self._look, call)

    def mode(self, tenant: str) -> str:
        """What is wrong at the moment with requests for this tenant, if anything."""
        now = self._loop.time()
        span = self.weather.tenant[tenant].at(now) or self.weather.graph.at(now)
        if span is None:
            return ""
        if span.mode == "mixed":
            return self.random.choice(_MIXED) if self.random.random() < 0.7 else ""
        return span.mode


class GraphOf:
    """Graph as one process reaches it: in the place of `GraphCalls`."""

    def __init__(self, cloud: Cloud, process: Process, clock: OffClock) -> None:
        self._cloud = cloud
        self._process = process
        self._clock = clock
        self._manners = Manners(process.now, lambda early: cloud.on_early(process.name, early))

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None) -> None:  # noqa: ARG002 one app
        """Renew the lease."""
        self._manners.sends(tenant_id)
        try:
            await self._send(call_id, tenant_id, "keepAliveNotFound", self._cloud.keep)
        except GraphThrottled as error:
            self._manners.throttled(tenant_id, 2.0 if error.retry_after is None else error.retry_after)
            raise
        except GraphError as error:
            if error.status is None:
                self._manners.hung(tenant_id)
            raise
        self._manners.answered(tenant_id)

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:  # noqa: ARG002 as above
        """End the call."""
        await self._send(call_id, tenant_id, "hangupNotFound", lambda call: self._cloud.end(call, "hungUp"))

    async def get(self, call_id: str, tenant_id: str, app_id: str | None) -> GraphCall:  # noqa: ARG002 as above
        """Look the call up."""
        call = self._cloud.calls[call_id]
        if call.ended is not None and self._process.now() - call.ended < REMEMBERED:
            await self._pass(tenant_id)
            call.words.add("lookupNotFound")
            return GraphCall("terminated", ResultInfo(200, 5000))
        await self._send(call_id, tenant_id, "lookupNotFound", lambda _call: None)
        return GraphCall("established")

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None
    ) -> OperationNotification:
        """Nobody records in these lives."""
        raise NotImplementedError

    async def _send(self, call_id: str, tenant: str, word: str, effect: Callable[[Held], None]) -> None:
        """Send a request that has an effect on a call that Graph holds."""
        mode = await self._pass(tenant)
        call = self._cloud.calls[call_id]
        there = await self._process.ask(self._travel(mode), lambda: self._reach(call, effect))
        if mode in {"lost", "broken"}:
            await asyncio.sleep(PATIENCE if mode == "lost" else 0)
            raise error_from_transport(TransportError("no answer within 10 s"))
        if not there:
            call.words.add(word)
            gone = (400, 8528) if self._cloud.random.random() < 0.2 else (404, 8522)
            raise self._error(*gone)

    def _reach(self, call: Held, effect: Callable[[Held], None]) -> bool:
        if call.ended is not None or self._process.now() < call.seen_from:
            return False
        effect(call)
        return True

    def _travel(self, mode: str) -> float:
        random, usual = self._cloud.random, self._cloud.weather.climate.graph_seconds
        if mode == "slow":
            return random.uniform(3, 9.9)
        tail = random.random() * 3 if random.random() < 0.01 else 0.0
        return min(random.uniform(0.5, 1.5) * usual + tail, PATIENCE - 0.1)

    async def _pass(self, tenant: str) -> str:
        """Meet the trouble that keeps a request from its effect; what is left of it otherwise."""
        mode = self._cloud.mode(tenant)
        random = self._cloud.random
        if mode in {"", "slow", "lost"} or (mode == "broken" and random.random() < 0.5):
            return mode
        await self._process.ask(PATIENCE if mode == "hangs" else self._travel(mode), lambda: None)
        match mode:
            case "hangs" | "broken":
                raise error_from_transport(TransportError("no answer"))
            case "noToken":
                raise TokenUnavailable("no token")
            case "429":
                written, seconds = random.choice(RETRY_AFTER)
                if not written:
                    raise self._error(429, 8516)
                date = format_datetime(START + timedelta(seconds=self._process.now() + seconds), usegmt=True)
                raise self._error(429, 8516, date if random.random() < 0.2 else written)
            case "page":
                raise error_from_response(random.choice(_STRANGERS), self._clock.now())
            case "refused":
                raise self._error(*random.choice(_REFUSALS))
            case "403":
                raise self._error(403, random.choice(_FORBIDDEN))
        raise self._error(int(mode), None)

    def _error(self, status: int, subcode: int | None, retry_after: str | None = None) -> GraphError:
        headers = {"request-id": "0"} | ({"retry-after": retry_after} if retry_after else {})
        body = f'{{"error": {{"code": "{subcode or status}"}}}}'
        return error_from_response(Response(status, headers, body.encode()), self._clock.now())
