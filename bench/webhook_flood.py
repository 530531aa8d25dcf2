"""A flood of forged notifications at the webhook: `python -m bench.webhook_flood [--seconds 60]`.

First it measures how many tokens one core verifies. Then it measures how much a flood of forged tokens slows down
genuine ones at the running host. docs/security.md has the results.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from bench.measure import cpu_seconds_of
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

CONNECTIONS = 4  # of each sender
MIN_TOKENS_A_SECOND = 2000  # the goal, for one core
MIN_FAIR_PART = 0.75  # the part of its fair rate that genuine traffic must keep
MAX_FLOOD_SHARE = 0.9  # of a core; with a larger share the fair rate is so low that any rate would pass
CPU_TIME_EACH = timedelta(seconds=3)  # for which one kind of token is verified
WARM_UP = timedelta(seconds=3)
TOKEN_REUSE = timedelta(seconds=200)  # a token lives for 300 s

type Sender = Callable[[], Request]


@dataclass(frozen=True)
class Throughput:
    """The result of one sender: requests a second, the median latency in seconds, and the host's CPU (1: one core)."""

    rate: float
    median: float
    cpu: float


def forged(builder: RequestBuilder) -> list[Request]:
    """Return forgeries that cost CPU time. The first one reaches the check of the signature."""
    return [
        signed_by("stranger", kid="first")(builder),
        signed_by("stranger", kid="made-up")(builder),
        with_algorithm("none", lambda _: b"")(builder),
        builder.post("a.b.c", b" " * 65_536),
    ]


async def verification_rates() -> dict[str, float]:
    """Return how many tokens one core verifies a second, by kind of token."""
    builder, rates = RequestBuilder(APP_ID, victim=""), dict[str, float]()
    with temporary_folder() as folder, issuers(folder) as published:
        client = HttpClient(1)
        try:
            keys = SigningKeys((f"{published.address}/graph/metadata",), client, SystemClock())
            kind = TokenKind("legacy", (ISSUER,), frozenset({APP_ID}), keys)
            verifier = TokenVerifier((kind,), SystemClock())
            kinds = {
                "genuine": builder.post(),
                "forged, known key": forged(builder)[0],
                "made-up key": forged(builder)[1],
            }
            for name, request in kinds.items():
                rates[name] = await _verification_rate(verifier, str(dict(request.headers)["Authorization"]))
        finally:
            await client.close()
    return rates


async def _verification_rate(verifier: TokenVerifier, header: str) -> float:
    """Return how often a second one core verifies one token. The first time is not counted: it fetches the keys."""
    await _verify(verifier, header)
    began, count = time.process_time(), 0
    while time.process_time() - began < CPU_TIME_EACH.total_seconds():
        await _verify(verifier, header)
        count += 1
    return count / (time.process_time() - began)


async def _verify(verifier: TokenVerifier, header: str) -> None:
    try:
        await verifier.verify(header)
    except Unauthenticated:
        return


async def measure_throughput(stack: Stack, seconds: float, *senders: Sender) -> list[Throughput]:
    """Let each sender send its requests over its connections, each as soon as the one before is answered."""
    latencies: list[list[float]] = [[] for _ in senders]
    cpu, began = cpu_seconds_of(stack.host.pid), time.monotonic()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for sender, own in zip(senders, latencies, strict=True):
            for _ in range(CONNECTIONS):
                group.create_task(_send(session, stack.address, sender, own, began + seconds))
    elapsed = time.monotonic() - began
    used = (cpu_seconds_of(stack.host.pid) - cpu) / elapsed
    return [Throughput(len(own) / elapsed, sorted(own)[len(own) // 2], used) for own in latencies]


async def _send(
    session: aiohttp.ClientSession, address: str, sender: Sender, latencies: list[float], until: float
) -> None:
    while time.monotonic() < until:
        request = sender()
        headers = {name: str(value) for name, value in request.headers}
        began = time.monotonic()
        async with session.post(address + request.target, data=request.body, headers=headers) as answer:
            await answer.read()
        latencies.append(time.monotonic() - began)


def _genuine() -> Iterator[Request]:
    """Yield genuine notifications for ever, with a new token before the one in use expires."""
    token = RequestBuilder(APP_ID, victim="").token()
    began = time.monotonic()
    while True:
        if time.monotonic() - began > TOKEN_REUSE.total_seconds():
            token, began = RequestBuilder(APP_ID, victim="").token(), time.monotonic()
        yield RequestBuilder(APP_ID, victim="").post(token)


async def flood(stack: Stack, seconds: float) -> bool:
    """Measure genuine traffic alone, forged traffic alone, and both together; return the verdict of `is_fair`."""
    genuine, false = _genuine().__next__, itertools.cycle(forged(RequestBuilder(APP_ID, victim=""))).__next__
    await measure_throughput(stack, WARM_UP.total_seconds(), genuine, false)
    (alone,) = await measure_throughput(stack, seconds / 4, genuine)
    (attack,) = await measure_throughput(stack, seconds / 4, false)
    mixed, flooding = await measure_throughput(stack, seconds, genuine, false)
    share = flooding.rate * attack.cpu / attack.rate
    print(f"genuine alone      {alone.rate:7.0f}/s  median {1000 * alone.median:6.1f} ms  host {alone.cpu:4.2f} CPU")
    print(f"forged alone       {attack.rate:7.0f}/s  median {1000 * attack.median:6.1f} ms  host {attack.cpu:4.2f} CPU")
    print(f"genuine in a flood {mixed.rate:7.0f}/s  median {1000 * mixed.median:6.1f} ms  host {mixed.cpu:4.2f} CPU")
    print(f"the flood          {flooding.rate:7.0f}/s  median {1000 * flooding.median:6.1f} ms  share {share:4.2f} CPU")
    return is_fair(alone.rate, mixed.rate, share)


def is_fair(alone: float, mixed: float, share: float) -> bool:
    """Return True if genuine traffic keeps at least three quarters of its fair rate, and print the arithmetic.

    The fair rate is the rate without a flood, times the CPU that the flood leaves.

    Parameters
    ----------
    alone, mixed
        Genuine requests a second, without a flood and in it.
    share
        The CPU that the flood uses; 1 is a whole core.
    """
    measured = f"genuine: {alone:.1f}/s alone, {mixed:.1f}/s in the flood, which uses {share:.2f} CPU"
    if share > MAX_FLOOD_SHARE:
        print(f"{measured}: no verdict, because the fair rate would be almost 0 (share at most {MAX_FLOOD_SHARE})")
        return False
    fair = alone * (1 - share)
    print(f"{measured}: the fair rate is {fair:.1f}/s, {mixed / fair:.2f} of it was kept (at least {MIN_FAIR_PART})")
    return mixed >= MIN_FAIR_PART * fair


def main() -> int:
    """Measure, print the results, and return 0 if both goals are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook_flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long genuine and forged requests are mixed")
    seconds = parser.parse_args().seconds
    rates = asyncio.run(verification_rates())
    for name, rate in rates.items():
        print(f"verified a second of one core, {name}: {rate:,.0f}")
    with (
        temporary_folder() as folder,
        issuers(folder) as published,
        running(Options(speed=1, schedule="0 0 0 1 1 *", settings=published.settings)) as stack,
    ):
        fair = asyncio.run(flood(stack, seconds))
    return 0 if fair and rates["genuine"] >= MIN_TOKENS_A_SECOND else 1


if __name__ == "__main__":
    sys.exit(main())
