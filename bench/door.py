"""Load at the door, by hand: `python -m bench.door [--seconds 60]`. docs/security.md tells what it showed.

First how many tokens one core verifies; then what a flood of forged ones does to genuine ones at the running host.
"""

import argparse
import asyncio
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from local.stack.folders import temporary_folder
from local.stack.stack import APP_ID, Options, Stack, running
from shared.auth.signing_keys import SigningKeys
from shared.auth.token_kinds import TokenKind
from shared.auth.tokens import TokenVerifier
from shared.clock import SystemClock
from shared.errors import Unauthenticated
from shared.http_client import HttpClient
from tests.system.attacks.keys import ISSUER, issuers
from tests.system.attacks.raw_http import Request
from tests.system.attacks.request_builders import RequestBuilder, signed_by, with_algorithm

AT_ONCE = 4  # connections of each side
TOKENS_A_SECOND = 2000  # of one core, the goal
A_QUARTER = 0.75  # what must be left of genuine traffic's due
MOST_SHARE = 0.9  # of a core; with a larger one next to nothing is due, and any rate would do
MICRO = 3  # seconds
FRESH = 200  # seconds that a token serves here; it lives 300


@dataclass(frozen=True)
class Pace:
    """What a side got done: requests a second, their median time in seconds, and the host's CPU a second."""

    rate: float
    median: float
    cpu: float


def forged(scene: RequestBuilder) -> list[Request]:
    """Forgeries that cost something: the first reaches the signature."""
    return [
        signed_by("stranger", kid="first")(scene),
        signed_by("stranger", kid="made-up")(scene),
        with_algorithm("none", lambda _: b"")(scene),
        scene.post("a.b.c", b" " * 65_536),
    ]


async def verifications() -> dict[str, float]:
    """Tokens a second of one core, by what they are."""
    scene, found = RequestBuilder(APP_ID, victim=""), dict[str, float]()
    with temporary_folder() as folder, issuers(folder) as published:
        client = HttpClient(1)
        try:
            keys = SigningKeys((f"{published.address}/graph/metadata",), client, SystemClock())
            kind = TokenKind("legacy", (ISSUER,), frozenset({APP_ID}), keys)
            verifier = TokenVerifier((kind,), SystemClock())
            kinds = {"genuine": scene.post(), "forged, known key": forged(scene)[0], "made-up key": forged(scene)[1]}
            for name, request in kinds.items():
                header = str(dict(request.headers)["Authorization"])
                await _verify(verifier, header)
                begun, number = time.process_time(), 0
                while time.process_time() - begun < MICRO:
                    await _verify(verifier, header)
                    number += 1
                found[name] = number / (time.process_time() - begun)
        finally:
            await client.close()
    return found


async def _verify(verifier: TokenVerifier, header: str) -> None:
    try:
        await verifier.verify(header)
    except Unauthenticated:
        return


async def pace(stack: Stack, seconds: float, *sides: Callable[[], Request]) -> list[Pace]:
    """Let each side send what it makes over its connections, as fast as it is answered."""
    times: list[list[float]] = [[] for _ in sides]
    cpu, begun = _cpu(stack.host.pid), time.monotonic()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for side, mine in zip(sides, times, strict=True):
            for _ in range(AT_ONCE):
                group.create_task(_send(session, stack.address, side, mine, begun + seconds))
    took = time.monotonic() - begun
    used = (_cpu(stack.host.pid) - cpu) / took
    return [Pace(len(mine) / took, sorted(mine)[len(mine) // 2], used) for mine in times]


async def _send(
    session: aiohttp.ClientSession, address: str, side: Callable[[], Request], times: list[float], until: float
) -> None:
    while time.monotonic() < until:
        request = side()
        headers = {name: str(value) for name, value in request.headers}
        begun = time.monotonic()
        async with session.post(address + request.target, data=request.body, headers=headers) as answer:
            await answer.read()
        times.append(time.monotonic() - begun)


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, by proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _genuine() -> Iterator[Request]:
    token = RequestBuilder(APP_ID, victim="").token()
    begun = time.monotonic()
    while True:
        if time.monotonic() - begun > FRESH:
            token, begun = RequestBuilder(APP_ID, victim="").token(), time.monotonic()
        yield RequestBuilder(APP_ID, victim="").post(token)


async def flood(stack: Stack, seconds: float) -> bool:
    """Genuine traffic alone, forged alone, both; whether genuine traffic keeps three quarters of what is its due."""
    genuine, false = _genuine().__next__, itertools.cycle(forged(RequestBuilder(APP_ID, victim=""))).__next__
    await pace(stack, 3, genuine, false)  # warm
    (alone,) = await pace(stack, seconds / 4, genuine)
    (attack,) = await pace(stack, seconds / 4, false)
    mixed, beside = await pace(stack, seconds, genuine, false)
    share = beside.rate * attack.cpu / attack.rate
    print(f"genuine alone      {alone.rate:7.0f}/s  median {1000 * alone.median:6.1f} ms  host {alone.cpu:4.2f} CPU")
    print(f"forged alone       {attack.rate:7.0f}/s  median {1000 * attack.median:6.1f} ms  host {attack.cpu:4.2f} CPU")
    print(f"genuine in a flood {mixed.rate:7.0f}/s  median {1000 * mixed.median:6.1f} ms  host {mixed.cpu:4.2f} CPU")
    print(f"the flood          {beside.rate:7.0f}/s  median {1000 * beside.median:6.1f} ms  share {share:4.2f} CPU")
    return is_fair(alone.rate, mixed.rate, share)


def is_fair(alone: float, mixed: float, share: float) -> bool:
    """Whether genuine traffic keeps three quarters of what the flood's share of CPU leaves it; tells why, or why not.

    Parameters
    ----------
    alone, mixed
        Genuine requests a second, without a flood and in it.
    share
        Of CPU, the flood's; 1 is a whole core.
    """
    told = f"genuine: {alone:.1f}/s alone, {mixed:.1f}/s in the flood, whose share is {share:.2f} CPU"
    if share > MOST_SHARE:
        print(f"{told}: nothing can be judged, as next to nothing would be due (share at most {MOST_SHARE})")
        return False
    due = alone * (1 - share)
    print(f"{told}: {due:.1f}/s are its due, {mixed / due:.2f} of it came (at least {A_QUARTER})")
    return mixed >= A_QUARTER * due


def main() -> int:
    """Measure, print, and say by the exit code whether both goals are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long genuine and forged requests are mixed")
    seconds = parser.parse_args().seconds
    rates = asyncio.run(verifications())
    for name, rate in rates.items():
        print(f"verified a second of one core, {name}: {rate:,.0f}")
    with (
        temporary_folder() as folder,
        issuers(folder) as published,
        running(Options(speed=1, schedule="0 0 0 1 1 *", settings=published.settings)) as stack,
    ):
        fair = asyncio.run(flood(stack, seconds))
    return 0 if fair and rates["genuine"] >= TOKENS_A_SECOND else 1


if __name__ == "__main__":
    sys.exit(main())
