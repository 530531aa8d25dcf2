"""Delivery of notifications: signed POSTs that can be late, repeated, out of order or lost, as the settings say."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Literal

import httpx
from pydantic import Field

from simulator.entra import TOKEN_LIFETIME, TokenSpec
from simulator.notifications import (
    Shape,
    call_notification,
    notifications_body,
    operation_notification,
    wants_answer,
)
from simulator.records import Attempt, Notification
from simulator.wire import ControlModel

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.entra import Entra
    from simulator.records import Call, Operation
    from simulator.signing import KeyRing
    from simulator.wire import Json, JsonObject

ISSUER = "https://api.botframework.com"  # Graph: the calling auth page
SERVICE_APP_ID = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # observed: the app id of Graph's calling service
LEGACY_TOKEN_LIFETIME = timedelta(minutes=5)  # observed: exp = nbf + 300
_RESPONSE_TIMEOUT = timedelta(seconds=10)  # real time; Graph's own limit is not documented
_JOIN_RESPONSE_TIMEOUT = timedelta(seconds=14)  # the same for a participant who joins: bots wait for their own handlers
_MAX_SETTLE_TIME = timedelta(seconds=15)  # real time that a step of the clock waits for deliveries
_MAX_KEPT_BODY = 16 * 1024  # characters of a bot's response that are kept
_SERVER_ERROR = 500


class TokenKind(StrEnum):
    """The token that signs a notification. Graph is moving from the legacy token to Entra's tokens."""

    LEGACY = "legacy"
    ENTRA = "entra"
    ENTRA_V1 = "entraV1"


_VERSIONS: dict[TokenKind, Literal["1.0", "2.0"]] = {TokenKind.ENTRA_V1: "1.0", TokenKind.ENTRA: "2.0"}


class DeliverySettings(ControlModel):
    """The settings of delivery. Probabilities are from 0 to 1, times are in simulated seconds."""

    shape: Shape = Shape.OBSERVED
    loss: float = Field(0, ge=0, le=1, description="probability that a notification is never sent")
    duplicate: float = Field(0, ge=0, le=1, description="probability that a notification is sent twice")
    delay_seconds: float = Field(0, ge=0, description="delay of every notification")
    reorder: float = Field(
        0, ge=0, le=1, description="probability of a delay up to reorderSeconds, so that later notifications overtake"
    )
    reorder_seconds: float = Field(10, ge=0, description="maximum delay of a reordered notification")
    batch: int = Field(1, ge=1, le=100, description="maximum number of notifications of one bot in one body")
    batch_seconds: float = Field(1, ge=0, description="maximum wait until a body is full")
    attempts: int = Field(
        3, ge=1, le=20, description="maximum attempts per body if the bot is unreachable or sends 5xx"
    )
    retry_seconds: float = Field(1, ge=0, description="delay before the second attempt; doubles with each attempt")
    token: TokenKind = Field(TokenKind.LEGACY, description="the token that signs notifications sent from now on")


@dataclass(frozen=True, slots=True)
class _Recipient:
    """The webhook, app and tenant that a body is sent to. All notifications of one body have the same recipient."""

    callback_uri: str
    app_id: str
    tenant_id: str


@dataclass(slots=True)
class _Body:
    """The notifications of one POST. Bodies with the same `queue_key` are sent one after the other."""

    recipient: _Recipient
    queue_key: str
    chain_id: str
    notifications: list[Notification]
    message_id: str
    settings: DeliverySettings
    tries: int = 0

    @property
    def wants_answer(self) -> bool:
        """True if a notification in it wants an answer. It is then sent once: a later answer comes too late."""
        return any(wants_answer(notification.item) for notification in self.notifications)


@dataclass(slots=True)
class _Queue:
    """Bodies that wait for the body before them, so that they are sent in order."""

    bodies: list[_Body] = field(default_factory=list)
    sender: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class NotificationTokens:
    """The two issuers of notification tokens. Times in tokens are real, because receivers check them by real time."""

    legacy: KeyRing
    entra: Entra

    def issue(
        self,
        kind: TokenKind,
        audience: str,
        tenant_id: str,
        lifetime: timedelta | None = None,
        issuer: str | None = None,
    ) -> str:
        """Return the calling service's token for one POST.

        Without a `lifetime` the token has the usual one of its kind. A negative `lifetime` makes an expired token.
        """
        if kind is TokenKind.LEGACY:
            return self._issue_legacy(
                audience, tenant_id, LEGACY_TOKEN_LIFETIME if lifetime is None else lifetime, issuer
            )
        lifetime = TOKEN_LIFETIME if lifetime is None else lifetime
        return self.entra.issue(TokenSpec(SERVICE_APP_ID, tenant_id, audience, (), lifetime, issuer, _VERSIONS[kind]))

    def _issue_legacy(self, audience: str, tenant_id: str, lifetime: timedelta, issuer: str | None) -> str:
        """Return a token with the observed claims, which have no `iat`."""
        now, seconds = int(time.time()), int(lifetime.total_seconds())
        not_before = now if seconds >= 0 else now + seconds - int(LEGACY_TOKEN_LIFETIME.total_seconds())
        claims: dict[str, Json] = {
            "tid": tenant_id,
            "appid": SERVICE_APP_ID,
            "nbf": not_before,
            "exp": now + seconds,
            "iss": issuer or ISSUER,
            "aud": audience,
        }
        return self.legacy.current.sign(claims, cty="JWT")


class Delivery:
    """Builds, signs and sends the notifications of all calls, and records every attempt."""

    def __init__(
        self,
        clock: Clock,
        tokens: NotificationTokens,
        seed: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._clock = clock
        self._tokens = tokens
        self._seed = seed
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._queues: dict[str, _Queue] = {}
        self.reset()

    def reset(self) -> None:
        """Return to the default settings and drop everything that waits to be sent."""
        self.settings = DeliverySettings()
        self.settings_by_call: dict[str, DeliverySettings] = {}
        self._random = Random(f"{self._seed} delivery")
        self._random_ids = Random(f"{self._seed} notifications")  # separate, so that ids do not change the draws
        self._incomplete: dict[_Recipient, list[Notification]] = {}  # the notifications of bodies that are not full
        for queue in self._queues.values():
            queue.bodies.clear()

    def settings_of(self, call: Call) -> DeliverySettings:
        """Return the call's own settings, or else those of all calls."""
        return self.settings_by_call.get(call.id, self.settings)

    def notify_call(self, call: Call, *, with_media: bool = False) -> None:
        """Notify the bot of a call's present state, unless the call is quiet."""
        item = call_notification(call, self.settings_of(call).shape, with_media=with_media)
        if item is not None and not call.quiet:
            self.send(call, item)

    def notify_operation(self, call: Call, operation: Operation) -> None:
        """Notify the bot of an operation's present status, unless the call is quiet."""
        if not call.quiet:
            self.send(call, operation_notification(call, operation, self.settings_of(call).shape))

    def send(self, call: Call, item: JsonObject) -> Notification:
        """Send one notification as the call's settings say. The call keeps it, even if it is lost."""
        settings = self.settings_of(call)
        notification = Notification(self._new_id(), item, self._clock.now())
        call.notifications.append(notification)
        notification.lost = call.callback_uri is None or self._draw(settings.loss)
        copies = 2 if self._draw(settings.duplicate) else 1
        held = self._random.uniform(0, settings.reorder_seconds) if self._draw(settings.reorder) else 0.0
        if not notification.lost:
            for _ in range(copies):
                self._schedule(call, notification, settings, timedelta(seconds=settings.delay_seconds + held))
        return notification

    async def settle(self) -> None:
        """Wait in real time until no notification is being sent, or at most _MAX_SETTLE_TIME."""
        until = time.monotonic() + _MAX_SETTLE_TIME.total_seconds()
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

    def _draw(self, probability: float) -> bool:
        return self._random.random() < probability

    def _new_id(self) -> str:
        return f"{self._random_ids.getrandbits(128):032x}"

    def _schedule(self, call: Call, notification: Notification, settings: DeliverySettings, delay: timedelta) -> None:
        if delay > timedelta():
            self._clock.after(delay, lambda: self._add_to_body(call, notification, settings))
        else:
            self._add_to_body(call, notification, settings)

    def _add_to_body(self, call: Call, notification: Notification, settings: DeliverySettings) -> None:
        """Put a notification into a body of its own, or, with batches, into one that waits for more."""
        recipient = _Recipient(call.callback_uri or "", call.app_id, call.tenant_id)
        if settings.batch == 1:
            self._enqueue(self._body(recipient, call.id, call.chain_id, [notification], settings))
            return
        waiting = self._incomplete.setdefault(recipient, [])
        waiting.append(notification)

        def flush() -> None:
            if self._incomplete.get(recipient) is waiting:
                del self._incomplete[recipient]
                self._enqueue(self._body(recipient, recipient.callback_uri, call.chain_id, waiting, settings))

        if len(waiting) >= settings.batch:
            flush()
        elif len(waiting) == 1:
            self._clock.after(timedelta(seconds=settings.batch_seconds), flush)

    def _body(
        self,
        recipient: _Recipient,
        queue_key: str,
        chain_id: str,
        notifications: list[Notification],
        settings: DeliverySettings,
    ) -> _Body:
        return _Body(recipient, queue_key, chain_id, notifications, self._new_id(), settings)

    def _enqueue(self, body: _Body) -> None:
        queue = self._queues.setdefault(body.queue_key, _Queue())
        queue.bodies.append(body)
        if queue.sender is None:
            queue.sender = asyncio.create_task(self._drain(body.queue_key, queue))

    async def _drain(self, queue_key: str, queue: _Queue) -> None:
        while queue.bodies:
            await self._send(queue.bodies.pop(0))
        del self._queues[queue_key]

    async def _send(self, body: _Body) -> None:
        """Make one attempt, and schedule the next one if it fails and attempts are left."""
        body.tries += 1
        attempt = await self._post(body)
        for notification in body.notifications:
            notification.attempts.append(attempt)
        failed = attempt.status is None or attempt.status >= _SERVER_ERROR
        if failed and body.tries < body.settings.attempts and not body.wants_answer:
            delay = timedelta(seconds=body.settings.retry_seconds * 2 ** (body.tries - 1))
            self._clock.after(delay, lambda: self._enqueue(body))

    async def _post(self, body: _Body) -> Attempt:
        at = self._clock.now()
        content = json.dumps(notifications_body([notification.item for notification in body.notifications]))
        timeout = _JOIN_RESPONSE_TIMEOUT if body.wants_answer else _RESPONSE_TIMEOUT
        try:
            response = await self._http().post(
                body.recipient.callback_uri,
                content=content,
                headers=self._headers(body),
                timeout=timeout.total_seconds(),
            )
        except httpx.HTTPError as error:
            return Attempt(at, None, f"{type(error).__name__}: {error}")
        return Attempt(at, response.status_code, None, dict(response.headers), response.text[:_MAX_KEPT_BODY])

    def _headers(self, body: _Body) -> dict[str, str]:
        """Return the two documented headers and the observed ones.

        Microsoft's calling SDK takes `Scenario-Id` for the call's chain, and `Client-Request-Id` for the message.
        """
        recipient = body.recipient
        token = self._tokens.issue(body.settings.token, recipient.app_id, recipient.tenant_id)
        return {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Microsoft-Skype/3.0 (Calling/1.0)",
            "X-Microsoft-Skype-Chain-ID": body.chain_id,
            "X-Microsoft-Skype-Message-ID": body.message_id,
            "Scenario-Id": body.chain_id,
            "Client-Request-Id": body.message_id,
        }

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                trust_env=False,  # two programs on one machine need no proxy
                verify=ssl.create_default_context(),  # reads SSL_CERT_FILE
                transport=self._transport,
                limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
            )
        return self._client
