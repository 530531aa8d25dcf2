"""The bots: they start, register and end calls all the time."""

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
CALLS_A_MINUTE = 1.5
MEAN_CALL_MINUTES = 60
UNREGISTERED_SHARE = 0.2  # of calls: Call Keeper knows them only by their notifications, if at all
HTTP_TIMEOUT = 20.0  # real seconds: storage that does not answer delays an answer of the API by ten

type Ending = Literal["ended", "forgotten", "hungUp", "alive"]


@dataclass(slots=True)
class BotCall:
    """A call as its bot knows it, in real time."""

    id: str
    tenant: str
    started: datetime
    ending: Ending
    acknowledged: datetime | None = None  # when its registration was acknowledged
    hung_up: bool = False  # and the hang-up was acknowledged


class Bots:
    """Bots that act in a thread of their own until `stop`.

    Parameters
    ----------
    stack
        The hosts and the simulator. Each request goes to one of the hosts.
    seed
        Defines the random choices.
    """

    def __init__(self, stack: Stack, seed: int) -> None:
        self._stack = stack
        self._random = Random(f"bots {seed}")
        self._stopped = threading.Event()
        self.calls: list[BotCall] = []
        self.unexpected: list[str] = []  # answers that no fault explains
        self._pool = ThreadPoolExecutor(1)
        self._acting = self._pool.submit(lambda: asyncio.run(self._act()))

    def check(self) -> None:
        """Raise the error that has ended the bots' thread, if there is one."""
        if self._acting.done():
            self._acting.result()

    def stop(self) -> None:
        """Start and end no more calls. Does not wait."""
        self._stopped.set()

    def join(self) -> None:
        """Stop, and wait for all answers. Raises the error that has ended the bots' thread, if there is one."""
        self.stop()
        self._pool.shutdown()
        self._acting.result()

    async def _act(self) -> None:
        async with httpx.AsyncClient(timeout=HTTP_TIMEOUT) as self._client, asyncio.TaskGroup() as group:
            group.create_task(self._list_calls())
            while await self._wait(self._random.expovariate(CALLS_A_MINUTE)):
                group.create_task(self._run_call())

    async def _run_call(self) -> None:
        """Start a call, register it, wait and end it."""
        random = self._random
        call_id, tenant = str(uuid.UUID(int=random.getrandbits(128), version=4)), random.choice(TENANTS)
        registers = random.random() > UNREGISTERED_SHARE
        ending: Ending = random.choice(
            ("ended", "ended", "forgotten", "hungUp") if registers else ("ended", "forgotten")
        )
        minutes, codes = random.expovariate(1 / MEAN_CALL_MINUTES), random.choice(ENDS)
        await self._start(call_id, tenant)
        self.calls.append(call := BotCall(call_id, tenant, datetime.now(UTC), "alive"))
        if registers and not await self._register(call):
            return
        if await self._wait(minutes):
            await self._end(call, ending, codes)

    async def _start(self, call_id: str, tenant: str) -> None:
        callback = f"{self._random.choice(self._stack.hosts).api}/notifications"
        call = {"id": call_id, "tenantId": tenant, "appId": APP_ID, "callbackUri": callback}
        assert await self._control("/calls", call)

    async def _register(self, call: BotCall) -> bool:
        """Register a call until it is acknowledged. False if the bots stopped before."""
        started = (call.started - timedelta(seconds=0.05)).isoformat()  # the call may have started before our answer
        done = await self._repeat("PUT", f"/calls/{call.id}", {"tenantId": call.tenant, "startedAt": started})
        call.acknowledged = datetime.now(UTC) if done else None
        return done

    async def _end(self, call: BotCall, ending: Ending, codes: tuple[int, int]) -> None:
        call.ending = ending
        if ending == "ended":
            await self._control(f"/calls/{call.id}/end", {"code": codes[0], "subcode": codes[1]})
        elif ending == "forgotten":
            await self._control(f"/calls/{call.id}/forget")
        else:
            call.hung_up = await self._repeat("POST", f"/calls/{call.id}/hangup")

    async def _list_calls(self) -> None:
        """List calls every two minutes, as an operator does. Faults may prevent the answer."""
        while await self._wait(2):
            await self._request("GET", "/calls?status=active&limit=20")

    async def _repeat(self, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Send a request until it succeeds. False if the bots stopped before."""
        while True:
            status = await self._request(method, path, body)
            if status and status < httpx.codes.BAD_REQUEST:
                return True
            if not await self._wait(1):
                return False

    async def _request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> int | None:
        """Send a request to one of the hosts. Return the status of the answer, None without one."""
        url = f"{self._random.choice(self._stack.hosts).api}{path}"
        key = {"x-functions-key": self._stack.function_key}
        try:
            answer = await self._client.request(method, url, headers=key, json=body)
        except httpx.TransportError:
            return None
        status = answer.status_code
        is_client_error = httpx.codes.BAD_REQUEST <= status < httpx.codes.INTERNAL_SERVER_ERROR
        if is_client_error and status != httpx.codes.TOO_MANY_REQUESTS:
            self.unexpected.append(f"{method} {path} was answered {status}: {answer.text[:200]}")
        return status

    async def _control(self, path: str, body: Mapping[str, object] | None = None) -> bool:
        """Send a request to the simulator. False if the call has ended already."""
        answer = await self._client.post(f"{self._stack.simulator}/control{path}", json=body)
        if answer.status_code != httpx.codes.CONFLICT:
            answer.raise_for_status()
        return answer.is_success

    async def _wait(self, minutes: float) -> bool:
        """Wait for so many simulated minutes. False if the bots stopped before."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + minutes * MINUTE
        while not self._stopped.is_set() and loop.time() < ends:  # noqa: ASYNC110 - another thread sets the event
            await asyncio.sleep(min(ends - loop.time(), 0.2))
        return not self._stopped.is_set()
