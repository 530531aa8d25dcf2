"""Graph's requests to the webhook: each one with a bearer that ends, correlation headers and a callback's query."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Protocol

from shared.api.webhook import Webhook
from shared.auth.tokens import Claims
from shared.domain.notifications import RequestIds
from shared.errors import Unauthenticated
from shared.relay.exchange import BotResponse, IncomingRequest
from soak.fault_schedule import APP_ID
from soak.intervals import MINUTE
from soak.process import START
from soak.relay_faults import INSTANCES, RelaySchedule
from soak.virtual_graph import VirtualCall

BEARER_LIFE = 5 * MINUTE  # of Graph's tokens, as they were seen
TOLERANCE = 5 * MINUTE  # after the end of a token, for clocks that differ
_BEARER = "graph-bearer"


@dataclass(slots=True, eq=False)
class Post:
    """One request of Graph. Times in seconds since the start of the run."""

    number: int
    calls: tuple[str, ...]
    serials: frozenset[int]
    body: bytes
    bearer: str
    expires: float
    sent: float
    acknowledged: float | None = None


class PostObserver(Protocol):
    """Sees each request of Graph, and each answer to one."""

    def on_post(self, post: Post) -> None:
        """See a request that is sent."""
        ...

    def on_acknowledged(self, post: Post, response: BotResponse) -> None:
        """See the 202, and what of the bot's answer it has."""
        ...


@dataclass(slots=True)
class Callback:
    """The way in which a call names the bot's instance."""

    query: str | None = None
    registration: str | None = None


@dataclass
class GraphPosts:
    """Sends Graph's requests, and tells the checker of each."""

    seed: int
    schedule: RelaySchedule
    observer: PostObserver
    now: Callable[[], float]
    callbacks: dict[str, Callback] = field(default_factory=dict)
    _count: int = 0

    def callback(self, call: VirtualCall) -> Callback:
        """Return the callback of a call, which its bot chose at its start."""
        if call.id not in self.callbacks:
            random, profile = Random(f"{self.seed}/relay/callback/{call.id}"), self.schedule.profile
            to, chance = random.choice(INSTANCES), random.random()
            if chance < profile.query_share:
                found = Callback(query=to, registration=random.choice(INSTANCES))
            elif chance < 1 - profile.no_to_share:
                found = Callback(registration=to)
            else:
                found = Callback()
            self.callbacks[call.id] = found
        return self.callbacks[call.id]

    async def post(self, webhook: Webhook, call: VirtualCall, body: bytes, random: Random) -> None:
        """Send a body to a webhook. Raises what the webhook raises."""
        self._count += 1
        now, profile = self.now(), self.schedule.profile
        left = random.uniform(-MINUTE, MINUTE) if random.random() < profile.old_bearer_share else BEARER_LIFE
        items = json.loads(body)["value"]
        calls = tuple(dict.fromkeys(item["resourceUrl"].split("/")[3] for item in items))
        serials = frozenset(item["serial"] for item in items)
        bearer = f"Bearer {_BEARER}/{call.tenant}/{self._count}/{now + left:.3f}"
        post = Post(self._count, calls, serials, body, bearer, now + left, now)
        self.observer.on_post(post)
        query = self.callback(call).query
        request = IncomingRequest(
            {"Content-Type": "application/json", "Client-Request-Id": request_id(post.number)},
            (query,) if query else (),
        )
        response = await webhook.receive(bearer, body, RequestIds(), request)
        self.observer.on_acknowledged(post, response.response)


def request_id(number: int) -> str:
    """Return the `Client-Request-Id` of a request of Graph."""
    return f"post-{number}"


def is_bearer_of_graph(text: str) -> bool:
    """True if the text contains a bearer of Graph."""
    return _BEARER in text


def read_bearer(authorization: str, now: float) -> Claims | None:
    """Return the claims of Graph's bearer, None if it is not one of these.

    Raises
    ------
    Unauthenticated
        It has ended, and the tolerance is over too.
    """
    if not is_bearer_of_graph(authorization):
        return None
    _, tenant, _, expires = authorization.split("/")
    if float(expires) + TOLERANCE < now:
        raise Unauthenticated("expired")
    return Claims(tenant, audience=APP_ID, app_id=APP_ID, expires_at=START + timedelta(seconds=float(expires)))


def item_of(
    call_id: str, serial: int, data: Mapping[str, object], *, is_end: bool = False, resource: str = ""
) -> object:
    """Return a notification about a call. Its serial tells it from all others."""
    return {
        "changeType": "deleted" if is_end else "updated",
        "resourceUrl": f"/communications/calls/{call_id}{resource}",
        "resourceData": data,
        "serial": serial,
    }


def body_of(items: Iterable[object]) -> bytes:
    """Return the body with these notifications."""
    return json.dumps({"@odata.type": "#microsoft.graph.commsNotifications", "value": list(items)}).encode()
