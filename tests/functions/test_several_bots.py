"""Several bots in one deployment: Graph is asked with the token of a call's bot, and the audience decides the bot."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from shared.domain.calls import Call
from shared.storage.store import Change
from tests.functions.harness import APP_ID, KEY, App, about_call, ago

SECOND = "9f5d7c1e-2b3a-4c4d-8e5f-6a7b8c9d0e1f"
STRANGER = "11111111-2b3a-4c4d-8e5f-6a7b8c9d0e1f"
SECRET = "the-second-bots-secret"


@pytest.fixture
async def bots(app: App) -> AsyncIterator[App]:
    """The app with a second bot; Entra holds it to its own secret."""
    second = {"appId": SECOND, "credential": "secret", "clientSecretSetting": "SECOND_BOTS_SECRET"}
    listed = json.dumps([second | {"tenantId": app.tenant}])
    await app.simulator.control("PUT", f"/apps/{SECOND}", {"secret": SECRET})
    async with app.configured(GRAPH_APPS=listed, SECOND_BOTS_SECRET=SECRET) as served:
        yield served


async def second_call(app: App) -> str:
    return await app.simulator.call(app.tenant, appId=SECOND)


async def signed_for(app: App, app_id: str) -> dict[str, str]:
    return await app.simulator.signature(app.tenant, audience=app_id)


async def test_each_bots_call_is_kept_with_its_own_token(bots: App) -> None:
    first, second = await bots.simulator.call(bots.tenant), await second_call(bots)
    await bots.register(first, appId=APP_ID.upper())
    call = await bots.asked("PUT", f"calls/{second}", {"appId": SECOND}, expect=201)
    assert (call["appId"], call["tenantId"]) == (SECOND, bots.tenant)

    await bots.ask("POST", "keep-alive", expect=200)

    for call_id in (first, second):
        assert await bots.simulator.keep_alives(call_id) == 1
        assert (await bots.asked("GET", f"calls/{call_id}"))["status"] == "active"


@pytest.mark.parametrize("token", ["legacy", "entra", "entraV1"])
async def test_a_bot_with_its_own_audience_accepts_each_kind_of_token(app: App, token: str) -> None:
    """Tokens of Entra are for the bot's id, whatever audiences are set for the others."""
    own, call_id = f"api://{SECOND}", str(uuid4())
    second = {"appId": SECOND, "credential": "managedIdentity", "notificationAudiences": [own]}
    audience = own if token == "legacy" else SECOND
    async with app.configured(GRAPH_APPS=json.dumps([second])) as served:
        signed = await served.simulator.signature(app.tenant, audience=audience, token=token)
        await served.notify(about_call(call_id, state="established"), headers=signed)
        assert (await served.asked("GET", f"calls/{call_id}"))["appId"] == SECOND


async def test_recording_and_hanging_up_use_the_calls_app_too(bots: App) -> None:
    call_id = await second_call(bots)
    await bots.register(call_id, appId=SECOND, startedAt=ago(minutes=31))  # so that it is renewed at once
    assert await bots.simulator.keep_alives(call_id) == 1
    await bots.ask("POST", f"calls/{call_id}/record", {}, expect=202)
    await bots.ask("POST", f"calls/{call_id}/hangup", expect=202)

    hangup = (await bots.asked("GET", f"calls/{call_id}/events"))["value"]
    assert isinstance(hangup, list)
    gone = [event["detail"] for event in hangup if isinstance(event, dict) and event["kind"] == "hangupAnswered"]
    assert gone == [{"requestedBy": "function key", "outcome": "accepted"}]


async def test_the_audience_of_a_token_decides_the_bot_of_a_call(bots: App) -> None:
    call_id = await second_call(bots)
    await bots.notify(about_call(call_id, state="incoming"), headers=await signed_for(bots, SECOND))

    assert (await bots.asked("GET", f"calls/{call_id}"))["appId"] == SECOND
    assert (await bots.asked("PUT", f"calls/{call_id}", {"tenantId": bots.tenant}))["appId"] == SECOND
    await bots.ask("PUT", f"calls/{call_id}", {"tenantId": bots.tenant, "appId": APP_ID}, expect=409)


async def test_among_several_bots_none_is_guessed(bots: App) -> None:
    path = f"calls/{uuid4()}"
    for members, pointed in (({}, "required"), ({"appId": STRANGER}, "not served")):
        problem: Any = await bots.asked("PUT", path, {"tenantId": bots.tenant, **members}, expect=400)
        assert problem["errors"] == [{"pointer": "/appId", "detail": pointed}]
    await bots.ask("PUT", path, {"tenantId": bots.tenant, "appId": "no GUID"}, expect=400)
    await bots.ask("GET", path, expect=404)


async def test_a_notification_for_another_bots_call_changes_nothing_and_is_logged(
    bots: App, caplog: pytest.LogCaptureFixture
) -> None:
    call_id, mine = await bots.register(appId=APP_ID), str(uuid4())
    before = (await bots.ask("GET", f"calls/{call_id}", expect=200)).text
    foreign = await signed_for(bots, SECOND)

    await bots.notify(about_call(call_id, "deleted", state="terminated"), expect=403, headers=foreign)
    both = about_call(call_id, "deleted", state="terminated"), about_call(mine, state="established")
    await bots.notify(*both, expect=202, headers=foreign)

    assert (await bots.ask("GET", f"calls/{call_id}", expect=200)).text == before
    assert (await bots.asked("GET", f"calls/{mine}"))["appId"] == SECOND
    logged = [record for record in caplog.records if getattr(record, "reason", None) == "otherApp"]
    assert len(logged) == 2
    assert f"token of {bots.tenant} for app {SECOND}" in logged[0].getMessage()
    alarms = [vars(record) for record in caplog.records if getattr(record, "event", "") == "notifications.other_tenant"]
    assert [(alarm["callId"], alarm["appId"]) for alarm in alarms] == [(call_id, SECOND)] * 2


async def test_a_token_for_an_unknown_bot_is_refused(bots: App) -> None:
    headers = await signed_for(bots, STRANGER)
    await bots.notify(about_call(str(uuid4()), state="established"), expect=401, headers=headers)


async def test_a_call_from_before_there_were_several_belongs_to_the_first(bots: App) -> None:
    call_id, now = await bots.simulator.call(bots.tenant), bots.clock.now()
    await bots.parts.store.commit(Change(None, Call(call_id, bots.tenant, "established", now, now, registered_at=now)))

    assert (await bots.asked("GET", f"calls/{call_id}"))["appId"] == APP_ID
    ended = about_call(call_id, "deleted", state="terminated")
    await bots.notify(ended, expect=403, headers=await signed_for(bots, SECOND))
    await bots.ask("PUT", f"calls/{call_id}", {"tenantId": bots.tenant, "appId": SECOND}, expect=409)
    await bots.ask("PUT", f"calls/{call_id}", {"tenantId": bots.tenant}, expect=200)
    await bots.notify(ended, expect=202, headers=await signed_for(bots, APP_ID))


async def test_a_call_of_a_bot_that_is_no_longer_served_stays_active(bots: App, app: App) -> None:
    call_id = await second_call(bots)
    await bots.register(call_id, appId=SECOND)
    async with app.configured() as first_alone:
        await first_alone.ask("POST", "keep-alive", expect=200, headers=KEY)
        call: Any = await first_alone.asked("GET", f"calls/{call_id}")
        assert (call["status"], call["lease"]["failing"]["reason"]) == ("active", "noToken")
        problem = await first_alone.asked("POST", f"calls/{call_id}/hangup", expect=503)
        assert "is not in GRAPH_APPS" in str(problem["detail"])
        await first_alone.ask("PUT", f"calls/{call_id}", {"tenantId": app.tenant}, expect=400)
