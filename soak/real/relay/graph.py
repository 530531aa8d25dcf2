"""The simulated Graph: it sends the notifications of calls to the webhook, in order, until each is acknowledged."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

import httpx

from local.stack.stack import APP_ID
from soak.real.bots import TENANTS
from soak.real.relay.bodies import FORMS, ROSTER, body_of
from soak.real.relay.record import Record, Sent

CALLS_AT_ONCE = 3
NOTIFICATIONS_PER_CALL = 6
MAX_PAUSE = 0.06  # seconds between two notifications of a call
REPEAT_AFTER = 0.05  # seconds after which Graph repeats what was not acknowledged
HTTP_TIMEOUT = 10.0  # seconds, of one request to the webhook
ROSTER_STEP = 12  # at least so many notifications after the last roster comes the next one
# Seconds that a token has left when its notification is sent first, and how often. Graph's tokens live for 300 s. The
# second kind becomes unusable while its notification waits. The webhook's tolerance accepts the last kind.
LIVES, LIFE_WEIGHTS = (300, 32, -20), (0.8, 0.1, 0.1)
TOKEN_KINDS = ("legacy", "entra", "entraV1")  # Graph is moving from the first one to the others
SMALL_FORMS = tuple(form for form in FORMS if form != ROSTER)


@dataclass
class SimulatedGraph:
    """Graph, as far as the webhook sees it. The simulator signs its tokens, and keeps its calls alive.

    Parameters
    ----------
    webhook, simulator
        Their addresses.
    on_sending
        Called before each request to the webhook.
    """

    webhook: str
    simulator: str
    record: Record
    random: Random
    on_sending: Callable[[], None]
    is_ending: bool = False  # True: it begins no further call
    _since_roster: int = field(default=0, init=False)

    async def run(self) -> None:
        """Send notifications of several calls at once, until it is ending and all are acknowledged."""
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT) as client, asyncio.TaskGroup() as group:
            for _ in range(CALLS_AT_ONCE):
                group.create_task(self._run_calls(client))

    async def _run_calls(self, client: httpx.AsyncClient) -> None:
        while not self.is_ending:
            call_id, tenant = str(uuid.UUID(int=self.random.getrandbits(128), version=4)), self.random.choice(TENANTS)
            call = {"id": call_id, "tenantId": tenant, "appId": APP_ID, "quiet": True}
            await self._control(client, "/calls", call)
            for number in range(NOTIFICATIONS_PER_CALL):
                await self._notify(client, call_id, tenant, number)
                await asyncio.sleep(self.random.uniform(0, MAX_PAUSE))

    async def _notify(self, client: httpx.AsyncClient, call_id: str, tenant: str, number: int) -> None:
        """Send one notification until it is acknowledged."""
        random = self.random
        body = body_of(call_id, number, form := self._next_form(number), random)
        (life,) = random.choices(LIVES, LIFE_WEIGHTS)
        wanted = {"kind": "notification", "token": random.choice(TOKEN_KINDS), "appId": APP_ID, "tenantId": tenant}
        token = str((await self._control(client, "/tokens", {**wanted, "expiresIn": life}))["token"])
        digest = hashlib.sha256(body).hexdigest()
        self.record.sent[digest] = sent = Sent(call_id, number, digest, tenant, form, token)
        while not sent.is_acknowledged:
            await self._send(client, sent, body)
            if not sent.is_acknowledged:
                await asyncio.sleep(REPEAT_AFTER)

    def _next_form(self, number: int) -> str:
        """Return the form of the next notification. A call does not begin with a roster."""
        self._since_roster += 1
        if number > 0 and self._since_roster >= ROSTER_STEP:
            self._since_roster = 0
            return ROSTER
        return SMALL_FORMS[len(self.record.sent) % len(SMALL_FORMS)]

    async def _send(self, client: httpx.AsyncClient, sent: Sent, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {sent.bearer}", "Content-Type": "application/json; charset=utf-8"}
        headers["Scenario-Id"] = sent.call_id
        sent.sends += 1
        sent.is_under_way = True
        self.on_sending()
        try:
            answer = await client.post(self.webhook, content=body, headers=headers)
        except httpx.ConnectError:
            sent.sends -= 1  # the host is being started again
            return
        except httpx.TransportError:
            return
        finally:
            sent.is_under_way = False
        sent.is_acknowledged = answer.status_code == HTTPStatus.ACCEPTED
        if not sent.is_acknowledged and answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.record.unexpected.append(f"answer: the webhook answered {answer.status_code}: {answer.text[:200]}")
            sent.is_acknowledged = True  # it would not be accepted later either

    async def _control(self, client: httpx.AsyncClient, path: str, body: object) -> dict[str, object]:
        answer = await client.post(f"{self.simulator}/control{path}", json=body)
        found: dict[str, object] = answer.raise_for_status().json()
        return found
