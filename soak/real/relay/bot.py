"""The bot behind the relay: it checks each token, records what it receives, and fails at random until it is calm."""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from random import Random

from aiohttp import web

from soak.real.relay.record import Arrival, Record
from soak.real.relay.validator import Proof, Validator, Verdict

MAX_BODY = 2 * 1024 * 1024  # bytes: more than a roster has
FAILING_SHARE, SILENT_SHARE, SLOW_SHARE = 0.12, 0.04, 0.14  # of the requests: a 5xx, a cut connection, a slow answer
MAX_DELAY = 0.5  # seconds, of a slow answer: longer than the budget of a first attempt


class Bot:
    """A server on a free port of 127.0.0.1.

    Parameters
    ----------
    record
        Gets what arrives.
    random
        Draws the failures.
    on_arrival
        Called with each request before it is answered.
    """

    def __init__(self, record: Record, random: Random, on_arrival: Callable[[Arrival], None]) -> None:
        self.record = record
        self._random = random
        self._on_arrival = on_arrival
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._runner: web.AppRunner | None = None
        self.validator: Validator | None = None  # set when the simulator runs
        self.is_calm = False

    @property
    def url(self) -> str:
        """The address that the relay delivers to."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/bot"

    async def start(self) -> None:
        """Serve until `stop`."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/bot", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        """End the server."""
        if self._runner:
            await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except ConnectionResetError:  # the host was killed while it sent
            return web.Response(status=400)
        authorization = request.headers.get("Authorization")
        arrival = self._arrival(request.headers.get("webhook-id", ""), body, authorization)
        self.record.arrivals.append(arrival)
        if arrival.verdict.proof is Proof.OWN and authorization:
            self.record.own_tokens.add(authorization.removeprefix("Bearer "))
        self._on_arrival(arrival)
        if arrival.verdict.fault:
            return web.Response(status=401)
        return await self._answer(request, arrival)

    def _arrival(self, delivery_id: str, body: bytes, authorization: str | None) -> Arrival:
        digest = hashlib.sha256(body).hexdigest()
        sent = self.record.sent.get(digest)
        if sent is None or self.validator is None:
            verdict = Verdict(Proof.NONE, fault="an unknown body")
        else:
            verdict = self.validator.judge(authorization, sent.tenant)
        return Arrival(delivery_id, digest, verdict, self.record.tick())

    async def _answer(self, request: web.Request, arrival: Arrival) -> web.Response:
        drawn = 1.0 if self.is_calm else self._random.random()
        if drawn < FAILING_SHARE:
            return web.Response(status=self._random.choice((500, 503)))
        if drawn < FAILING_SHARE + SILENT_SHARE:
            if request.transport:
                request.transport.abort()
            return web.Response(status=500)  # nobody gets it
        if drawn < FAILING_SHARE + SILENT_SHARE + SLOW_SHARE:
            await asyncio.sleep(self._random.uniform(0, MAX_DELAY))
        arrival.accepted = self.record.tick()
        return web.Response(status=202)
