"""Graph and a bot in one process, for the bench of the relay: `python -m bench.relay_load OPTIONS`, which are JSON.

It sends notifications at a fixed rate, then as fast as they are acknowledged, then some of each kind, for which the
host counts its requests to storage.
"""

import asyncio
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import batched, chain

import aiohttp

from bench.bot import Bot
from bench.measure import cpu_seconds_of, quantile
from bench.notifications import NOTIFICATIONS_PER_CALL, bodies
from bench.rounds import START_SIGNAL
from bench.workload import IN_FLIGHT, call_ids, run_concurrently

RATE = 50  # notifications a second, of the goal
CALLS_AT_ONCE = 25  # whose notifications alternate, so that those of one call are half a second apart
KINDS = ("changing", "repeated", "roster")
MAX_COUNTED_CALLS = 48  # whose notifications are counted
MAX_SILENCE = 30.0  # seconds until the bot has heard the last one: a retry comes after five
_SETTLING = 0.2  # seconds until the host has handled a signal


@dataclass(frozen=True)
class Options:
    """The options of a load.

    Parameters
    ----------
    webhook, bot_port, token
        Where the notifications go, the port of the bot, and Graph's token.
    host
        The process id of the host.
    paced_calls, flooding_calls
        The numbers of calls whose notifications are sent at the fixed rate, and as fast as possible.
    is_relayed
        True if the bot should hear them.
    """

    webhook: str
    bot_port: int
    token: str
    host: int
    paced_calls: int
    flooding_calls: int
    is_relayed: bool

    @property
    def counted_calls(self) -> int:
        """The number of calls whose notifications are counted."""
        return min(self.flooding_calls, MAX_COUNTED_CALLS)

    @classmethod
    def parse(cls, text: str) -> "Options":
        """Return the options of a command line."""
        return cls(**json.loads(text))

    def __str__(self) -> str:
        """Return them as an argument of the command line."""
        return json.dumps(asdict(self))


class Load:
    """The load on one host."""

    def __init__(self, options: Options, session: aiohttp.ClientSession, bot: Bot) -> None:
        self._options = options
        self._session = session
        self._bot = bot
        self._sent: dict[bytes, float] = {}
        self._answered: list[float] = []  # seconds from the request to the 202

    async def send(self, body: bytes) -> None:
        """Send a body. Raises `RuntimeError` if it is not acknowledged."""
        began = self._sent[body] = time.monotonic()
        async with self._session.post(self._options.webhook, data=body) as response:
            if response.status != http.client.ACCEPTED:  # the one answer that says: stored
                raise RuntimeError(f"a notification was answered with {response.status}")
        self._answered.append(time.monotonic() - began)

    async def open_connections(self, first: int) -> None:
        """Send the notifications of up to `IN_FLIGHT` calls, which are not measured."""
        await run_concurrently(call_ids(min(IN_FLIGHT, self._options.flooding_calls), first), self._send_call)

    async def run_paced(self, first: int) -> dict[str, float]:
        """Send at the fixed rate, whatever the answers, and return the latencies."""
        self._reset()
        began, tasks = time.monotonic(), []
        for number, body in enumerate(_alternating(self._options.paced_calls, first)):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            tasks.append(asyncio.create_task(self.send(body)))
        await asyncio.gather(*tasks)
        heard = await self._await_bot()
        latencies = [at - self._sent[body] for body, at in heard.items()]
        return {
            "heard": len(heard),
            "heard_p50_ms": 1000 * quantile(latencies, 0.5),
            "heard_p99_ms": 1000 * quantile(latencies, 0.99),
            "p50_ms": 1000 * quantile(self._answered, 0.5),
            "p99_ms": 1000 * quantile(self._answered, 0.99),
        }

    async def run_flood(self, first: int) -> dict[str, float]:
        """Send as fast as the host acknowledges, and return the rate, and the CPU time of the host for each."""
        self._reset()
        began, used = time.monotonic(), cpu_seconds_of(self._options.host)
        await run_concurrently(call_ids(self._options.flooding_calls, first), self._send_call)
        seconds = time.monotonic() - began
        done = len(self._answered)
        await self._await_bot()
        used = cpu_seconds_of(self._options.host) - used
        return {"flooded": done, "per_second": done / seconds, "host_cpu_ms": 1000 * used / done}

    async def run_kinds(self, first: int) -> None:
        """Send a notification of each kind about some calls. The host prints its requests to storage for each kind."""
        ids = list(call_ids(self._options.counted_calls, first))
        for call_id in ids:
            await self.send(next(bodies(call_id)))
        await self._end_phase()
        for kind in KINDS:
            self._reset()
            for call_id in ids:
                await self.send(_body_of_kind(kind, call_id))
            await self._await_bot()
            await self._end_phase()

    async def _send_call(self, call_id: str) -> None:
        for body in bodies(call_id):
            await self.send(body)

    async def _end_phase(self) -> None:
        await asyncio.sleep(_SETTLING)
        os.kill(self._options.host, START_SIGNAL)
        await asyncio.sleep(_SETTLING)

    async def _await_bot(self) -> dict[bytes, float]:
        """Wait until the bot has heard all that was sent. Raises `RuntimeError` if it has not."""
        if not self._options.is_relayed:
            return {}
        ends = time.monotonic() + MAX_SILENCE
        while time.monotonic() < ends:
            if self._sent.keys() <= self._bot.heard.keys():
                return {body: self._bot.heard[body] for body in self._sent}
            await asyncio.sleep(0.05)
        missing = len(self._sent.keys() - self._bot.heard.keys())
        raise RuntimeError(f"the bot did not hear {missing} of {len(self._sent)} notifications")

    def _reset(self) -> None:
        self._sent.clear()
        self._answered.clear()
        self._bot.heard.clear()


async def run(options: Options) -> None:
    """Put the load on the host, and print the figures."""
    bot = Bot()
    server = await bot.serve(options.bot_port)
    headers = {"authorization": f"Bearer {options.token}", "content-type": "application/json"}
    async with (
        server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers=headers) as session,
    ):
        load = Load(options, session, bot)
        await load.open_connections(first := 0)
        figures = await load.run_paced(first := first + IN_FLIGHT)
        figures |= await load.run_flood(first := first + options.paced_calls)
        await load.run_kinds(first + options.flooding_calls)
    print(json.dumps(figures), flush=True)


def _alternating(calls: int, first: int) -> Iterator[bytes]:
    """Yield the notifications of the calls, so that those of one call are far apart."""
    for some in batched(call_ids(calls, first), CALLS_AT_ONCE, strict=False):
        each = [list(bodies(call_id)) for call_id in some]
        yield from chain.from_iterable([call[number] for call in each] for number in range(NOTIFICATIONS_PER_CALL))


def _body_of_kind(kind: str, call_id: str) -> bytes:
    """Return a notification that changes the call, the same once more, or one about its participants."""
    if kind != "roster":
        return list(bodies(call_id))[1]
    path = f"/communications/calls/{call_id}/participants"
    item = {"changeType": "updated", "resourceUrl": path, "resourceData": [{"id": "1"}]}
    return json.dumps({"value": [item]}).encode()


if __name__ == "__main__":
    asyncio.run(run(Options.parse(sys.argv[1])))
