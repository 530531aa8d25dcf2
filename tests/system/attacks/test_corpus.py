"""Each case of the corpus against the app in this process: its status, what is stored, and what is disclosed."""

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
from tests.system.attacks.cases import Case
from tests.system.attacks.checks import StoredRows, assert_discloses_nothing, secrets_of
from tests.system.attacks.corpus import CASES
from tests.system.attacks.keys import Issuers
from tests.system.attacks.raw_http import send
from tests.system.attacks.request_builders import RequestBuilder

QUIET = ("httpcore", "httpx", "asyncio", "faker")  # loggers of the test's own clients, which log what they send


@pytest.fixture(scope="module")
async def trusting_app(whole_app: App, published: Issuers) -> AsyncIterator[App]:
    """Return the app that trusts the published keys, with a storage in which no other test writes."""
    with azurite() as storage, patch.dict(os.environ, SSL_CERT_FILE=published.settings["SSL_CERT_FILE"]):
        own = {"CALLS_STORAGE": storage.connection_string}
        async with whole_app.configured(Services, **own, **published.settings) as trusting:
            yield replace(trusting, storage=storage.connection_string)


@pytest.fixture(scope="module")
async def rows(trusting_app: App, victim: str) -> AsyncIterator[StoredRows]:
    """Return the stored rows, with the victim's among them."""
    async with TableServiceClient.from_connection_string(trusting_app.storage) as tables:
        found = StoredRows(tables)
        await found.changed()
        assert any(victim in row_key for _, _, row_key in found.etags)
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_a_case_gets_its_status_and_changes_only_what_it_may(
    trusting_app: App, rows: StoredRows, builder: RequestBuilder, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    request = case.build(builder)
    caplog.clear()

    response = await send(trusting_app.address, request)

    assert response.status in case.statuses, response.body
    assert_discloses_nothing(case, request, response, builder)
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records if record.name not in QUIET)
    assert [secret for secret in secrets_of(request) if secret in logged] == []
    known = await trusting_app.parts.store.get(builder.call_id)
    assert (known is not None) == case.must_be_accepted
    assert known is None or known.value.tenant_id == builder.tenant
    changed = await rows.changed()
    assert bool(changed) == case.must_be_accepted
    assert all(builder.call_id in row_key for _, _, row_key in changed)


async def test_a_written_row_is_seen_as_changed(trusting_app: App, rows: StoredRows, builder: RequestBuilder) -> None:
    await trusting_app.register(builder.call_id, tenantId=builder.tenant)
    assert any(builder.call_id in row_key for _, _, row_key in await rows.changed())
    await trusting_app.asked(
        "PUT", f"calls/{builder.call_id}", {"tenantId": builder.tenant, "metadata": {"one": "more"}}
    )
    assert await rows.changed() == {key for key in rows.etags if key[2] == f"active|{builder.call_id}"}


def test_the_corpus_is_large_and_each_case_names_its_source() -> None:
    assert sum(not case.must_be_accepted for case in CASES) >= 80
    assert sum(case.must_be_accepted for case in CASES) >= 20
    assert len({(case.kind, case.what) for case in CASES}) == len(CASES)
    assert all(case.what and case.source for case in CASES)
