"""The running host stands whatever it is sent, and tells strangers nothing. `make fuzz` goes on for minutes."""

import os
import time
from collections.abc import Iterator
from itertools import count

import httpx
import pytest
from schemathesis import GenerationMode

from tests.e2e.fuzz import Target, hammer, knock, target

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
SEED = int(os.environ.get("FUZZ_SEED") or (time.time_ns() % 1_000_000 if MINUTES else 1))
FEW, MANY = 3, 60  # requests an operation and round

pytestmark = [pytest.mark.xdist_group("e2e-fuzz"), pytest.mark.timeout(120 + 90 * MINUTES)]


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with target() as found:
        yield found


def test_whatever_a_trusted_caller_sends_the_answer_is_one_that_is_documented(running: Target) -> None:
    end = time.monotonic() + 60 * MINUTES
    for number in count(SEED):
        print(f"fuzz: seed {number}", flush=True)  # noqa: T201 (shown where it fails, and by make fuzz)
        for path, method in running.routes:
            for mode in GenerationMode:
                if mode is GenerationMode.POSITIVE or _takes_input(running, path, method):
                    hammer(running, path, method, mode, number, examples=MANY if MINUTES else FEW)
        if time.monotonic() >= end:
            break


def test_strangers_get_no_data_from_any_route(running: Target) -> None:
    with httpx.Client(timeout=30) as client:
        for name, headers in running.strangers.items():
            for path, method in running.guarded:
                answer = knock(running, client, path, method, headers)
                assert answer.status_code in {401, 403}, f"{name}: {method} {path}: {answer.status_code}"
                assert running.call_id not in answer.text
                assert set(answer.json() if answer.content else {}) <= {"type", "title", "status", "detail"}


def _takes_input(running: Target, path: str, method: str) -> bool:
    operation = running.document["paths"][path][method.lower()]
    given = [parameter for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
    return bool(given) or "requestBody" in operation
