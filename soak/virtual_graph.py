"""The virtual Graph: holds calls as Microsoft's pages describe it, and ends each call whose lease lapses."""

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
from soak.backoff_checker import BackoffChecker
from soak.fault_schedule import RETRY_AFTER
from soak.intervals import MINUTE
from soak.process import START, Environment, Process, SkewedClock

LEASE = 45 * MINUTE  # Graph: call-keepAlive page
GRAPH_TIMEOUT = 10.0  # seconds: the setting GRAPH_TIMEOUT
MAX_EARLY_404 = 30.0  # seconds after its start for which Graph may not find a call
LOOKUP_FINDS_ENDED_FOR = 5 * MINUTE  # after its end

_REFUSALS = ((400, 8501), (409, 8519), (400, None))
_PROXY_RESPONSES = (
    Response(404, {"content-type": "text/html"}, b"<html>"),
    Response(404, {}),
    Response(200, {"content-type": "text/html", "request-id": "0"}, b"<html>"),
)
_FORBIDDEN = (7504, 7505, 7507)
_MIXED_MODES = ("500", "slow", "503", "429", "hangs", "lost", "broken", "page", "refused", "401", "noToken", "403")


@dataclass(slots=True)
class VirtualCall:
    """A call at Graph. Times in seconds since the start of the run."""

    id: str
    tenant: str
    started: float
    renewed: float  # the start of its lease
    found_from: float  # before that Graph answers 404
    ended: float | None = None
    cause: str = ""
    keep_alives: int = 0
    notifies_us: bool = True  # False: Graph notifies only its bot
    registered: float | None = None  # when its bot first sent a registration with the true start
    reported: float | None = None  # when it was first reported without its start, long after it
    times_closed: int = 0  # how often its record was ended
    evidence: set[str] = field(default_factory=set)  # the ways in which Graph said that it has ended

    @property
    def lapses(self) -> float:
        """The time at which Graph ends it unless a keepAlive comes."""
        return self.renewed + LEASE


class VirtualGraph:
    """All calls of a run."""

    def __init__(self, environment: Environment) -> None:
        self._loop = environment.loop
        self.schedule = environment.schedule
        self.random = environment.random
        self.calls: dict[str, VirtualCall] = {}
        self.on_end: Callable[[VirtualCall], None] = lambda _call: None
        self.on_early_keep_alive: Callable[[str, int], None] = lambda _process, _count: None
        self.on_keep_alive: Callable[[VirtualCall], None] = lambda _call: None

    def create(self, call_id: str, tenant: str) -> VirtualCall:
        """Start a call."""
        now, share = self._loop.time(), self.schedule.profile.early_404_share
        not_found_for = self.random.random() * MAX_EARLY_404 if self.random.random() < share else 0.0
        call = self.calls[call_id] = VirtualCall(call_id, tenant, now, now, now + not_found_for)
        self._loop.call_at(call.lapses, self._check_lapse, call)
        return call

    def end(self, call: VirtualCall, cause: str) -> None:
        """End a call, unless it has ended."""
        if call.ended is None:
            call.ended, call.cause = self._loop.time(), cause
            self.on_end(call)

    def keep_alive(self, call: VirtualCall) -> None:
        """Renew the lease of a call."""
        self.on_keep_alive(call)
        call.keep_alives += 1
        call.renewed = self._loop.time()

    def _check_lapse(self, call: VirtualCall) -> None:
        if call.ended is not None:
            return
        if call.lapses <= self._loop.time():
            self.end(call, "lapsed")
        else:
            self._loop.call_at(call.lapses, self._check_lapse, call)

    def draw_fault(self, tenant: str) -> str:
        """Return the mode of the fault that strikes a request for this tenant now, "" if there is none."""
        now = self._loop.time()
        fault = self.schedule.tenant[tenant].at(now) or self.schedule.graph.at(now)
        if fault is None:
            return ""
        if fault.mode == "mixed":
            return self.random.choice(_MIXED_MODES) if self.random.random() < 0.7 else ""
        return fault.mode


class ProcessGraph:
    """Graph as one process reaches it. Replaces `GraphCalls`."""

    def __init__(self, graph: VirtualGraph, process: Process, clock: SkewedClock) -> None:
        self._graph = graph
        self._process = process
        self._clock = clock
        self._backoff = BackoffChecker(process.now, lambda count: graph.on_early_keep_alive(process.name, count))

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None) -> None:  # noqa: ARG002 - one app
        """Renew the lease."""
        self._backoff.record_send(tenant_id)
        try:
            await self._send(call_id, tenant_id, "keepAliveNotFound", self._graph.keep_alive)
        except GraphThrottled as error:
            self._backoff.record_throttle(tenant_id, 2.0 if error.retry_after is None else error.retry_after)
            raise
        except GraphError as error:
            if error.status is None:
                self._backoff.record_timeout(tenant_id)
            raise
        self._backoff.record_success(tenant_id)

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None) -> None:  # noqa: ARG002 - one app
        """End the call."""
        await self._send(call_id, tenant_id, "hangupNotFound", lambda call: self._graph.end(call, "hungUp"))

    async def get(self, call_id: str, tenant_id: str, app_id: str | None) -> GraphCall:  # noqa: ARG002 - one app
        """Look up the call."""
        call = self._graph.calls[call_id]
        if call.ended is not None and self._process.now() - call.ended < LOOKUP_FINDS_ENDED_FOR:
            await self._meet_fault(tenant_id)
            call.evidence.add("lookupNotFound")
            return GraphCall("terminated", ResultInfo(200, 5000))
        await self._send(call_id, tenant_id, "lookupNotFound", lambda _call: None)
        return GraphCall("established")

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None
    ) -> OperationNotification:
        """Raise NotImplementedError: no bot records in the simulation."""
        raise NotImplementedError

    async def _send(self, call_id: str, tenant: str, not_found: str, effect: Callable[[VirtualCall], None]) -> None:
        """Send a request that has an effect if Graph holds the call. `not_found` is the evidence if it does not."""
        mode = await self._meet_fault(tenant)
        call = self._graph.calls[call_id]
        found = await self._process.request(self._latency(mode), lambda: self._reach(call, effect))
        if mode in {"lost", "broken"}:
            await asyncio.sleep(GRAPH_TIMEOUT if mode == "lost" else 0)
            raise error_from_transport(TransportError("no answer within 10 s"))
        if not found:
            call.evidence.add(not_found)
            codes = (400, 8528) if self._graph.random.random() < 0.2 else (404, 8522)
            raise self._error(*codes)

    def _reach(self, call: VirtualCall, effect: Callable[[VirtualCall], None]) -> bool:
        if call.ended is not None or self._process.now() < call.found_from:
            return False
        effect(call)
        return True

    def _latency(self, mode: str) -> float:
        random, mean = self._graph.random, self._graph.schedule.profile.graph_latency
        if mode == "slow":
            return random.uniform(3, 9.9)
        tail = random.random() * 3 if random.random() < 0.01 else 0.0
        return min(random.uniform(0.5, 1.5) * mean + tail, GRAPH_TIMEOUT - 0.1)

    async def _meet_fault(self, tenant: str) -> str:
        """Raise the error of the present fault; return its mode if the request reaches Graph nevertheless."""
        mode = self._graph.draw_fault(tenant)
        random = self._graph.random
        if mode in {"", "slow", "lost"} or (mode == "broken" and random.random() < 0.5):
            return mode
        await self._process.request(GRAPH_TIMEOUT if mode == "hangs" else self._latency(mode), lambda: None)
        match mode:
            case "hangs" | "broken":
                raise error_from_transport(TransportError("no answer"))
            case "noToken":
                raise TokenUnavailable("no token")
            case "429":
                header, seconds = random.choice(RETRY_AFTER)
                if not header:
                    raise self._error(429, 8516)
                date = format_datetime(START + timedelta(seconds=self._process.now() + seconds), usegmt=True)
                raise self._error(429, 8516, date if random.random() < 0.2 else header)
            case "page":
                raise error_from_response(random.choice(_PROXY_RESPONSES), self._clock.now())
            case "refused":
                raise self._error(*random.choice(_REFUSALS))
            case "403":
                raise self._error(403, random.choice(_FORBIDDEN))
        raise self._error(int(mode), None)

    def _error(self, status: int, subcode: int | None, retry_after: str | None = None) -> GraphError:
        headers = {"request-id": "0"} | ({"retry-after": retry_after} if retry_after else {})
        body = f'{{"error": {{"code": "{subcode or status}"}}}}'
        return error_from_response(Response(status, headers, body.encode()), self._clock.now())
