"""A calling bot: it answers, hears a tone, records an answer, hangs up, and logs Call Keeper's reason of the end."""

import asyncio
import json
import logging
import os
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Mapping

import aiohttp
from aiohttp import web

from graph import Graph
from senders import KeySet, Senders

APP_ID, SECRET = os.environ["BOT_APP_ID"], os.environ["BOT_SECRET"]
CALLBACK = os.environ["BOT_CALLBACK"]  # the callbackUri of calls: Call Keeper's /api/notifications
FORWARD_TO = os.environ.get("BOT_FORWARD_TO")  # Call Keeper's /api/notifications, if the callbackUri is this bot's own
EVENTS_SECRET = os.environ.get("BOT_EVENTS_SECRET")  # whsec_…; without it, events must carry a token
GRAPH = os.environ.get("GRAPH_URL", "https://graph.microsoft.com/v1.0")
LOGIN = os.environ.get("LOGIN_URL", "https://login.microsoftonline.com")
LEGACY_METADATA = os.environ.get("LEGACY_METADATA", "https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration")
MEDIA = {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"}
MAX_BODY = 4 * 1024 * 1024  # bytes
MAX_KNOWN_IDS = 10_000

log = logging.getLogger("bot")


class Bot:
    """Handles Graph's notifications and Call Keeper's events."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        entra = KeySet(session, f"{LOGIN}/common/v2.0/.well-known/openid-configuration")
        self._senders = Senders(APP_ID, KeySet(session, LEGACY_METADATA), entra)
        self._graph = Graph(session, GRAPH, LOGIN, APP_ID, SECRET)
        self._session = session
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # one a call, to keep its order
        self._done: defaultdict[str, set[str]] = defaultdict(set)  # the steps of each call that Graph accepted
        self._known_ids: dict[str, None] = {}  # a dict, because it keeps the order
        self._tasks: set[asyncio.Task[None]] = set()

    async def notifications(self, request: web.Request) -> web.Response:
        """Check the sender, answer 202 at once, and work afterwards: nobody waits long for the answer."""
        tenant = await self._senders.tenant_of_notification(request.headers)
        body = await request.read()
        if self._is_new(request.headers):
            for item in json.loads(body)["value"]:
                self._start(self._handle(item, tenant))
            if FORWARD_TO and "webhook-id" not in request.headers:  # with an id it came from there
                self._start(self._forward(FORWARD_TO, body, request.headers))
        return web.Response(status=202)

    async def events(self, request: web.Request) -> web.Response:
        """Log why a call ended. If a better reason is found, a further event has a higher revision."""
        body = await request.read()
        await self._senders.check_event(request.headers, body, EVENTS_SECRET)
        event = json.loads(body)
        if self._is_new(request.headers) and event["type"] == "call.ended":
            data = event["data"]
            log.info("call %s ended (%s): %s", data["callId"], data["revision"], data["reason"])
        return web.Response(status=202)

    async def _handle(self, item: Mapping[str, object], tenant: str) -> None:
        call_id = call_id_in(str(item["resourceUrl"]))
        match item.get("resourceData"):
            case {"state": "incoming"}:
                answer = {"callbackUri": CALLBACK, "acceptedModalities": ["audio"], "mediaConfig": MEDIA}
                await self._once(call_id, tenant, "answer", answer)
            case {"toneInfo": {"tone": tone}}:
                log.info("call %s: heard %s", call_id, tone)
                recording = {"maxRecordDurationInSeconds": 20, "stopTones": ["#"], "clientContext": call_id}
                await self._once(call_id, tenant, "recordResponse", recording)
            case {"state": "established"}:
                await self._once(call_id, tenant, "subscribeToTone", {"clientContext": call_id})
            case {"@odata.type": "#microsoft.graph.recordOperation", "status": "completed" | "failed" as status}:
                log.info("call %s: recording %s", call_id, status)
                await self._once(call_id, tenant, "hangUp")
            case {"state": "terminated"}:
                self._locks.pop(call_id, None)
                self._done.pop(call_id, None)

    async def _once(self, call_id: str, tenant: str, step: str, body: Mapping[str, object] | None = None) -> None:
        """Ask Graph for a step, unless it was done before: Graph may repeat any notification."""
        async with self._locks[call_id]:
            if step not in self._done[call_id]:
                method, path = ("DELETE", call_id) if body is None else ("POST", f"{call_id}/{step}")
                if await self._graph.send(tenant, method, path, body):
                    self._done[call_id].add(step)

    async def _forward(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send Graph's request on to Call Keeper, unchanged, while Graph's token is valid."""
        kept = {name: headers[name] for name in ("Authorization", "Content-Type", "Scenario-Id") if name in headers}
        async with self._session.post(url, data=body, headers=kept) as answer:
            log.info("forwarded: %s", answer.status)

    def _is_new(self, headers: Mapping[str, str]) -> bool:
        """Return False for a delivery that was accepted before. Requests of Graph itself have no id."""
        if (message_id := headers.get("webhook-id")) is None:
            return True
        is_new = message_id not in self._known_ids
        self._known_ids[message_id] = None
        if len(self._known_ids) > MAX_KNOWN_IDS:
            del self._known_ids[next(iter(self._known_ids))]
        return is_new

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Run in the background. asyncio itself keeps only weak references to tasks."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def call_id_in(url: str) -> str:
    """Return the id of the call in a notification's URL. Graph writes it with and without hyphens."""
    text = url.partition("/calls/")[2].partition("/")[0]
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return text


async def make_app() -> web.Application:
    """Return the web app, with one HTTP client for the life of the process."""
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
    bot = Bot(session)
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes([web.post("/notifications", bot.notifications), web.post("/events", bot.events)])

    async def close(_: web.Application) -> None:
        await session.close()

    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    web.run_app(make_app(), host=os.environ.get("BOT_HOST", "127.0.0.1"), port=int(os.environ.get("BOT_PORT", "3978")))
