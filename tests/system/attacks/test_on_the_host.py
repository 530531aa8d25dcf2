"""The whole corpus against the running host, as a stranger would try it: over a socket, seeing answers alone."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from azure.data.tables.aio import TableServiceClient

from local.stack.stack import APP_ID, Options, Stack, running
from shared.storage.rows import PROGRESS_ROW, WATCHDOG_ROW, WATERMARK_ROW
from tests.system.attacks.corpus import CASES
from tests.system.attacks.judge import Ledger, assert_tells_nothing, secrets_of
from tests.system.attacks.keys import ENTRA_KEYS, ENTRA_METADATA, OTHER_TENANT, Issuers
from tests.system.attacks.scene import Case, Scene, send

pytestmark = pytest.mark.timeout(180)

VICTIM = "9d0e4c2a-7f51-4b8e-a3d6-5c1f0b7e90f4"
AT_ONCE = 4
NO_SWEEPS = "0 0 0 1 1 *"
OF_SWEEPS = {PROGRESS_ROW, WATERMARK_ROW, WATCHDOG_ROW}  # any request may notice that there was none, and begin one


@pytest.fixture(scope="module")
def stack(published: Issuers) -> Iterator[Stack]:
    with running(Options(speed=1, schedule=NO_SWEEPS, settings=published.settings)) as stack:
        yield stack


async def test_all_that_must_be_refused_is_and_all_that_is_genuine_is_stored(stack: Stack, published: Issuers) -> None:
    begun, asked_before = time.monotonic(), len(published.asked)  # by tests of other files
    sent: set[str] = set()
    cases = sorted(CASES, key=lambda case: case.is_genuine)
    refused = [case for case in cases if not case.is_genuine]
    async with (
        httpx.AsyncClient(base_url=stack.api, headers={"x-functions-key": stack.function_key}) as client,
        TableServiceClient.from_connection_string(stack.storage.connection_string) as tables,
    ):
        registered = await client.put(f"/calls/{VICTIM}", json={"tenantId": OTHER_TENANT})
        assert registered.is_success
        slots, ledger = asyncio.Semaphore(AT_ONCE), Ledger(tables)
        await ledger.changed()

        async def all_hold(tried: list[Case]) -> list[bool]:
            return await asyncio.gather(*(_holds(client, stack, case, sent, slots, published) for case in tried))

        held = await all_hold(refused)
        changed = await ledger.changed()
        held += await all_hold(cases[len(refused) :])
        untouched = await client.get(f"/calls/{VICTIM}")

    assert [str(case) for case, holds in zip(cases, held, strict=True) if not holds] == []
    assert [key for key in changed if VICTIM not in key[2] and key[2] not in OF_SWEEPS] == []
    assert _without_lease(untouched) == _without_lease(registered)  # the simulator does not know it
    assert sent
    assert [secret for secret in sent if secret in stack.host.output] == []
    assert "notifications.rejected" in stack.host.output
    assert "notifications.other_tenant" in stack.host.output
    minutes = 1 + (time.monotonic() - begun) // 60
    asked = published.asked[asked_before:]
    assert asked.count("/graph/keys") <= 1 + minutes  # whatever kid the tokens name
    graphs = {"/graph/metadata", "/graph/keys", "/other/metadata", "/other/keys"}
    assert set(asked) == graphs | {ENTRA_METADATA, ENTRA_KEYS}


def _without_lease(answer: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in answer.json().items() if name != "lease"}


async def _holds(  # noqa: PLR0917 what a case needs
    client: httpx.AsyncClient, stack: Stack, case: Case, sent: set[str], slots: asyncio.Semaphore, published: Issuers
) -> bool:
    """Whether it is answered as it must be, and what it tells of is on record only if it is genuine."""
    async with slots:
        scene = Scene(APP_ID, VICTIM, published.authority)
        request = case.build(scene)
        sent |= secrets_of(request)
        answer = await send(stack.address, request)
        assert_tells_nothing(case, request, answer, scene)
        known = await client.get(f"/calls/{scene.call_id}")
    return answer.status in case.statuses and known.is_success == case.is_genuine
