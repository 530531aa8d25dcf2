"""The running host answers arbitrary requests as documented, and discloses nothing without credentials.

`make fuzz` runs these tests for minutes.
"""

import os
import time
from collections.abc import Callable, Iterator
from itertools import count

import httpx
import pytest
from schemathesis import GenerationMode

from tests.system.e2e.fuzz import Target, assert_discloses_nothing, hammer, intrude, request_call, target

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
SEED = int(os.environ.get("FUZZ_SEED") or (time.time_ns() % 1_000_000 if MINUTES else 1))
FEW, MANY = 5, 60  # requests for each operation in a round

pytestmark = pytest.mark.timeout(120 + 90 * MINUTES)


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with target() as found:
        yield found


def test_with_credentials_each_response_is_documented(running: Target) -> None:
    _for_a_while(running, running.routes, hammer, 0.8 * MINUTES)


def test_without_credentials_each_request_is_refused(running: Target) -> None:
    _for_a_while(running, running.guarded, intrude, 0.2 * MINUTES)


def test_no_route_discloses_data_to_wrong_credentials(running: Target) -> None:
    with httpx.Client(timeout=30) as client:
        for path, method in running.guarded:
            for name, headers in running.refused(path).items():
                print(f"{name}: {method} {path}")  # noqa: T201 (shown if the test fails)
                assert_discloses_nothing(running, path, request_call(running, client, path, method, headers))


def _for_a_while(running: Target, routes: list[tuple[str, str]], send: Callable[..., None], minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    for number in count(SEED):
        print(f"fuzz: seed {number}", flush=True)  # noqa: T201 (shown if the test fails, and by make fuzz)
        for path, method in routes:
            for mode in GenerationMode:
                if mode is GenerationMode.POSITIVE or running.takes_input(path, method):
                    send(running, path, method, mode, number, examples=MANY if minutes else FEW)
        if time.monotonic() >= end:
            break
