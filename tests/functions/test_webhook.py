"""Graph's webhook: its responses, and what it stores."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from functions.notifications import MAX_NOTIFICATION_BODY
from functions.problems import GENERIC_DETAILS
from shared.api.webhook import MAX_NOTIFICATIONS_PER_CHANGE
from shared.auth.tokens import LEEWAY
from shared.domain.calls import Call, Operation
from shared.errors import StoreUnavailable
from shared.storage.changes import Committed
from shared.storage.store import CallStore, Change, Stored
from shared.storage.wakeup_queue import Renew
from tests.functions.harness import App, about_call, about_operation
from tests.functions.test_hangup import WatchedQueue, WithWatchedQueue, queue  # noqa: F401 (a fixture)

OTHER = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"
END: dict[str, JsonValue] = {"state": "terminated", "resultInfo": {"code": 408, "subcode": 8537, "message": "lapsed"}}


async def post(app: App, content: bytes, headers: dict[str, str] | None = None) -> int:
    signed = await app.simulator.signature(app.tenant) if headers is None else headers
    answer = await app.http.post("/api/notifications", content=content, headers=signed)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
    else:
        assert answer.content == b""
    return answer.status_code


async def test_an_accepted_notification_is_stored(app: App) -> None:
    call_id = str(uuid4())
    await app.notify(about_call(call_id, state="established"))
    call = await app.asked("GET", f"calls/{call_id}")
    assert (call["state"], call["everEstablished"], call["registeredAt"]) == ("established", True, None)


async def test_the_event_log_keeps_the_ids_that_support_asks_for(app: App) -> None:
    call_id, signed = await app.register(), await app.simulator.signature(app.tenant)
    ids = {"scenario-id": "7f1a2b3c-0000-4000-8000-0123456789ab", "x-microsoft-skype-chain-id": "x" * 500}
    item = about_call(call_id, "deleted", **END)
    await app.notify(item, headers={**signed, **ids})
    await app.notify(item, headers={**signed, **ids, "scenario-id": "another-request"})  # the same event again
    ((_, detail),) = [line for line in await app.lines(call_id, "callNotified") if line[1].get("code") == 408]
    assert detail["scenarioId"] == ids["scenario-id"]
    assert detail["chainId"] == "x" * 128  # the longest id that is kept


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b'{"value": []}', 202, id="empty list"),
        pytest.param(b'{"id": "x", "type": "call", "states": []}', 204, id="format of the old platform"),
        pytest.param(b"", 400, id="no body"),
        pytest.param(b"{", 400, id="half an object"),
        pytest.param(b"[]", 400, id="a list"),
        pytest.param(b"\xff\xfe", 400, id="not UTF-8"),
        pytest.param(b"{}", 400, id="no value"),
        pytest.param(b'{"value": {}}', 400, id="value is an object"),
        pytest.param(b'{"value": [1, {}, {"resource": "/communications"}]}', 400, id="no readable notification"),
        pytest.param(b'{"@odata.type": "#microsoft.graph.x"}', 400, id="another type of Graph"),
        pytest.param(b" " * (MAX_NOTIFICATION_BODY + 1), 413, id="one byte too large"),
    ],
)
async def test_a_body_is_answered_as_documented(app: App, content: bytes, status: int) -> None:
    assert await post(app, content) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 202, id="none"),
        pytest.param({"Content-Type": "application/json"}, 202, id="JSON"),
        pytest.param({"Content-Type": "application/json; charset=utf-8"}, 202, id="JSON in UTF-8"),
        pytest.param(
            {"Content-Type": 'Application/JSON;odata.metadata=minimal;charset="UTF-8"'}, 202, id="JSON of OData"
        ),
        pytest.param({"Content-Type": "application/vnd.microsoft.comms+json"}, 202, id="a JSON format"),
        pytest.param(
            {"Content-Type": "text/plain; charset=us-ascii", "Content-Encoding": "identity"}, 202, id="plain ASCII text"
        ),
        pytest.param({"Content-Type": "application/octet-stream"}, 202, id="bytes"),
        pytest.param({"Content-Type": "application/json; charset=utf-16"}, 415, id="JSON in UTF-16"),
        pytest.param({"Content-Type": "application/x-www-form-urlencoded"}, 415, id="form"),
        pytest.param({"Content-Type": "multipart/form-data; boundary=x"}, 415, id="form of several parts"),
        pytest.param({"Content-Type": "text/html"}, 415, id="HTML"),
        pytest.param({"Content-Type": "application/jsonp"}, 415, id="JSONP"),
        pytest.param({"Content-Encoding": "gzip"}, 415, id="gzip"),
        pytest.param({"Content-Encoding": "identity, deflate"}, 415, id="deflate"),
    ],
)
async def test_a_body_is_json_in_utf_8_and_not_compressed(app: App, headers: dict[str, str], status: int) -> None:
    assert await post(app, b'{"value": []}', await app.simulator.signature(app.tenant) | headers) == status


async def test_a_refusal_shows_only_its_status_and_logs_the_reason(app: App, caplog: pytest.LogCaptureFixture) -> None:
    signed = await app.simulator.signature(app.tenant, audience=OTHER)
    answer = await app.http.post("/api/notifications", content=b"{}", headers=signed)

    assert answer.json()["detail"] == GENERIC_DETAILS[401]
    assert "audience" not in answer.text
    assert "reason=Unauthenticated detail=The token is for another audience." in caplog.text


async def test_a_body_that_is_too_large_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    assert await post(app, b" " * (MAX_NOTIFICATION_BODY + 1)) == 413
    assert "reason=PayloadTooLarge" in caplog.text


@pytest.mark.parametrize(
    "path",
    ["notifications/a-tag", "notifications/", "notificationsx"],
    ids=["longer path", "slash at the end", "longer name"],
)
async def test_there_is_one_address_for_all_bots(app: App, path: str) -> None:
    signed = await app.simulator.signature(app.tenant)
    answer = await app.http.post(f"/api/{path}", content=b'{"value": []}', headers=signed)
    assert answer.status_code == (202 if path.endswith("/") else 404)


async def test_the_query_is_ignored(app: App) -> None:
    call_id = str(uuid4())
    signed = await app.simulator.signature(app.tenant)
    body = {"value": [about_call(call_id, state="established")]}
    await app.ask("POST", f"notifications?bot={OTHER}&tid={OTHER}", body, expect=202, headers=signed)  # type: ignore[arg-type] # a dict of JSON
    assert (await app.asked("GET", f"calls/{call_id}"))["tenantId"] == app.tenant


async def test_storage_that_hangs_is_a_503_in_good_time(
    app: App, monkeypatch: pytest.MonkeyPatch, dying: "tuple[App, Dying]"
) -> None:
    mortal, store = dying

    async def hang(_call_id: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "get", hang)
    monkeypatch.setattr("shared.api.webhook.RESPONSE_TIMEOUT", timedelta(seconds=0.1))
    await mortal.notify(about_call(str(uuid4()), state="established"), expect=503)
    assert await post(app, b'{"value": []}') == 202


async def test_nothing_is_stored_without_graphs_token(app: App) -> None:
    call_id = str(uuid4())
    body = json.dumps({"value": [about_call(call_id, state="established")]}).encode()
    wrong: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer x"},
        await app.simulator.signature(app.tenant, expiresIn=-LEEWAY.seconds - 1),
        await app.simulator.signature(app.tenant, audience=OTHER),
        await app.simulator.signature(app.tenant, issuer="https://sts.windows.net/x/"),
        {"Authorization": f"Bearer {await app.simulator.token(tenantId=app.tenant)}"},
        {"x-functions-key": "a-function-key-for-tests"},
    ]
    for headers in wrong:
        assert await post(app, body, headers) == 401
    await app.ask("GET", f"calls/{call_id}", expect=404)


async def test_signing_keys_that_cannot_be_fetched_are_a_503(app: App) -> None:
    async with app.configured(NOTIFICATION_METADATA_URLS="http://127.0.0.1:9/keys") as cut_off:
        assert await post(cut_off, b'{"value": []}') == 503


async def test_only_the_tenants_that_are_allowed_are_served(app: App) -> None:
    async with app.configured(ALLOWED_TENANT_IDS=f"{OTHER},{app.tenant.upper()}") as strict:
        assert await post(strict, b'{"value": []}') == 202
        signed = await app.simulator.signature(str(uuid4()))
        assert await post(strict, b'{"value": []}', signed) == 403


async def test_only_the_apps_that_are_allowed_may_send_notifications(app: App) -> None:
    calling = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # as it was observed, and as the simulator imitates it
    async with app.configured(NOTIFICATION_APP_IDS=f"{OTHER},{calling.upper()}") as open_to_it:
        assert await post(open_to_it, b'{"value": []}') == 202
    async with app.configured(NOTIFICATION_APP_IDS=OTHER) as strict:
        assert await post(strict, b'{"value": []}') == 403


async def test_nothing_of_another_tenants_call_is_touched(app: App, caplog: pytest.LogCaptureFixture) -> None:
    active, tombstone, mine = await app.register(), str(uuid4()), str(uuid4())
    await app.notify(about_call(tombstone, "deleted", state="terminated"))
    before = [(await app.ask("GET", f"calls/{call_id}", expect=200)).text for call_id in (active, tombstone)]

    intruding = [about_call(active, "deleted", **END), about_call(tombstone, "deleted", **END)]
    intruding.append(about_operation(active, "operation", status="completed"))
    await app.notify(*intruding, expect=403, tenant=OTHER)
    for call_id in (active, tombstone):
        assert f"notifications.other_tenant callId={call_id} tenantId={OTHER}" in caplog.text
    await app.notify(*intruding, about_call(mine, state="established"), expect=202, tenant=OTHER)

    after = [(await app.ask("GET", f"calls/{call_id}", expect=200)).text for call_id in (active, tombstone)]
    assert after == before
    assert (await app.asked("GET", f"calls/{active}/operations"))["value"] == []
    assert (await app.asked("GET", f"calls/{mine}"))["tenantId"] == OTHER


async def test_a_notification_of_another_tenants_call_is_logged_even_if_the_body_is_not_stored(
    app: App, monkeypatch: pytest.MonkeyPatch, dying: "tuple[App, Dying]", caplog: pytest.LogCaptureFixture
) -> None:
    """The same body has a call that storage refuses, or one that takes too long."""
    victim, other = await app.register(), str(uuid4())
    mortal, store = dying
    get = store.get

    async def refuse(call_id: str) -> None:
        raise StoreUnavailable(f"Table Storage gives nothing of {call_id} (test).")

    async def hang(_call_id: str) -> None:
        await asyncio.Event().wait()

    for trouble in (refuse, hang):
        caplog.clear()
        monkeypatch.setattr(
            store, "get", lambda call_id, how=trouble: get(call_id) if call_id == victim else how(call_id)
        )
        monkeypatch.setattr("shared.api.webhook.RESPONSE_TIMEOUT", timedelta(seconds=1))
        intruding = about_call(victim, "deleted", **END), about_call(other, state="established")
        await mortal.notify(*intruding, expect=503, tenant=OTHER)
        assert f"notifications.other_tenant callId={victim} tenantId={OTHER}" in caplog.text


async def test_the_readable_notifications_of_a_body_are_stored(app: App) -> None:
    first, second = str(uuid4()), str(uuid4())
    bad: list[JsonValue] = [1, {"resource": "/communications/calls/a%7Cb"}, None]
    await app.notify(about_call(first, state="established"), *bad, about_call(second, "deleted", **END))
    assert (await app.asked("GET", f"calls/{first}"))["status"] == "active"
    assert (await app.asked("GET", f"calls/{second}"))["status"] == "ended"


async def test_a_body_sent_again_changes_nothing(app: App) -> None:
    call_id, operation_id = str(uuid4()), str(uuid4())
    items = [
        about_call(call_id, state="establishing"),
        about_call(call_id, state="established"),
        about_operation(call_id, operation_id, status="completed", recordingLocation="https://x.example/1"),
        about_call(call_id, "deleted", **END),
    ]
    await app.notify(*items)
    paths = ("", "/events", "/operations", f"/operations/{operation_id}")
    before = [await app.asked("GET", f"calls/{call_id}{path}") for path in paths]
    await app.notify(*items)
    assert [await app.asked("GET", f"calls/{call_id}{path}") for path in paths] == before


async def test_the_events_of_one_body_are_in_its_order(app: App) -> None:
    call_id = str(uuid4())
    states = ["incoming", "establishing", "established", "transferring", "terminating"]
    await app.notify(*(about_call(call_id, state=state) for state in states))
    events: Any = (await app.asked("GET", f"calls/{call_id}/events"))["value"]
    assert [event["detail"].get("state") for event in events] == [None, *states]


async def test_three_hundred_notifications_of_one_call_are_stored(app: App) -> None:
    """More rows than one transaction of Table Storage takes."""
    call_id = str(uuid4())
    ids = [f"operation-{number:03}" for number in range(150)]  # each with two notifications
    items: list[JsonValue] = [about_operation(call_id, each, status="running") for each in ids]
    items += [about_operation(call_id, each, status="completed") for each in ids]
    await app.notify(*items)
    operations: Any = (await app.asked("GET", f"calls/{call_id}/operations"))["value"]
    assert sorted(operation["id"] for operation in operations) == ids
    assert {operation["status"] for operation in operations} == {"completed"}
    events: Any = (await app.asked("GET", f"calls/{call_id}/events"))["value"]
    assert len(events) == 1 + 2 * len(ids)  # firstSeen, and one for each notification


async def test_many_bodies_of_one_call_at_once_all_arrive(app: App) -> None:
    call_id = str(uuid4())
    writers = 10
    bodies = [about_operation(call_id, f"operation-{number}", status="completed") for number in range(writers)]
    signed = await app.simulator.signature(app.tenant)
    await asyncio.gather(*(app.notify(body, headers=signed) for body in bodies))
    await app.notify(about_call(call_id, "deleted", **END))
    assert len((await app.asked("GET", f"calls/{call_id}/operations"))["value"]) == writers  # type: ignore[arg-type] # a list


async def test_a_roster_of_a_thousand_participants_says_that_the_call_lives(app: App) -> None:
    call_id = str(uuid4())
    participant: JsonValue = {"id": str(uuid4()), "info": {"identity": {"user": {"displayName": "Ada " + "x" * 2000}}}}
    item = about_call(call_id)
    item["resourceUrl"] = item["resource"] = f"/communications/calls/{call_id}/participants"
    people = 1000
    item["resourceData"] = [participant] * people
    body = json.dumps({"value": [item]}).encode()
    assert people * 2100 < len(body) < MAX_NOTIFICATION_BODY  # a participant has a name of 2,004 characters, and an id
    stranger = await app.simulator.signature(app.tenant, audience=OTHER)
    assert await post(app, body, stranger) == 401
    assert await post(app, body) == 202
    assert (await app.asked("GET", f"calls/{call_id}"))["status"] == "active"


async def test_a_long_message_is_cut_and_still_ends_the_call(app: App) -> None:
    call_id = str(uuid4())
    info: JsonValue = {"code": 500, "subcode": 5000, "message": "é" * 40_000}
    await app.notify(about_call(call_id, "deleted", state="terminated", resultInfo=info))
    end: Any = (await app.asked("GET", f"calls/{call_id}"))["termination"]
    assert (len(end["message"]), end["messageTruncated"], end["subcode"]) == (32_768, True, 5000)


async def test_a_call_first_met_in_the_middle_is_renewed_soon(app: App, queue: WatchedQueue) -> None:  # noqa: F811
    middle, young, over = str(uuid4()), str(uuid4()), str(uuid4())
    async with app.configured(WithWatchedQueue) as watched:
        await watched.notify(
            about_call(middle, state="established"),
            about_call(young, state="establishing"),
            about_call(over, "deleted", state="terminated"),
        )
        assert [sent for sent in queue.sent if isinstance(sent[0], Renew)] == [(Renew(call_id=middle), 15)]
        queue.sent.clear()
        await watched.notify(about_call(middle, state="established"))
        assert queue.sent == []


async def test_a_call_is_stored_though_the_queue_takes_nothing(app: App, queue: WatchedQueue) -> None:  # noqa: F811
    queue.broken = True
    call_id = str(uuid4())
    async with app.configured(WithWatchedQueue) as watched:
        await watched.notify(about_call(call_id, state="established"))
        await watched.ask("GET", f"calls/{call_id}", expect=200)


class Died(Exception):
    """The process ended here."""


class Dying(CallStore):
    """Fails at the n-th request: before it is carried out, or afterwards, when only the answer is lost."""

    def __init__(self, real: CallStore) -> None:
        self._table = real._table
        self.asked = 0
        self.commits: list[int] = []  # the numbers of the requests that write
        self.dies_at = -1
        self.afterwards = False
        self.error: Exception = Died()

    async def get(self, call_id: str) -> Stored[Call] | None:
        return await self._maybe(super().get(call_id))

    async def get_operation(self, call_id: str, operation_id: str) -> Stored[Operation] | None:
        return await self._maybe(super().get_operation(call_id, operation_id))

    async def _write_change(self, change: Change) -> Committed:  # below `commit`, which reads back
        self.commits.append(self.asked + 1)
        return await self._maybe(super()._write_change(change))

    async def _maybe[T](self, work: Awaitable[T]) -> T:
        self.asked += 1
        dies = self.asked == self.dies_at
        if dies and not self.afterwards:
            work.close()  # type: ignore[attr-defined] # a coroutine, which would warn that it is not awaited
            raise self.error
        done = await work
        if dies:
            raise self.error
        return done


@pytest.fixture
async def dying(app: App) -> AsyncIterator[tuple[App, Dying]]:
    store = Dying(app.parts.store)

    async with app.configured() as mortal:
        vars(mortal.parts)["store"] = store
        yield mortal, store
        del vars(mortal.parts)["store"]  # the table is the other app's


async def test_the_message_is_sent_before_the_row_is_written(app: App, queue: WatchedQueue) -> None:  # noqa: F811
    call_id = str(uuid4())
    store = Dying(app.parts.store)
    store.dies_at, store.afterwards = 2, True
    async with app.configured(WithWatchedQueue) as mortal:
        vars(mortal.parts)["store"] = store
        content = json.dumps({"value": [about_call(call_id, state="established")]}).encode()
        assert await post(mortal, content) == 503
        del vars(mortal.parts)["store"]  # the table is the other app's
    assert await app.parts.store.get(call_id)
    left = [sent for sent in queue.sent if isinstance(sent[0], Renew)]  # a request may notice a late sweep too
    assert left == [(Renew(call_id=call_id), 15)]


@pytest.mark.parametrize("afterwards", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [Died(), StoreUnavailable("Table Storage is away (test).")], ids=["death", "outage"])
async def test_a_crash_at_any_step_acknowledges_nothing_and_a_repetition_gives_the_same_record(
    dying: tuple[App, Dying], error: Exception, afterwards: bool
) -> None:
    app, store = dying

    async def shown_after(call_id: str) -> list[JsonValue]:
        paths = ("", "/events", "/operations", "/operations/recording")
        shown = [await app.asked("GET", f"calls/{call_id}{path}") for path in paths]
        return [_without_times(part, call_id) for part in shown]

    def items(call_id: str) -> list[JsonValue]:
        return [
            about_call(call_id, state="established"),
            about_operation(call_id, "recording", status="running", clientContext="mine"),
            about_operation(call_id, "recording", status="completed", recordingLocation="https://x.example/1"),
            *(about_call(call_id, state="hold", callChainId=f"chain-{n}") for n in range(MAX_NOTIFICATIONS_PER_CHANGE)),
            about_call(call_id, "deleted", **END),
        ]

    model = str(uuid4())
    await app.notify(*items(model))
    steps, commits = store.asked, list(store.commits)
    wanted = await shown_after(model)
    assert steps == 2 * 2 + 1  # two changes, each a read and a commit; and the operation is read
    assert len(commits) == 2
    for step in range(1, steps + 1):
        call_id = str(uuid4())
        store.asked, store.dies_at, store.afterwards, store.error = 0, step, afterwards, error
        status = await post(app, json.dumps({"value": items(call_id)}).encode())
        is_read_back = step in commits and afterwards and isinstance(error, StoreUnavailable)
        assert status == 202 if is_read_back else status >= 500
        store.dies_at = -1
        await app.notify(*items(call_id))
        assert await shown_after(call_id) == wanted, f"died at {step} of {steps}"


def _without_times(shown: JsonValue, call_id: str) -> JsonValue:
    if isinstance(shown, dict):
        return {name: _without_times(value, call_id) for name, value in shown.items() if not _is_time(name)}
    if isinstance(shown, list):
        return [_without_times(value, call_id) for value in shown]
    return shown.replace(call_id, "the call") if isinstance(shown, str) else shown


def _is_time(name: str) -> bool:
    return name == "at" or name.endswith("At")
