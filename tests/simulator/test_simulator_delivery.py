"""Delivery of notifications: signature, retries, loss, duplicates, delays, order, batches."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import jwt
import pytest
from jwt import PyJWKSet
from starlette.responses import Response

from simulator.delivery import DeliverySettings
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Item, Sim

OTHER_APP = "88888888-7777-4888-9999-aaaaaaaaaaaa"


async def notifications(sim: Sim, call_id: str) -> list[dict[str, Json]]:
    found = (await sim.control("GET", f"/calls/{call_id}"))["notifications"]
    assert isinstance(found, list)
    return found


async def send_number(sim: Sim, call_id: str, number: int) -> None:
    """Send a notification with this number."""
    data: Json = [{"number": number}]
    await sim.control("POST", f"/calls/{call_id}/notify", {"suffix": "/participants", "resourceData": data}, expect=202)


def numbers(sim: Sim) -> list[Json]:
    """Return the numbers of the notifications that the bot received."""
    found: list[Json] = []
    for item in sim.bot.items:
        data = item["resourceData"]
        assert isinstance(data, list)
        found += [each["number"] for each in data if isinstance(each, dict)]
    return found


async def test_a_notification_has_the_observed_token_of_the_service(sim: Sim) -> None:
    await sim.create()
    await sim.advance(0)

    metadata = (await sim.http.get("/v1/.well-known/OpenIdConfiguration")).json()
    keys = PyJWKSet.from_dict((await sim.http.get(metadata["jwks_uri"])).json())
    scheme, _, token = sim.bot.headers[0]["authorization"].partition(" ")
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, keys[header["kid"]], algorithms=["RS256"], audience=APP, issuer=metadata["issuer"])

    assert scheme == "Bearer"
    assert metadata["issuer"] == "https://api.botframework.com"
    assert metadata["id_token_signing_alg_values_supported"] == ["RSA256"]
    assert header == {"alg": "RS256", "typ": "JWT", "cty": "JWT", "kid": header["kid"], "x5t": header["kid"]}
    assert set(claims) == {"tid", "appid", "nbf", "exp", "iss", "aud"}
    assert (claims["tid"], claims["appid"]) == (TENANT, "26a18ebc-cdf7-4a6a-91cb-beb352805e81")
    assert claims["exp"] - claims["nbf"] == 300
    # Half a minute allows for a slow machine.
    assert abs(claims["nbf"] - time.time()) < 30, "real time, independent of the simulated clock"


@pytest.mark.parametrize(
    ("kind", "issuer", "caller"),
    [
        ("entra", "{issuer of the document}", "azp"),
        ("entraV1", f"https://sts.windows.net/{TENANT}/", "appid"),
    ],
    ids=["entra", "entraV1"],
)
async def test_notifications_can_change_to_entras_tokens_during_a_call(
    sim: Sim, kind: str, issuer: str, caller: str
) -> None:
    call_id = await sim.create()
    await sim.advance(0)
    await sim.control("PUT", "/delivery", {"token": kind})
    await sim.control("POST", f"/calls/{call_id}/end", {})
    await sim.advance(60)

    legacy, *_, last = (headers["authorization"].removeprefix("Bearer ") for headers in sim.bot.headers)
    metadata = (await sim.http.get("/common/v2.0/.well-known/openid-configuration")).json()
    keys = (await sim.http.get(metadata["jwks_uri"])).json()["keys"]
    claims = jwt.decode(last, PyJWKSet.from_dict({"keys": keys})[keys[0]["kid"]], algorithms=["RS256"], audience=APP)

    assert jwt.decode(legacy, options={"verify_signature": False})["iss"] == "https://api.botframework.com"
    template = metadata["issuer"]
    assert template.endswith("/{tenantid}/v2.0")
    assert {(key["issuer"], key["cloud_instance_name"]) for key in keys} == {(template, "microsoftonline.com")}
    assert metadata["cloud_instance_name"] == "microsoftonline.com"
    own = template.replace("{tenantid}", TENANT)
    assert claims["iss"] == issuer.replace("{issuer of the document}", own)
    assert {name: claims[name] for name in ("azp", "appid") if name in claims} == {
        caller: "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
    }
    assert claims["tid"] == TENANT


async def test_all_notifications_of_a_call_have_its_scenario_and_each_has_its_own_request_id(sim: Sim) -> None:
    call_id = await sim.create()
    other = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end")
    await sim.advance(0)

    chains: dict[str, set[str]] = {}
    for body, headers in zip(sim.bot.bodies, sim.bot.headers, strict=True):
        assert headers["scenario-id"] == headers["x-microsoft-skype-chain-id"]
        assert headers["client-request-id"] == headers["x-microsoft-skype-message-id"]
        chains.setdefault(call_id if call_id in str(body) else other, set()).add(headers["scenario-id"])
    assert {call: len(ids) for call, ids in chains.items()} == {call_id: 1, other: 1}
    assert chains[call_id] != chains[other]
    assert all(uuid.UUID(scenario).version == 4 for ids in chains.values() for scenario in ids)
    assert len({headers["client-request-id"] for headers in sim.bot.headers}) == len(sim.bot.headers) == 3


ACCEPTED = '{"@odata.type": "#microsoft.graph.acceptJoinResponse"}'
OF_A_BOT = {"x-microsoft-bot-auth-type": "entra", "x-microsoft-bot-sdk-version": "1.2.0.18742"}


def recorded(sent: Item) -> Item:
    """Return the only attempt of a notification."""
    attempts = sent["attempts"]
    assert isinstance(attempts, list)
    (attempt,) = attempts
    assert isinstance(attempt, dict)
    return attempt


async def test_the_answer_about_a_participant_who_joins_is_recorded(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    sim.bot.responses = [Response(ACCEPTED, 200, OF_A_BOT, media_type="application/json")]

    sent = await sim.control("POST", f"/calls/{call_id}/participantJoining", {}, expect=202)

    attempt = recorded(sent)
    assert (attempt["status"], attempt["body"]) == (200, ACCEPTED)
    headers = attempt["headers"]
    assert isinstance(headers, dict)
    assert headers.items() >= OF_A_BOT.items()
    assert headers["content-type"] == "application/json"
    assert (await notifications(sim, call_id)) == [sent]
    (item,) = sim.bot.items
    assert (item["changeType"], item["resourceUrl"]) == ("updated", f"/communications/calls/{call_id}")
    data = item["resourceData"]
    assert isinstance(data, dict)
    assert data["@odata.type"] == "#microsoft.graph.participantJoiningNotification"
    joining = data["call"]
    assert isinstance(joining, dict)
    assert (joining["id"], joining["tenantId"]) == (call_id, TENANT)
    assert {"source", "incomingContext"} < set(joining)


async def test_who_joins_and_the_resource_can_be_chosen(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    body: Item = {"joining": {"subject": "Sales"}, "changeType": "created", "suffix": "/participants"}

    await sim.control("POST", f"/calls/{call_id}/participantJoining", body, expect=202)

    (item,) = sim.bot.items
    assert (item["changeType"], item["resourceUrl"]) == ("created", f"/communications/calls/{call_id}/participants")
    assert "'subject': 'Sales'" in str(item["resourceData"])


@pytest.mark.parametrize("batch", [1, 2], ids=["alone", "batched"])
async def test_a_notification_that_wants_an_answer_is_sent_once(sim: Sim, batch: int) -> None:
    await sim.control("PUT", "/delivery", {"batch": batch, "batchSeconds": 0})
    sim.bot.statuses = [503] * 5
    call_id = await sim.create(quiet=True)

    await sim.control("POST", f"/calls/{call_id}/participantJoining", {}, expect=202)
    await sim.advance(600)

    assert recorded((await notifications(sim, call_id))[0])["status"] == 503
    assert len(sim.bot.bodies) == 1


async def test_the_headers_of_every_answer_are_recorded(sim: Sim) -> None:
    sim.bot.responses = [Response(status_code=202, headers=OF_A_BOT)]
    call_id = await sim.create()
    await sim.advance(0)

    headers = recorded((await notifications(sim, call_id))[0])["headers"]
    assert isinstance(headers, dict)
    assert headers.items() >= OF_A_BOT.items()


async def test_only_a_part_of_a_long_answer_is_kept(sim: Sim) -> None:
    sim.bot.responses = [Response("x" * 100_000)]
    call_id = await sim.create()
    await sim.advance(0)

    assert recorded((await notifications(sim, call_id))[0])["body"] == "x" * 16 * 1024


async def test_the_services_keys_are_not_entras(sim: Sim) -> None:
    notification_keys = (await sim.http.get("/v1/keys")).json()["keys"]
    entra_keys = (await sim.http.get(f"/{TENANT}/discovery/v2.0/keys")).json()["keys"]
    assert {key["kid"] for key in notification_keys}.isdisjoint(key["kid"] for key in entra_keys)


@pytest.mark.parametrize("keep_old", [True, False], ids=["keep old", "drop old"])
async def test_after_a_rotation_the_new_key_signs(sim: Sim, keep_old: bool) -> None:
    old = {key["kid"] for key in (await sim.http.get("/v1/keys")).json()["keys"]}

    rotated = await sim.control("POST", "/keys/rotate", {"kind": "notification", "keepOld": keep_old})
    await sim.create()
    await sim.advance(0)

    token = sim.bot.headers[0]["authorization"].removeprefix("Bearer ")
    assert jwt.get_unverified_header(token)["kid"] == rotated["kid"]
    assert rotated["kid"] not in old
    published = {key["kid"] for key in (await sim.http.get("/v1/keys")).json()["keys"]}
    assert published == ({rotated["kid"]} | old if keep_old else {rotated["kid"]})


async def test_a_server_error_is_retried_and_every_attempt_is_recorded(sim: Sim) -> None:
    sim.bot.statuses = [503, 500, 202]
    call_id = await sim.create()

    await sim.advance(0)
    assert len(sim.bot.bodies) == 1
    await sim.advance(1 + 2)  # retrySeconds is 1, and doubles

    sent = (await notifications(sim, call_id))[0]
    attempts = sent["attempts"]
    assert isinstance(attempts, list)
    assert [each["status"] for each in attempts if isinstance(each, dict)] == [503, 500, 202]
    assert sent["delivered"] is True
    ids = {headers["x-microsoft-skype-message-id"] for headers in sim.bot.headers}
    assert len(ids) == 1


async def test_delivery_stops_after_the_maximum_of_attempts(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"attempts": 2, "retrySeconds": 5})
    sim.bot.statuses = [503] * 10
    call_id = await sim.create()

    await sim.advance(600)

    sent = (await notifications(sim, call_id))[0]
    assert (len(sim.bot.bodies), sent["delivered"]) == (2, False)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_4xx_of_the_bot_is_not_retried(sim: Sim, status: int) -> None:
    sim.bot.statuses = [status]
    await sim.create()
    await sim.advance(600)
    assert len(sim.bot.bodies) == 1


async def test_lost_notifications_are_recorded_but_never_sent(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"loss": 1})
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end")
    await sim.advance(60)

    assert sim.bot.bodies == []
    assert [each["lost"] for each in await notifications(sim, call_id)] == [True, True]


async def test_a_seed_repeats_what_a_probability_decides(sim: Sim) -> None:
    async def run() -> list[Json]:
        sim.simulation.reset()
        sim.bot.reset()
        call_id = await sim.create(quiet=True)
        await sim.control("PUT", "/delivery", {"loss": 0.5})
        for number in range(30):
            await send_number(sim, call_id, number)
        await sim.advance(0)
        return numbers(sim)

    first = await run()
    # Expected are 15 of 30, with a standard deviation of sqrt(30 / 4) = 2.7; the bounds are 3.6 deviations away.
    assert 15 - 10 < len(first) < 15 + 10
    assert await run() == first


async def test_duplicated_notifications_are_sent_twice(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"duplicate": 1})
    await sim.create()
    await sim.advance(0)
    assert sim.bot.states == ["established", "established"]


async def test_delayed_notifications_are_late_in_simulated_time(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"delaySeconds": 3600})
    await sim.create()
    await sim.advance(3600 - 1)
    assert sim.bot.states == []
    await sim.advance(1)
    assert sim.bot.states == ["established"]


async def test_without_reordering_a_calls_notifications_keep_their_order(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    for number in range(20):
        await send_number(sim, call_id, number)
    await sim.advance(0)
    assert numbers(sim) == list(range(20))


async def test_reordered_notifications_overtake_each_other_and_all_arrive(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"reorder": 0.5, "reorderSeconds": 10})
    call_id = await sim.create(quiet=True)
    for number in range(20):
        await send_number(sim, call_id, number)
    await sim.advance(10)
    assert numbers(sim) != list(range(20))
    assert sorted(map(str, numbers(sim))) == sorted(map(str, range(20)))


async def test_batched_notifications_of_one_bot_share_a_body_across_calls(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"batch": 3, "batchSeconds": 2})
    first, second = await sim.create(), await sim.create()
    of_other_app = await sim.create(appId=OTHER_APP)
    await sim.control("POST", f"/calls/{first}/end")
    await sim.control("POST", f"/calls/{second}/end")
    await sim.advance(2)

    sizes = [(len(body["value"]) if isinstance(body["value"], list) else 0) for body in sim.bot.bodies]
    assert sorted(sizes) == [1, 1, 3]
    assert of_other_app in str(sim.bot.bodies)
    audiences = [
        jwt.decode(each["authorization"][7:], options={"verify_signature": False})["aud"] for each in sim.bot.headers
    ]
    assert sorted(audiences) == [APP, APP, OTHER_APP]


async def test_one_call_can_have_its_own_settings(sim: Sim) -> None:
    first, second = await sim.create(quiet=True), await sim.create(quiet=True)
    settings = await sim.control("PUT", "/delivery", {"callId": first.replace("-", "").upper(), "loss": 1})
    assert settings["loss"] == 0
    await send_number(sim, first, 1)
    await send_number(sim, second, 2)
    await sim.advance(0)
    assert numbers(sim) == [2]


async def test_an_earlier_notification_can_be_sent_again(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"subcode": 5010})
    earlier = (await notifications(sim, call_id))[1]

    await sim.control("POST", f"/calls/{call_id}/notify", {"notificationId": earlier["id"]}, expect=202)
    await sim.advance(0)

    assert sim.bot.items[1] == sim.bot.items[2]
    assert len(sim.bot.items) == 3


async def test_a_quiet_call_sends_nothing_by_itself(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    await sim.control("POST", f"/calls/{call_id}/end")
    await sim.advance(60)
    assert sim.bot.bodies == []


def test_the_default_settings_are_those_of_the_control_api() -> None:
    assert DeliverySettings().model_dump(by_alias=True) == {
        "shape": "observed",
        "loss": 0,
        "duplicate": 0,
        "delaySeconds": 0,
        "reorder": 0,
        "reorderSeconds": 10,
        "batch": 1,
        "batchSeconds": 1,
        "attempts": 3,
        "retrySeconds": 1,
        "token": "legacy",
    }
