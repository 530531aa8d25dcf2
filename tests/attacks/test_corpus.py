"""Each case of the corpus against the app in this process: answered as it must be, stored or not, nothing told."""

import logging

import pytest

from tests.attacks.corpus import CASES
from tests.attacks.judge import assert_tells_nothing, secrets_of
from tests.attacks.scene import Case, Scene, send
from tests.functions.harness import App

QUIET = ("httpcore", "httpx", "asyncio", "faker")  # the test's own clients log what they send


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.kind}: {case.what}"[:80].encode("ascii", "replace").decode()
)
async def test_a_case_is_answered_as_it_must_be(
    door: App, scene: Scene, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    before = await door.parts.store.get(scene.victim)
    request = case.build(scene)
    caplog.clear()

    answer = await send(door.address, request)

    assert answer.status in case.statuses, answer.body
    assert_tells_nothing(case, request, answer, scene)
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name not in QUIET)
    assert [secret for secret in secrets_of(request) if secret in logged] == []
    known = await door.parts.store.get(scene.call_id)
    assert (known is not None) == case.is_genuine
    assert known is None or known.value.tenant_id == scene.tenant
    assert await door.parts.store.get(scene.victim) == before


def test_the_corpus_is_large_enough_and_says_where_each_idea_comes_from() -> None:
    assert sum(not case.is_genuine for case in CASES) >= 80
    assert sum(case.is_genuine for case in CASES) >= 20
    assert len({(case.kind, case.what) for case in CASES}) == len(CASES)
    assert all(case.what and case.source for case in CASES)
