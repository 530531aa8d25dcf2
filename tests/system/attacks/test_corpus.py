"""Each case of the corpus against the app in this process: answered as it must be, stored or not, nothing told."""

import logging
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from unittest.mock import patch

import pytest
from azure.data.tables.aio import TableServiceClient

from local.stack.azurite import running as azurite
from shared.services import Services
from tests.functions.harness import App
from tests.system.attacks.corpus import CASES
from tests.system.attacks.judge import Ledger, assert_tells_nothing, secrets_of
from tests.system.attacks.keys import Issuers
from tests.system.attacks.scene import Case, Scene, send

QUIET = ("httpcore", "httpx", "asyncio", "faker")  # the test's own clients log what they send


@pytest.fixture(scope="module")
async def door(whole_app: App, published: Issuers) -> AsyncIterator[App]:
    """The app, which trusts these keys, with storage where nobody else writes."""
    with azurite() as storage, patch.dict(os.environ, SSL_CERT_FILE=published.settings["SSL_CERT_FILE"]):
        own = {"CALLS_STORAGE": storage.connection_string}
        async with whole_app.configured(Services, **own, **published.settings) as trusting:
            yield replace(trusting, storage=storage.connection_string)


@pytest.fixture(scope="module")
async def ledger(door: App, victim: str) -> AsyncIterator[Ledger]:
    """All that is stored; the victim is."""
    async with TableServiceClient.from_connection_string(door.storage) as tables:
        found = Ledger(tables)
        await found.changed()
        assert any(victim in row_key for _, _, row_key in found.rows)
        yield found


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.kind}: {case.what}"[:80].encode("ascii", "replace").decode()
)
async def test_a_case_is_answered_as_it_must_be(
    door: App, ledger: Ledger, scene: Scene, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
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
    changed = await ledger.changed()
    assert bool(changed) == case.is_genuine
    assert all(scene.call_id in row_key for _, _, row_key in changed)


async def test_the_ledger_sees_what_is_written(door: App, ledger: Ledger, scene: Scene) -> None:
    await door.register(scene.call_id, tenantId=scene.tenant)
    assert any(scene.call_id in row_key for _, _, row_key in await ledger.changed())
    await door.asked("PUT", f"calls/{scene.call_id}", {"tenantId": scene.tenant, "metadata": {"one": "more"}})
    assert await ledger.changed() == {key for key in ledger.rows if key[2] == f"active|{scene.call_id}"}


def test_the_corpus_is_large_enough_and_says_where_each_idea_comes_from() -> None:
    assert sum(not case.is_genuine for case in CASES) >= 80
    assert sum(case.is_genuine for case in CASES) >= 20
    assert len({(case.kind, case.what) for case in CASES}) == len(CASES)
    assert all(case.what and case.source for case in CASES)
