"""The running host stands whatever it is sent, and tells strangers nothing. `make fuzz` goes on for minutes."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import count

import httpx
import pytest
from schemathesis import GenerationMode

from tests.system.e2e.fuzz import Target, hammer, intrude, knock, target, tells_nothing

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
SEED = int(os.environ.get("FUZZ_SEED") or (time.time_ns() % 1_000_000 if MINUTES else 1))
FEW, MANY = 5, 60  # requests an operation and round

pytestmark = pytest.mark.timeout(120 + 90 * MINUTES)


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with target() as found:
        yield found


def test_whatever_a_trusted_caller_or_graph_sends_the_answer_is_one_that_is_documented(running: Target) -> None:
    _for_a_while(running, running.routes, hammer, 0.8 * MINUTES)


def test_whatever_strangers_send_they_learn_nothing(running: Target) -> None:
    _for_a_while(running, running.guarded, intrude, 0.2 * MINUTES)


def test_strangers_get_no_data_from_any_route(running: Target) -> None:
    with httpx.Client(timeout=30) as client:
        for path, method in running.guarded:
            for name, headers in running.wrongs(path).items():
                print(f"{name}: {method} {path}")  # noqa: T201 (shown where it fails)
                tells_nothing(running, path, knock(running, client, path, method, headers))


def _for_a_while(running: Target, routes: list[tuple[str, str]], send: Callable[..., None], minutes: float) -> None:
    end = time.monotonic() + 60 * minutes
    for number in count(SEED):
        print(f"fuzz: seed {number}", flush=True)  # noqa: T201 (shown where it fails, and by make fuzz)
        for path, method in routes:
            for mode in GenerationMode:
                if mode is GenerationMode.POSITIVE or running.takes_input(path, method):
                    send(running, path, method, mode, number, examples=MANY if minutes else FEW)
        if time.monotonic() >= end:
            break
