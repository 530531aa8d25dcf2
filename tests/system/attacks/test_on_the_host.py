"""The whole corpus against the running host, as a stranger would try it: over a bare socket."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from azure.data.tables.aio import TableServiceClient

from local.stack.stack import APP_ID, Options, Stack, running
from shared.storage.rows import PROGRESS_ROW, WATCHDOG_ROW, WATERMARK_ROW
from tests.system.attacks.cases import Case
from tests.system.attacks.checks import StoredRows, assert_discloses_nothing, secrets_of
from tests.system.attacks.corpus import CASES
from tests.system.attacks.keys import ENTRA_KEYS, ENTRA_METADATA, OTHER_TENANT, Issuers
from tests.system.attacks.raw_http import send
from tests.system.attacks.request_builders import RequestBuilder

pytestmark = pytest.mark.timeout(180)

VICTIM = "9d0e4c2a-7f51-4b8e-a3d6-5c1f0b7e90f4"
MAX_CONNECTIONS = 4
NO_SWEEPS = "0 0 0 1 1 *"
SWEEP_ROWS = {PROGRESS_ROW, WATERMARK_ROW, WATCHDOG_ROW}  # any request may find that sweeps are overdue, and start one


@pytest.fixture(scope="module")
def stack(published: Issuers) -> Iterator[Stack]:
    with running(Options(speed=1, schedule=NO_SWEEPS, settings=published.settings)) as stack:
        yield stack


async def test_each_case_is_refused_or_stored_as_it_must_be(stack: Stack, published: Issuers) -> None:
    began, asked_before = time.monotonic(), len(published.asked)  # tests of other files asked as well
    sent: set[str] = set()
    cases = sorted(CASES, key=lambda case: case.must_be_accepted)
    refused = [case for case in cases if not case.must_be_accepted]
    async with (
        httpx.AsyncClient(base_url=stack.api, headers={"x-functions-key": stack.function_key}) as client,
        TableServiceClient.from_connection_string(stack.storage.connection_string) as tables,
    ):
        registered = await client.put(f"/calls/{VICTIM}", json={"tenantId": OTHER_TENANT})
        assert registered.is_success
        limit, rows = asyncio.Semaphore(MAX_CONNECTIONS), StoredRows(tables)
        await rows.changed()

        async def results(tried: list[Case]) -> list[bool]:
            return await asyncio.gather(*(_holds(client, stack, case, sent, limit, published) for case in tried))

        held = await results(refused)
        changed = await rows.changed()
        held += await results(cases[len(refused) :])
        untouched = await client.get(f"/calls/{VICTIM}")

    assert [case.id for case, holds in zip(cases, held, strict=True) if not holds] == []
    assert [key for key in changed if VICTIM not in key[2] and key[2] not in SWEEP_ROWS] == []
    # The lease changes: the simulator does not know the call, so its keepAlive fails.
    assert _without_lease(untouched) == _without_lease(registered)
    assert sent
    assert [secret for secret in sent if secret in stack.host.output] == []
    assert "notifications.rejected" in stack.host.output
    assert "notifications.other_tenant" in stack.host.output
    minutes = 1 + (time.monotonic() - began) // 60
    asked = published.asked[asked_before:]
    assert asked.count("/graph/keys") <= 1 + minutes  # one fetch a minute at most, whatever kid the tokens name
    graphs = {"/graph/metadata", "/graph/keys", "/other/metadata", "/other/keys"}
    assert set(asked) == graphs | {ENTRA_METADATA, ENTRA_KEYS}


def _without_lease(response: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in response.json().items() if name != "lease"}


async def _holds(  # noqa: PLR0917 (all that a case needs)
    client: httpx.AsyncClient, stack: Stack, case: Case, sent: set[str], limit: asyncio.Semaphore, published: Issuers
) -> bool:
    """Return True if the status is right, and the call is stored only if the case must be accepted."""
    async with limit:
        builder = RequestBuilder(APP_ID, VICTIM, published.authority)
        request = case.build(builder)
        sent |= secrets_of(request)
        response = await send(stack.address, request)
        assert_discloses_nothing(case, request, response, builder)
        stored = await client.get(f"/calls/{builder.call_id}")
    return response.status in case.statuses and stored.is_success == case.must_be_accepted
