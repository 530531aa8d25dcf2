"""Each type of problem, and a request that leads to it."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from functions.problems import GRAPH_TIMEOUT, INTERNAL_ERROR, PROBLEM_TYPES, TYPE_PREFIX, ProblemType
from functions.routing import MAX_BODY_BYTES
from shared.api.idempotency import parse_key
from shared.domain.calls import IdempotencyRecord
from shared.domain.deliveries import DeliveryStatus
from shared.errors import RowUnreadable, StoreConflict, StoreUnavailable
from shared.services import Services
from tests.functions.harness import (
    KEY,
    App,
    LosingStore,
    about_call,
    asking_for_tokens,
    bearer,
    relay_to,
    store_delivery,
    with_store,
)

type Case = Callable[[App], Awaitable[httpx.Response]]

KEYED = KEY | {"Idempotency-Key": '"one"'}
CASES: dict[str, Case] = {}


def leads_to(name: str) -> Callable[[Case], Case]:
    def register(case: Case) -> Case:
        CASES[name] = case
        return case

    return register


class Broken:
    """Stands for a part whose every method fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> object:
        raise self._error


async def with_broken(app: App, part: str, error: Exception) -> httpx.Response:
    async with app.configured() as broken:
        vars(broken.parts)[part] = Broken(error)
        answer = await broken.http.get("/api/calls/a-call", headers=KEY)
        del vars(broken.parts)[part]
    return answer


async def with_fault(app: App, **fault: Any) -> httpx.Response:  # noqa: ANN401 (JSON)
    call_id = await app.register()
    await app.simulator.fault(operation="delete", callId=call_id, **fault)
    return await app.http.post(f"/api/calls/{call_id}/hangup", headers=KEY)


@leads_to("invalid-request")
async def _(app: App) -> httpx.Response:
    return await app.http.get("/api/calls?limit=0", headers=KEY)


@leads_to("body-too-large")
async def _(app: App) -> httpx.Response:
    return await app.http.put("/api/calls/a-call", content=b" " * (MAX_BODY_BYTES + 1), headers=KEY)


@leads_to("unsupported-media-type")
async def _(app: App) -> httpx.Response:
    return await app.http.put("/api/calls/a-call", content=b"{}", headers=KEY | {"Content-Type": "text/plain"})


@leads_to("unauthenticated")
async def _(app: App) -> httpx.Response:
    async with app.configured(Services, **asking_for_tokens()) as guarded:
        return await guarded.http.get("/api/calls", headers=KEY)


@leads_to("forbidden")
async def _(app: App) -> httpx.Response:
    async with app.configured(Services, **asking_for_tokens()) as guarded:
        return await guarded.http.get("/api/calls", headers=await bearer(guarded))


@leads_to("signing-keys-unavailable")
async def _(app: App) -> httpx.Response:
    closed = {"MANAGEMENT_METADATA_URL": "http://127.0.0.1:9/"}
    async with app.configured(Services, **asking_for_tokens() | closed) as cut_off:
        return await cut_off.http.get("/api/calls", headers=await bearer(cut_off))


@leads_to("call-not-found")
async def _(app: App) -> httpx.Response:
    return await app.http.get(f"/api/calls/{uuid4()}", headers=KEY)


@leads_to("operation-not-found")
async def _(app: App) -> httpx.Response:
    return await app.http.get(f"/api/calls/{await app.register()}/operations/none", headers=KEY)


@leads_to("delivery-not-found")
async def _(app: App) -> httpx.Response:
    return await app.http.post("/api/deliveries/00-1234567890123456-0a1b2c3d/replay", headers=KEY)


@leads_to("target-not-found")
async def _(app: App) -> httpx.Response:
    return await app.http.post("/api/relay/targets/none/enable", headers=KEY)


@leads_to("delivery-not-replayable")
async def _(app: App) -> httpx.Response:
    delivery = await store_delivery(app, str(uuid4()), DeliveryStatus.DELIVERED)
    return await app.http.post(f"/api/deliveries/{delivery.id}/replay", headers=KEY)


@leads_to("later-delivery-delivered")
async def _(app: App) -> httpx.Response:
    call_id = str(uuid4())
    dead = await store_delivery(app, call_id)
    await store_delivery(app, call_id, DeliveryStatus.DELIVERED)
    async with app.configured(Services, **relay_to("bot")) as relaying:
        return await relaying.http.post(f"/api/deliveries/{dead.id}/replay", headers=KEY)


@leads_to("call-ended")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    return await app.http.post(f"/api/calls/{call_id}/record", headers=KEY)


@leads_to("tenant-mismatch")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    return await app.http.put(f"/api/calls/{call_id}", json={"tenantId": str(uuid4())}, headers=KEY)


@leads_to("app-mismatch")
async def _(app: App) -> httpx.Response:
    call_id, other = await app.register(), str(uuid4())
    bots = f'[{{"appId": "{other}", "credential": "managedIdentity"}}]'
    async with app.configured(GRAPH_APPS=bots) as several:
        body = {"tenantId": app.tenant, "appId": other}
        return await several.http.put(f"/api/calls/{call_id}", json=body, headers=KEY)


@leads_to("request-in-progress")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    key = parse_key(KEYED["Idempotency-Key"], "function key", "hangup")
    assert key is not None
    await app.parts.store.claim_idempotency_key(
        call_id, key.name, IdempotencyRecord(key.fingerprint, app.clock.now()), None
    )
    return await app.http.post(f"/api/calls/{call_id}/hangup", headers=KEYED)


@leads_to("outcome-unknown")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    await app.simulator.fault(operation="recordResponse", callId=call_id, dropConnection=True)
    first = await app.asked("POST", f"calls/{call_id}/record", expect=409, headers=KEYED)
    assert first["type"] == TYPE_PREFIX + "outcome-unknown"
    return await app.http.post(f"/api/calls/{call_id}/record", headers=KEYED)


@leads_to("idempotency-key-reused")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    await app.ask("POST", f"calls/{call_id}/record", expect=202, headers=KEYED)
    return await app.http.post(f"/api/calls/{call_id}/hangup", headers=KEYED)


@leads_to("recording-not-persisted")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    async with with_store(app, LosingStore) as troubled:
        answer = await troubled.http.post(f"/api/calls/{call_id}/record", headers=KEY)
    assert "retry-after" not in answer.headers  # a repetition would start a second recording
    return answer


@leads_to("storage-unavailable")
async def _(app: App) -> httpx.Response:
    return await with_broken(app, "management", StoreUnavailable("Away (test)."))


@leads_to("record-unreadable")
async def _(app: App) -> httpx.Response:
    return await with_broken(app, "management", RowUnreadable("active|a-call"))


@leads_to("service-unavailable")
async def _(app: App) -> httpx.Response:
    return await with_broken(app, "management", StoreConflict("Nobody caught it (test)."))


@leads_to("internal-error")
async def _(app: App) -> httpx.Response:
    answer = await with_broken(app, "management", RuntimeError("with a secret"))
    assert "secret" not in answer.text
    return answer


@leads_to("invalid-settings")
async def _(app: App) -> httpx.Response:
    async with app.configured(CALLS_STORAGE="nonsense") as wrong:
        return await wrong.http.get("/api/calls", headers=KEY)


@leads_to("graph-token-unavailable")
async def _(app: App) -> httpx.Response:
    call_id = await app.register()
    await app.simulator.fault(operation="token", status=400, tenantId=app.tenant)
    async with app.configured() as fresh:
        return await fresh.http.post(f"/api/calls/{call_id}/hangup", headers=KEY)


@leads_to("graph-throttled")
async def _(app: App) -> httpx.Response:
    return await with_fault(app, status=429, retryAfter="1")


@leads_to("graph-unavailable")
async def _(app: App) -> httpx.Response:
    return await with_fault(app, status=500)


@leads_to("graph-unreachable")
async def _(app: App) -> httpx.Response:
    return await with_fault(app, status=403, proxyResponse="page")


@leads_to("graph-refused")
async def _(app: App) -> httpx.Response:
    return await with_fault(app, status=403, subcode=7505)


@leads_to("graph-timeout")
async def _(app: App) -> httpx.Response:
    return await with_fault(app, dropConnection=True)


ALL = list(dict.fromkeys([*(kind for _, kind in PROBLEM_TYPES), GRAPH_TIMEOUT, INTERNAL_ERROR]))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
async def test_a_request_leads_to_it_with_its_type_status_and_title(app: App, kind: ProblemType) -> None:
    answer = await CASES[kind.name](app)
    problem = answer.json()
    assert (problem["type"], problem["title"], problem["status"]) == (TYPE_PREFIX + kind.name, kind.title, kind.status)
    assert (answer.status_code, answer.headers["content-type"]) == (kind.status, "application/problem+json")
    assert problem["detail"]
    if kind.status == 401:
        assert "access token of Entra for MANAGEMENT_AUDIENCE" in problem["detail"]


def test_no_two_kinds_have_one_name() -> None:
    assert len({kind.name for kind in ALL}) == len(ALL) == len(CASES)
