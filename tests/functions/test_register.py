"""Registering calls."""

import asyncio
import re
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from pydantic import JsonValue

from functions.routing import MAX_BODY_BYTES
from shared.api.requests import MAX_METADATA_KEYS, MAX_METADATA_SIZE
from shared.domain.calls import MAX_ID_LENGTH
from tests.functions.harness import KEY, App, about_call, ago

OTHER = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"


def at(text: object) -> datetime:
    assert isinstance(text, str)
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


async def test_a_call_is_registered_once_and_is_the_same_when_it_is_registered_again(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    sent: Any = {"tenantId": app.tenant.upper(), "metadata": {"bot": "ivr"}}
    first = await app.ask("PUT", f"calls/{call_id}", sent, expect=201)
    second = await app.ask("PUT", f"calls/{call_id}", sent, expect=200)

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
    "odd",
    [
        pytest.param("a", id="one letter"),
        pytest.param("19:meeting_Zm9v@thread.v2", id="thread of Teams"),
        pytest.param("ünï-çødé", id="accents"),
        pytest.param("😀", id="emoji"),
        pytest.param("a'b", id="apostrophe"),
        pytest.param("x" * MAX_ID_LENGTH, id="longest"),
        pytest.param("a+b&c=d;e,f", id="delimiters of a query"),
        pytest.param("($filter)", id="words of OData"),
    ],
)
async def test_an_opaque_id_is_kept_as_it_is(app: App, odd: str) -> None:
    await app.ask("PUT", f"calls/{quote(odd, safe='')}", {"tenantId": app.tenant}, expect=201)
    assert (await app.asked("GET", f"calls/{quote(odd, safe='')}"))["id"] == odd


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param("x" * (MAX_ID_LENGTH + 1), id="one character too long"),
        pytest.param("a%20b", id="space"),
        pytest.param("a%7Cb", id="vertical bar"),
        pytest.param("a%5Cb", id="backslash"),
        pytest.param("a%3Fb", id="question mark"),
        pytest.param("a%23b", id="number sign"),
        pytest.param("a%25b", id="percent sign"),
        pytest.param("%E2%80%A8", id="line separator"),
        pytest.param("%00", id="NUL"),
    ],
)
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


def body(members: str) -> bytes:
    """A body with a valid tenant and more members."""
    return f'{{"tenantId": "{OTHER}", {members}}}'.encode()


@pytest.mark.parametrize(
    ("content", "pointers"),
    [
        pytest.param(b"{", [""], id="half an object"),
        pytest.param(b"\xff", [""], id="not UTF-8"),
        pytest.param(b"[]", [""], id="a list"),
        pytest.param(b"null", [""], id="null"),
        pytest.param(b'"text"', [""], id="text"),
        pytest.param(b'{"metadata": {"half a character": "\\ud800"}}', [""], id="half a surrogate pair"),
        pytest.param(b'{"tenantId": "common"}', ["/tenantId"], id="tenantId is not a GUID"),
        pytest.param(b'{"tenantId": 1}', ["/tenantId"], id="tenantId is a number"),
        pytest.param(b"{}", ["/tenantId"], id="no tenantId"),
        pytest.param(body('"tenant": 1, "a/b~c": 2'), ["/tenant", "/a~1b~0c"], id="two unknown members"),
        pytest.param(body(f'"tenant_id": "{OTHER}"'), ["/tenant_id"], id="tenantId in snake_case too"),
        pytest.param(body('"startedAt": "yesterday"'), ["/startedAt"], id="startedAt is a word"),
        pytest.param(body('"startedAt": "2026-01-01T00:00:00"'), ["/startedAt"], id="startedAt without offset"),
        pytest.param(body('"startedAt": "2026-01-01"'), ["/startedAt"], id="startedAt without time"),
        pytest.param(
            body('"startedAt": "2026-01-01T00:00:00+0000"'), ["/startedAt"], id="startedAt, offset without colon"
        ),
        pytest.param(body('"startedAt": 1767225600'), ["/startedAt"], id="startedAt is a number"),
        pytest.param(body('"startedAt": "1764478800"'), ["/startedAt"], id="startedAt is a number as text"),
        pytest.param(body('"startedAt": "1764478800.5"'), ["/startedAt"], id="startedAt is a fraction as text"),
        pytest.param(body('"startedAt": "1600-01-01T00:00:00Z"'), ["/startedAt"], id="startedAt before 2000"),
        pytest.param(
            body('"startedAt": "0001-01-01T00:00:00+14:00"'), ["/startedAt"], id="startedAt before year 1 in UTC"
        ),
        pytest.param(
            body('"startedAt": "9999-12-31T23:59:59-14:00"'), ["/startedAt"], id="startedAt after year 9999 in UTC"
        ),
        pytest.param(body('"metadata": {"": "x"}'), ["/metadata//[key]"], id="empty metadata key"),
        pytest.param(body('"metadata": {"a": 1, "b": null}'), ["/metadata/a"], id="metadata value is a number"),
        pytest.param(body('"metadata": []'), ["/metadata"], id="metadata is a list"),
    ],
)
async def test_an_invalid_body_is_refused_with_the_pointer_of_each_fault(
    app: App, content: bytes, pointers: list[str]
) -> None:
    answer = await app.http.put(f"/api/calls/{uuid4()}", content=content, headers=KEY)
    assert answer.status_code == 400, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


async def test_a_null_member_counts_as_left_out(app: App) -> None:
    """Clients made by NSwag write each member that was not set as null."""
    call_id = await app.simulator.call(app.tenant)
    sent: Any = {"tenantId": app.tenant, "appId": None, "startedAt": None, "metadata": None}
    call: Any = await app.asked("PUT", f"calls/{call_id}", sent, expect=201)
    assert call["metadata"] == {}
    call = await app.asked("PUT", f"calls/{call_id}", sent | {"metadata": {"a": None, "b": "c"}}, expect=200)
    assert call["metadata"] == {"b": "c"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-01-01T00:00:00.1234567Z", id="seven decimals"),
        pytest.param("2026-01-01t00:00:00z", id="lower case"),
        pytest.param("2026-01-01 01:30:00+01:30", id="space and offset"),
        pytest.param("2026-01-01T00:00:00+00:00", id="offset of zero"),
    ],
)
async def test_a_start_is_any_time_of_rfc_3339(app: App, text: str) -> None:
    call_id = await app.simulator.call(app.tenant)
    await app.register(call_id, startedAt=text)
    assert str((await app.asked("GET", f"calls/{call_id}"))["startedAt"]).startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("member", "text"),
    [("tenantId", "contoso"), ("appId", "my-bot"), ("startedAt", "soon")],
    ids=["tenantId", "appId", "startedAt"],
)
async def test_a_refusal_shows_a_valid_value(app: App, member: str, text: str) -> None:
    problem: Any = await app.asked("PUT", f"calls/{uuid4()}", {"tenantId": app.tenant, member: text}, expect=400)
    assert re.search("such as (11111111-|2026-)", problem["errors"][0]["detail"])


async def test_a_start_in_the_future_is_refused_but_for_the_skew_of_clocks(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    sent: Any = {"tenantId": app.tenant, "startedAt": ago(minutes=-5)}
    problem = await app.asked("PUT", f"calls/{call_id}", sent, expect=400)
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


async def test_a_late_registration_of_a_call_that_has_ended_returns_its_end(app: App) -> None:
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
    """A valid token of another tenant that reports an unknown call's end must not stop its renewal."""
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
    large: dict[str, JsonValue] = {f"key-{number}": "😀" * 4000 for number in range(4)}  # 4 * (4000 + 5) <= 16,384
    await app.register(metadata=large)
    kept = await app.register(metadata={"control": "\x00\n", "quoted": '"\\'})
    assert (await app.asked("GET", f"calls/{kept}"))["metadata"] == {"control": "\x00\n", "quoted": '"\\'}


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({f"key-{number}": "x" for number in range(MAX_METADATA_KEYS + 1)}, id="one key too many"),
        # The values alone have the allowed size, and the keys come on top.
        pytest.param({f"key-{n}": "x" * 4096 for n in range(MAX_METADATA_SIZE // 4096)}, id="too many characters"),
        pytest.param({"key": "x" * (4096 + 1)}, id="value too long"),
        pytest.param({"k" * (128 + 1): "x"}, id="key too long"),
        pytest.param({"key": "\x7f"}, id="DEL"),
        pytest.param({"key": "\uffff"}, id="U+FFFF"),
        pytest.param({"\ufffe": "x"}, id="U+FFFE"),
    ],
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
        answer = await app.http.request(method, f"/api/{path}", content=b" " * (MAX_BODY_BYTES + 1), headers=KEY)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


async def test_registrations_of_one_call_at_the_same_time_make_one_record(app: App) -> None:
    call_id = await app.simulator.call(app.tenant)
    writers = 8
    bodies = [{"tenantId": app.tenant, "metadata": {f"key-{number}": "x"}} for number in range(writers)]
    answers = await asyncio.gather(*(app.http.put(f"/api/calls/{call_id}", json=sent, headers=KEY) for sent in bodies))
    assert sorted(answer.status_code for answer in answers) == [200] * (writers - 1) + [201]
    assert len((await app.asked("GET", f"calls/{call_id}"))["metadata"]) == writers  # type: ignore[arg-type] # an object
