"""Delivering notifications: signed POSTs, in order or not, late, twice or never, as the modes say."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from simulator.entra import LIFE, Grant
from simulator.notifications import Shape, body, of_call, of_operation
from simulator.records import Attempt, Notification

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.entra import Entra
    from simulator.records import Call, Operation
    from simulator.signing import KeyRing
    from simulator.wire import Json, JsonObject

ISSUER = "https://api.botframework.com"  # Graph: the calling auth page
SERVICE_APP_ID = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # observed: the service's own app
TOKEN_LIFE = 300  # seconds; observed: exp = nbf + 300
_TIMEOUT = 10.0  # real seconds for the bot to answer; Graph's own limit is not documented
_SETTLE_LIMIT = 15.0  # real seconds that a step of the clock waits for deliveries
_SERVER_ERROR = 500


class TokenKind(StrEnum):
    """What a notification is signed with: Graph is moving from the first to Entra's tokens."""

    LEGACY = "legacy"
    ENTRA = "entra"
    ENTRA_V1 = "entraV1"


_VERSIONS: dict[TokenKind, Literal["1.0", "2.0"]] = {TokenKind.ENTRA_V1: "1.0", TokenKind.ENTRA: "2.0"}


class Modes(BaseModel):
    """How notifications travel. Probabilities from 0 to 1, times in simulated seconds."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    shape: Shape = Shape.OBSERVED
    loss: float = Field(0, ge=0, le=1, description="never sent")
    duplicate: float = Field(0, ge=0, le=1, description="sent twice")
    delay_seconds: float = Field(0, ge=0, description="each is this late")
    reorder: float = Field(0, ge=0, le=1, description="held back for up to reorderSeconds, so that later ones pass it")
    reorder_seconds: float = Field(10, ge=0)
    batch: int = Field(1, ge=1, le=100, description="at most so many of one bot in one body")
    batch_seconds: float = Field(1, ge=0, description="how long a body waits to be filled")
    attempts: int = Field(3, ge=1, le=20, description="tries of one body while the bot is out of reach or answers 5xx")
    retry_seconds: float = Field(1, ge=0, description="before the second try; doubled each time")
    token: TokenKind = Field(TokenKind.LEGACY, description="what signs notifications that are sent from now on")


@dataclass(frozen=True, slots=True)
class _Address:
    """Who a body goes to, and in whose name it is signed. One body has one address."""

    callback_uri: str
    app_id: str
    tenant_id: str


@dataclass(slots=True)
class _Body:
    """Notifications that travel together. Bodies of one `lane` leave one after the other."""

    address: _Address
    lane: str
    chain_id: str
    notifications: list[Notification]
    message_id: str
    modes: Modes
    tries: int = 0


@dataclass(slots=True)
class _Queue:
    """Bodies that wait for their turn, so that they leave in order."""

    bodies: list[_Body] = field(default_factory=list)
    sender: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class Signers:
    """The two issuers of notification tokens; times are real ones, as receivers verify them by real time."""

    legacy: KeyRing
    entra: Entra

    def token(
        self, kind: TokenKind, audience: str, tenant_id: str, life: int | None = None, issuer: str | None = None
    ) -> str:
        """The service's token for one POST. A negative `life` has expired."""
        if kind is TokenKind.LEGACY:
            return self._legacy(audience, tenant_id, TOKEN_LIFE if life is None else life, issuer)
        life = LIFE if life is None else life
        return self.entra.issue(Grant(SERVICE_APP_ID, tenant_id, audience, (), life, issuer, _VERSIONS[kind]))

    def _legacy(self, audience: str, tenant_id: str, life: int, issuer: str | None) -> str:
        """Observed claims; no `iat`."""
        now = int(time.time())
        claims: dict[str, Json] = {
            "tid": tenant_id,
            "appid": SERVICE_APP_ID,
            "nbf": now + min(life, 0) - (TOKEN_LIFE if life < 0 else 0),
            "exp": now + life,
            "iss": issuer or ISSUER,
            "aud": audience,
        }
        return self.legacy.current.sign(claims, cty="JWT")


class Delivery:
    """Builds, signs and sends the notifications of all calls, and keeps every attempt."""

    def __init__(
        self, clock: Clock, signers: Signers, seed: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._clock = clock
        self._signers = signers
        self._seed = seed
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._queues: dict[str, _Queue] = {}
        self.reset()

    def reset(self) -> None:
        """The first modes again; nothing waits to be sent."""
        self.modes = Modes()
        self.modes_of_calls: dict[str, Modes] = {}
        self._random = Random(f"{self._seed} delivery")
        self._ids = Random(f"{self._seed} notifications")  # its own, so that ids change nothing in what happens
        self._waiting: dict[_Address, list[Notification]] = {}
        for queue in self._queues.values():
            queue.bodies.clear()

    def modes_of(self, call: Call) -> Modes:
        """The modes of this call: its own, or everybody's."""
        return self.modes_of_calls.get(call.id, self.modes)

    def announce(self, call: Call, *, with_media: bool = False) -> None:
        """Tell the bot of a call's present state."""
        item = of_call(call, self.modes_of(call).shape, with_media=with_media)
        if item is not None and not call.quiet:
            self.send(call, item)

    def announce_operation(self, call: Call, operation: Operation) -> None:
        """Tell the bot of an operation's present state."""
        if not call.quiet:
            self.send(call, of_operation(call, operation, self.modes_of(call).shape))

    def send(self, call: Call, item: JsonObject) -> Notification:
        """Send one notification as the call's modes say; kept with the call, whatever becomes of it."""
        modes = self.modes_of(call)
        notification = Notification(self._new_id(), item, self._clock.now())
        call.notifications.append(notification)
        notification.lost = call.callback_uri is None or self._happens(modes.loss)
        copies = 2 if self._happens(modes.duplicate) else 1
        held = self._random.uniform(0, modes.reorder_seconds) if self._happens(modes.reorder) else 0.0
        if not notification.lost:
            for _ in range(copies):
                self._schedule(call, notification, modes, modes.delay_seconds + held)
        return notification

    async def settle(self) -> None:
        """Wait, in real time, until nothing is on its way."""
        until = time.monotonic() + _SETTLE_LIMIT
        while (senders := [queue.sender for queue in self._queues.values() if queue.sender]) and (
            left := until - time.monotonic()
        ) > 0:
            await asyncio.wait(senders, timeout=left)

    async def close(self) -> None:
        """Stop sending."""
        for queue in self._queues.values():
            if queue.sender is not None:
                queue.sender.cancel()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def _new_id(self) -> str:
        return f"{self._ids.getrandbits(128):032x}"

    def _schedule(self, call: Call, notification: Notification, modes: Modes, delay: float) -> None:
        if delay > 0:
            self._clock.after(delay, lambda: self._collect(call, notification, modes))
        else:
            self._collect(call, notification, modes)

    def _collect(self, call: Call, notification: Notification, modes: Modes) -> None:
        """Put it into a body: one of its own, or one that waits for more."""
        address = _Address(call.callback_uri or "", call.app_id, call.tenant_id)
        if modes.batch == 1:
            self._post(address, call.id, call.chain_id, [notification], modes)
            return
        waiting = self._waiting.setdefault(address, [])
        waiting.append(notification)

        def flush() -> None:
            if self._waiting.get(address) is waiting:
                del self._waiting[address]
                self._post(address, address.callback_uri, call.chain_id, waiting, modes)

        if len(waiting) >= modes.batch:
            flush()
        elif len(waiting) == 1:
            self._clock.after(modes.batch_seconds, flush)

    def _post(
        self, address: _Address, lane: str, chain_id: str, notifications: list[Notification], modes: Modes
    ) -> None:
        self._enqueue(_Body(address, lane, chain_id, notifications, self._new_id(), modes))

    def _enqueue(self, message: _Body) -> None:
        queue = self._queues.setdefault(message.lane, _Queue())
        queue.bodies.append(message)
        if queue.sender is None:
            queue.sender = asyncio.create_task(self._empty(message.lane, queue))

    async def _empty(self, name: str, queue: _Queue) -> None:
        while queue.bodies:
            await self._try(queue.bodies.pop(0))
        del self._queues[name]

    async def _try(self, message: _Body) -> None:
        message.tries += 1
        attempt = await self._attempt(message)
        for notification in message.notifications:
            notification.attempts.append(attempt)
        failed = attempt.status is None or attempt.status >= _SERVER_ERROR
        if failed and message.tries < message.modes.attempts:
            pause = message.modes.retry_seconds * 2 ** (message.tries - 1)
            self._clock.after(pause, lambda: self._enqueue(message))

    async def _attempt(self, message: _Body) -> Attempt:
        at = self._clock.now()
        content = json.dumps(body([notification.item for notification in message.notifications]))
        try:
            response = await self._http().post(
                message.address.callback_uri, content=content, headers=self._headers(message)
            )
        except httpx.HTTPError as error:
            return Attempt(at, None, f"{type(error).__name__}: {error}")
        return Attempt(at, response.status_code, None)

    def _headers(self, message: _Body) -> dict[str, str]:
        """The headers that are observed, besides the two that are documented."""
        address, kind = message.address, message.modes.token
        return {
            "Authorization": f"Bearer {self._signers.token(kind, address.app_id, address.tenant_id)}",
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Microsoft-Skype/3.0 (Calling/1.0)",
            "X-Microsoft-Skype-Chain-ID": message.chain_id,
            "X-Microsoft-Skype-Message-ID": message.message_id,
            "Scenario-Id": message.chain_id,
        }

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=_TIMEOUT,
                trust_env=False,  # a proxy has no place between two programs on one machine
                verify=ssl.create_default_context(),  # honours SSL_CERT_FILE
                transport=self._transport,
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
            )
        return self._client
