"""The bots: calls that begin, are registered, live a while and end, all the time."""

import asyncio
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

import httpx

from local.stack.stack import APP_ID, Stack
from soak.real import MINUTE

TENANTS = (
    "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11",
    "0d3f6a1e-52c7-4b9d-8e4a-6f1b2c3d4e5f",
    "c2a4f1de-8b07-4d3c-9f65-1e7a0b9d2c34",
)
ENDS = ((200, 5001), (200, 5010), (403, 5300), (408, 10057), (500, 7000), (487, 10003))
BEGUN_IN_A_MINUTE = 1.5  # calls
LIFE = 60  # minutes, on average
UNREGISTERED = 0.2  # of the calls: known by their notifications alone, if at all
HTTP_TIMEOUT = 20.0  # real seconds: storage that hangs holds an answer back for ten

type Way = Literal["ended", "forgotten", "hungUp", "alive"]


@dataclass(slots=True)
class Life:
    """A call as its bot knows it. Times are real."""

    id: str
    tenant: str
    began: datetime
    way: Way
    acknowledged: datetime | None = None  # that it is registered
    hung_up: bool = False  # acknowledged


class Bots:
    """They act on a thread of their own, until they are told to rest.

    Parameters
    ----------
    stack
        What they talk to: each request goes to one of its hosts.
    seed
        What they draw their choices from.
    """

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._random = Random(f"bots {seed}")
        self._resting = threading.Event()
        self.lives: list[Life] = []
        self.surprises: list[str] = []  # answers that no fault explains
        self._pool = ThreadPoolExecutor(1)
        self._acting = self._pool.submit(lambda: asyncio.run(self._act()))

    def check(self) -> None:
        """Raise what has stopped them, if anything has."""
        if self._acting.done():
            self._acting.result()

    def tire(self) -> None:
        """Let them begin no more calls, end no more."""
        self._resting.set()

    def rest(self) -> None:
        """The same; return when nobody waits for an answer. Raises what has stopped them."""
        self.tire()
        self._pool.shutdown()
        self._acting.result()

    async def _act(self) -> None:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT) as self._client, asyncio.TaskGroup() as group:
            group.create_task(self._look())
            while await self._wait(self._random.expovariate(BEGUN_IN_A_MINUTE)):
                group.create_task(self._live())

    async def _live(self) -> None:
        """One call's life."""
        random = self._random
        call_id, tenant = str(uuid.UUID(int=random.getrandbits(128), version=4)), random.choice(TENANTS)
        registers = random.random() > UNREGISTERED
        way: Way = random.choice(("ended", "ended", "forgotten", "hungUp") if registers else ("ended", "forgotten"))
        minutes, codes = random.expovariate(1 / LIFE), random.choice(ENDS)
        await self._begin(call_id, tenant)
        self.lives.append(life := Life(call_id, tenant, datetime.now(UTC), "alive"))
        if registers and not await self._register(life):
            return
        if await self._wait(minutes):
            await self._end(life, way, codes)

    async def _begin(self, call_id: str, tenant: str) -> None:
        callback = f"{self._random.choice(self._stack.hosts).api}/notifications"
        call = {"id": call_id, "tenantId": tenant, "appId": APP_ID, "callbackUri": callback}
        assert await self._control("/calls", call)

    async def _register(self, life: Life) -> bool:
        """Tell Call Keeper until it says that it knows."""
        began = (life.began - timedelta(seconds=0.05)).isoformat()  # rather earlier than later
        done = await self._insist("PUT", f"/calls/{life.id}", {"tenantId": life.tenant, "startedAt": began})
        life.acknowledged = datetime.now(UTC) if done else None
        return done

    async def _end(self, life: Life, way: Way, codes: tuple[int, int]) -> None:
        life.way = way
        if way == "ended":
            await self._control(f"/calls/{life.id}/end", {"code": codes[0], "subcode": codes[1]})
        elif way == "forgotten":
            await self._control(f"/calls/{life.id}/forget")
        else:
            life.hung_up = await self._insist("POST", f"/calls/{life.id}/hangup")

    async def _look(self) -> None:
        """An operator who looks at the list now and then; faults may keep the answer from her."""
        while await self._wait(2):
            await self._ask("GET", "/calls?status=active&limit=20")

    async def _insist(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Ask until it is done; False if it was time to rest before."""
        while True:
            status = await self._ask(method, path, body)
            if status and status < httpx.codes.BAD_REQUEST:
                return True
            if not await self._wait(1):
                return False

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> int | None:
        """The status of an answer of one of the hosts, None without an answer."""
        url = f"{self._random.choice(self._stack.hosts).api}{path}"
        key = {"x-functions-key": self._stack.function_key}
        try:
            answer = await self._client.request(method, url, headers=key, json=body)
        except httpx.TransportError:
            return None
        told = answer.status_code
        if (
            httpx.codes.BAD_REQUEST <= told < httpx.codes.INTERNAL_SERVER_ERROR
            and told != httpx.codes.TOO_MANY_REQUESTS
        ):
            self.surprises.append(f"{method} {path} was answered {told}: {answer.text[:200]}")
        return told

    async def _control(self, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Ask the simulator; False if the call is over already."""
        answer = await self._client.post(f"{self._stack.simulator}/control{path}", json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
        return answer.is_success

    async def _wait(self, minutes: float) -> bool:
        """Let so many minutes pass; False if it is time to rest."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + minutes * MINUTE
        while not self._resting.is_set() and loop.time() < ends:  # noqa: ASYNC110 - the event is another thread's
            await asyncio.sleep(min(ends - loop.time(), 0.2))
        return not self._resting.is_set()
