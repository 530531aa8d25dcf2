"""Registering calls."""

import asyncio
import re
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import JsonValue

from shared.api.requests import MAX_METADATA_KEYS, MAX_METADATA_SIZE
from tests.functions.harness import KEY, App, about_call, ago

OTHER = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"


def at(text: object) -> datetime:
    assert isinstance(text, str)
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


async def test_a_call_is_registered_once_and_is_the_same_when_it_is_registered_again(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    wish: Any = {"tenantId": app.tenant.upper(), "metadata": {"bot": "ivr"}}
    first = await app.ask("PUT", f"calls/{call_id}", wish, expect=201)
    second = await app.ask("PUT", f"calls/{call_id}", wish, expect=200)

    assert first.headers["location"] == second.headers["location"] == f"/api/calls/{call_id}"
    assert first.json() == second.json() == await app.asked("GET", f"calls/{call_id}")
    call = first.json()
    assert (call["status"], call["tenantId"], call["metadata"]) == ("active", app.tenant, {"bot": "ivr"})
    assert at(call["lease"]["expiresAt"]) - at(call["lease"]["renewedAt"]) == timedelta(minutes=45)
    events = (await app.asked("GET", f"calls/{call_id}/events"))["value"]
    assert isinstance(events, list)
    assert [event["kind"] for event in events if isinstance(event, dict)] == ["firstSeen", "registered"]


async def test_both_forms_of_an_id_are_one_call(app: App) -> None:
    call_id = await app.register()
    bare = call_id.replace("-", "").upper()
    await app.ask("PUT", f"calls/{bare}", {"tenantId": app.tenant}, expect=200)
    assert (await app.asked("GET", f"calls/{bare}"))["id"] == call_id


@pytest.mark.parametrize(
    "odd", ["a", "19:meeting_Zm9v@thread.v2", "ünï-çødé", "😀", "a'b", "x" * 200, "a+b&c=d;e,f", "($filter)"]
)
async def test_an_opaque_id_is_kept_as_it_is(app: App, odd: str) -> None:
    from urllib.parse import quote  # noqa: PLC0415 only here

    await app.ask("PUT", f"calls/{quote(odd, safe='')}", {"tenantId": app.tenant}, expect=201)
    assert (await app.asked("GET", f"calls/{quote(odd, safe='')}"))["id"] == odd


@pytest.mark.parametrize("bad", ["x" * 201, "a%20b", "a%7Cb", "a%5Cb", "a%3Fb", "a%23b", "a%25b", "%E2%80%A8", "%00"])
async def test_an_id_that_storage_refuses_is_refused(app: App, bad: str) -> None:
    for method, path in (
        ("PUT", f"calls/{bad}"),
        ("GET", f"calls/{bad}"),
        ("GET", f"calls/{bad}/events"),
        ("GET", f"calls/{bad}/operations"),
        ("GET", f"calls/{bad}/operations/x"),
        ("GET", f"calls/x/operations/{bad}"),
        ("POST", f"calls/{bad}/hangup"),
        ("POST", f"calls/{bad}/record"),
    ):
        problem = await app.ask(method, path, expect=400)
        assert problem.headers["content-type"] == "application/problem+json"
        assert "200 characters" in problem.json()["detail"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b"{", [""]),
        (b"\xff", [""]),
        (b"[]", [""]),
        (b"null", [""]),
        (b'"text"', [""]),
        (b'{"metadata": {"half a character": "\\ud800"}}', [""]),
        (b'{"tenantId": "common"}', ["/tenantId"]),
        (b'{"tenantId": 1}', ["/tenantId"]),
        (b"{}", ["/tenantId"]),
        (b'{"tenantId": "%s", "tenant": 1, "a/b~c": 2}' % OTHER.encode(), ["/tenant", "/a~1b~0c"]),
        (b'{"tenantId": "%s", "tenant_id": "%s"}' % (OTHER.encode(), OTHER.encode()), ["/tenant_id"]),
        (b'{"tenantId": "%s", "startedAt": "yesterday"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "2026-01-01T00:00:00"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": 1767225600}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "0001-01-01T00:00:00+14:00"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "1600-01-01T00:00:00Z"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "9999-12-31T23:59:59-14:00"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "metadata": {"": "x"}}' % OTHER.encode(), ["/metadata//[key]"]),
        (b'{"tenantId": "%s", "metadata": {"a": 1, "b": null}}' % OTHER.encode(), ["/metadata/a"]),
        (b'{"tenantId": "%s", "startedAt": "1764478800"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "1764478800.5"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "2026-01-01"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "startedAt": "2026-01-01T00:00:00+0000"}' % OTHER.encode(), ["/startedAt"]),
        (b'{"tenantId": "%s", "metadata": []}' % OTHER.encode(), ["/metadata"]),
    ],
)
async def test_a_body_that_is_off_is_refused_with_the_place_of_each_fault(
    app: App, body: bytes, pointers: list[str]
) -> None:
    answer = await app.http.put(f"/api/calls/{uuid4()}", content=body, headers=KEY)
    assert answer.status_code == 400, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


async def test_what_is_null_counts_as_left_out(app: App) -> None:
    """Clients made by NSwag write each member that was not set as null."""
    call_id = await app.simulator.call(app.tenant)
    wish: Any = {"tenantId": app.tenant, "appId": None, "startedAt": None, "metadata": None}
    call: Any = await app.asked("PUT", f"calls/{call_id}", wish, expect=201)
    assert call["metadata"] == {}
    call = await app.asked("PUT", f"calls/{call_id}", wish | {"metadata": {"a": None, "b": "c"}}, expect=200)
    assert call["metadata"] == {"b": "c"}


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T00:00:00.1234567Z", "2026-01-01t00:00:00z", "2026-01-01 01:30:00+01:30", "2026-01-01T00:00:00+00:00"],
)
async def test_a_start_is_any_time_of_rfc_3339(app: App, text: str) -> None:
    call_id = await app.simulator.call(app.tenant)
    await app.register(call_id, startedAt=text)
    assert str((await app.asked("GET", f"calls/{call_id}"))["startedAt"]).startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize(("member", "text"), [("tenantId", "contoso"), ("appId", "my-bot"), ("startedAt", "soon")])
async def test_a_refusal_says_what_to_send(app: App, member: str, text: str) -> None:
    problem: Any = await app.asked("PUT", f"calls/{uuid4()}", {"tenantId": app.tenant, member: text}, expect=400)
    assert re.search("such as (11111111-|2026-)", problem["errors"][0]["detail"])


async def test_a_start_in_the_future_is_refused_but_for_the_skew_of_clocks(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    wish: Any = {"tenantId": app.tenant, "startedAt": ago(minutes=-5)}
    problem = await app.asked("PUT", f"calls/{call_id}", wish, expect=400)
    assert problem["errors"] == [{"pointer": "/startedAt", "detail": "in the future"}]

    await app.register(call_id, startedAt=ago(minutes=-3))
    call = await app.asked("GET", f"calls/{call_id}")
    assert call["startedAt"] == call["registeredAt"]


async def test_a_call_that_began_half_an_hour_ago_is_renewed_in_the_registration(app: App) -> None:
    call_id = await app.simulator.call(app.tenant, ageSeconds=1800)
    await app.register(call_id, startedAt=ago(minutes=30))

    assert await app.simulator.keep_alives(call_id) == 1
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert at(call["lease"]["expiresAt"]) > datetime.fromisoformat(ago(minutes=-44))
    assert not call["lease"]["atRisk"]


async def test_a_call_that_began_a_little_ago_is_left_to_the_sweep(app: App) -> None:
    call_id = await app.simulator.call(app.tenant, ageSeconds=600)
    await app.register(call_id, startedAt=ago(minutes=10))
    assert await app.simulator.keep_alives(call_id) == 0


async def test_a_call_that_is_over_when_it_is_registered_late_is_told_to_have_ended(app: App) -> None:
    call_id = str(uuid4())  # the simulator knows no such call
    answer: Any = await app.asked(
        "PUT", f"calls/{call_id}", {"tenantId": app.tenant, "startedAt": ago(hours=1)}, expect=201
    )
    assert (answer["status"], answer["lease"]) == ("ended", None)
    assert answer["termination"]["source"] == "keepAliveNotFound"


async def test_a_late_registration_that_graph_refuses_is_on_record_as_failing(app: App) -> None:
    call_id = await app.simulator.call(app.tenant, ageSeconds=1900)
    await app.simulator.fault(operation="keepAlive", status=503, callId=call_id)
    await app.register(call_id, startedAt=ago(minutes=31))
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert (call["lease"]["failing"]["reason"], call["lease"]["failing"]["status"]) == ("unavailable", 503)
    assert call["lease"]["atRisk"]


async def test_a_registration_over_a_tombstone_leaves_it_ended_and_adds_the_metadata(app: App) -> None:
    call_id = str(uuid4())
    await app.notify(
        about_call(call_id, "deleted", state="terminated", resultInfo={"code": 408, "subcode": 8537, "message": "x"})
    )
    tombstone: Any = await app.asked("GET", f"calls/{call_id}")
    assert (tombstone["status"], tombstone["registeredAt"]) == ("ended", None)

    await app.register(call_id, expect=200, metadata={"bot": "ivr"}, startedAt=ago(hours=1))
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert (call["status"], call["metadata"]) == ("ended", {"bot": "ivr"})
    assert call["termination"] == tombstone["termination"]
    assert call["registeredAt"] is not None
    assert at(call["startedAt"]) < at(call["termination"]["endedAt"])


async def test_another_tenants_tombstone_ends_no_call(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """Who tells of the end of an unknown call with a good token of its own must not keep it from being renewed."""
    call_id = await app.simulator.call(app.tenant)
    await app.notify(about_call(call_id, "deleted", state="terminated"), tenant=OTHER)
    assert (await app.asked("GET", f"calls/{call_id}"))["status"] == "ended"

    await app.register(call_id, expect=200, startedAt=ago(minutes=31))
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert (call["status"], call["tenantId"], call["termination"]) == ("active", app.tenant, None)
    assert await app.simulator.keep_alives(call_id) == 1
    assert f"notifications.other_tenant callId={call_id} tenantId={OTHER}" in caplog.text
    for status, ids in (("active", [call_id]), ("ended", [])):
        listed: Any = await app.asked("GET", f"calls?status={status}&tenantId={app.tenant}")
        assert [shown["id"] for shown in listed["value"]] == ids
    await app.notify(about_call(call_id, "deleted", state="terminated"), tenant=OTHER, expect=403)
    await app.notify(about_call(call_id, "deleted", state="terminated"))
    assert (await app.asked("GET", f"calls/{call_id}"))["status"] == "ended"


async def test_a_call_of_another_tenant_is_a_conflict(app: App) -> None:
    call_id = await app.register()
    problem = await app.asked("PUT", f"calls/{call_id}", {"tenantId": OTHER}, expect=409)
    assert "another tenant" in str(problem["detail"])
    assert app.tenant not in str(problem)
    assert (await app.asked("GET", f"calls/{call_id}"))["tenantId"] == app.tenant


async def test_a_registration_corrects_the_tenant_of_a_call_known_by_notifications_only(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    await app.notify(about_call(call_id, state="establishing"), tenant=OTHER)
    assert (await app.asked("GET", f"calls/{call_id}"))["tenantId"] == OTHER
    await app.register(call_id, expect=200)
    assert (await app.asked("GET", f"calls/{call_id}"))["tenantId"] == app.tenant


async def test_the_tenant_may_be_left_out_where_a_setting_names_it(app: App) -> None:
    async with app.configured(GRAPH_TENANT_ID=app.tenant.upper()):
        answer = await app.http.put(f"/api/calls/{uuid4()}", headers=KEY)
        assert (answer.status_code, answer.json()["tenantId"]) == (201, app.tenant)


async def test_metadata_is_taken_up_to_its_limits(app: App) -> None:
    fits: dict[str, JsonValue] = {f"key-{number}": "x" for number in range(MAX_METADATA_KEYS)}
    await app.register(metadata=fits)
    large: dict[str, JsonValue] = {f"key-{number}": "😀" * 4000 for number in range(4)}
    await app.register(metadata=large)
    kept = await app.register(metadata={"control": "\x00\n", "quoted": '"\\'})
    assert (await app.asked("GET", f"calls/{kept}"))["metadata"] == {"control": "\x00\n", "quoted": '"\\'}


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key-{number}": "x" for number in range(MAX_METADATA_KEYS + 1)},
        {f"key-{number}": "x" * 4096 for number in range(MAX_METADATA_SIZE // 4096)},
        {"key": "x" * 4097},
        {"k" * 129: "x"},
        {"key": "\x7f"},
        {"key": "\uffff"},
        {"\ufffe": "x"},
    ],
    ids=["keys", "size", "value", "key", "DEL", "U+FFFF", "U+FFFE"],
)
async def test_metadata_beyond_its_limits_is_refused(app: App, metadata: dict[str, JsonValue]) -> None:
    problem: Any = await app.asked(
        "PUT", f"calls/{uuid4()}", {"tenantId": app.tenant, "metadata": metadata}, expect=400
    )
    assert problem["errors"][0]["pointer"].startswith("/metadata")


async def test_metadata_does_not_grow_beyond_its_limits_by_registering_again(app: App) -> None:
    call_id = await app.register(metadata={f"key-{number}": "x" for number in range(MAX_METADATA_KEYS)})
    problem: Any = await app.asked(
        "PUT", f"calls/{call_id}", {"tenantId": app.tenant, "metadata": {"one-more": "x"}}, expect=400
    )
    assert problem["errors"][0]["pointer"] == "/metadata"
    await app.register(call_id, metadata={"key-1": "other words"}, expect=200)
    call: Any = await app.asked("GET", f"calls/{call_id}")
    assert len(call["metadata"]) == MAX_METADATA_KEYS
    assert call["metadata"]["key-1"] == "x"


async def test_a_body_that_is_too_large_is_refused(app: App) -> None:
    for method, path in (("PUT", f"calls/{uuid4()}"), ("POST", f"calls/{uuid4()}/record")):
        answer = await app.http.request(method, f"/api/{path}", content=b" " * (64 * 1024 + 1), headers=KEY)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


async def test_many_who_register_one_call_at_once_make_one_record(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    wishes = [{"tenantId": app.tenant, "metadata": {f"key-{number}": "x"}} for number in range(8)]
    answers = await asyncio.gather(*(app.http.put(f"/api/calls/{call_id}", json=wish, headers=KEY) for wish in wishes))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len((await app.asked("GET", f"calls/{call_id}"))["metadata"]) == 8  # type: ignore[arg-type] # an object
