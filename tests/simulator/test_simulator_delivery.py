"""Notifications on their way: signed, retried, lost, doubled, late, out of order, together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
import pytest
from jwt import PyJWKSet

from simulator.delivery import Modes
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Sim

OTHER_APP = "88888888-7777-4888-9999-aaaaaaaaaaaa"


async def notifications(sim: Sim, call_id: str) -> list[dict[str, Json]]:
    found = (await sim.control("GET", f"/calls/{call_id}"))["notifications"]
    assert isinstance(found, list)
    return found


async def tell(sim: Sim, call_id: str, number: int) -> None:
    """Send a notification that says its number."""
    data: Json = [{"number": number}]
    await sim.control("POST", f"/calls/{call_id}/notify", {"suffix": "/participants", "resourceData": data}, expect=202)


def numbers(sim: Sim) -> list[Json]:
    found: list[Json] = []
    for item in sim.bot.items:
        data = item["resourceData"]
        assert isinstance(data, list)
        found += [each["number"] for each in data if isinstance(each, dict)]
    return found


async def test_a_notification_carries_the_services_token_as_it_is_observed(sim: Sim) -> None:
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
    assert abs(claims["nbf"] - time.time()) < 30, "real time, however the simulated clock stands"


@pytest.mark.parametrize(
    ("kind", "issuer", "caller"),
    [
        ("entra", "{issuer of the document}", "azp"),
        ("entraV1", f"https://sts.windows.net/{TENANT}/", "appid"),
    ],
)
async def test_in_the_middle_of_a_call_notifications_change_to_entras_tokens(
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


async def test_the_services_keys_are_not_entras(sim: Sim) -> None:
    notification_keys = (await sim.http.get("/v1/keys")).json()["keys"]
    entra_keys = (await sim.http.get(f"/{TENANT}/discovery/v2.0/keys")).json()["keys"]
    assert {key["kid"] for key in notification_keys}.isdisjoint(key["kid"] for key in entra_keys)


@pytest.mark.parametrize("keep_old", [True, False])
async def test_after_a_rotation_a_new_key_signs(sim: Sim, keep_old: bool) -> None:
    old = {key["kid"] for key in (await sim.http.get("/v1/keys")).json()["keys"]}

    rotated = await sim.control("POST", "/keys/rotate", {"kind": "notification", "keepOld": keep_old})
    await sim.create()
    await sim.advance(0)

    token = sim.bot.headers[0]["authorization"].removeprefix("Bearer ")
    assert jwt.get_unverified_header(token)["kid"] == rotated["kid"]
    assert rotated["kid"] not in old
    published = {key["kid"] for key in (await sim.http.get("/v1/keys")).json()["keys"]}
    assert published == ({rotated["kid"]} | old if keep_old else {rotated["kid"]})


async def test_a_server_error_is_tried_again_and_every_attempt_is_kept(sim: Sim) -> None:
    sim.bot.answers = [503, 500, 202]
    call_id = await sim.create()

    await sim.advance(0)
    assert len(sim.bot.bodies) == 1
    await sim.advance(10)

    sent = (await notifications(sim, call_id))[0]
    attempts = sent["attempts"]
    assert isinstance(attempts, list)
    assert [each["status"] for each in attempts if isinstance(each, dict)] == [503, 500, 202]
    assert sent["delivered"] is True
    ids = {headers["x-microsoft-skype-message-id"] for headers in sim.bot.headers}
    assert len(ids) == 1


async def test_it_gives_up_after_the_allowed_tries(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"attempts": 2, "retrySeconds": 5})
    sim.bot.answers = [503] * 10
    call_id = await sim.create()

    await sim.advance(600)

    sent = (await notifications(sim, call_id))[0]
    assert (len(sim.bot.bodies), sent["delivered"]) == (2, False)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_by_the_bot_is_not_tried_again(sim: Sim, status: int) -> None:
    sim.bot.answers = [status]
    await sim.create()
    await sim.advance(600)
    assert len(sim.bot.bodies) == 1


async def test_lost_notifications_are_kept_but_never_sent(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"loss": 1})
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end")
    await sim.advance(60)

    assert sim.bot.bodies == []
    assert [each["lost"] for each in await notifications(sim, call_id)] == [True, True]


async def test_a_probability_is_drawn_from_the_seed(sim: Sim) -> None:
    async def story() -> list[Json]:
        sim.simulation.reset()
        sim.bot.forget()
        call_id = await sim.create(quiet=True)
        await sim.control("PUT", "/delivery", {"loss": 0.5})
        for number in range(30):
            await tell(sim, call_id, number)
        await sim.advance(0)
        return numbers(sim)

    first = await story()
    assert 5 < len(first) < 25
    assert await story() == first


async def test_doubled_notifications_come_twice(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"duplicate": 1})
    await sim.create()
    await sim.advance(0)
    assert sim.bot.states == ["established", "established"]


async def test_delayed_notifications_come_late_in_simulated_time(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"delaySeconds": 3600})
    await sim.create()
    await sim.advance(3599)
    assert sim.bot.states == []
    await sim.advance(1)
    assert sim.bot.states == ["established"]


async def test_without_reordering_a_calls_notifications_keep_their_order(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    for number in range(20):
        await tell(sim, call_id, number)
    await sim.advance(0)
    assert numbers(sim) == list(range(20))


async def test_reordered_notifications_pass_each_other_and_all_come(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"reorder": 0.5, "reorderSeconds": 10})
    call_id = await sim.create(quiet=True)
    for number in range(20):
        await tell(sim, call_id, number)
    await sim.advance(10)
    assert numbers(sim) != list(range(20))
    assert sorted(map(str, numbers(sim))) == sorted(map(str, range(20)))


async def test_batched_notifications_of_one_bot_share_a_body_also_across_calls(sim: Sim) -> None:
    await sim.control("PUT", "/delivery", {"batch": 3, "batchSeconds": 2})
    first, second = await sim.create(), await sim.create()
    stranger = await sim.create(appId=OTHER_APP)
    await sim.control("POST", f"/calls/{first}/end")
    await sim.control("POST", f"/calls/{second}/end")
    await sim.advance(2)

    sizes = [(len(body["value"]) if isinstance(body["value"], list) else 0) for body in sim.bot.bodies]
    assert sorted(sizes) == [1, 1, 3]
    assert str(stranger) in str(sim.bot.bodies)
    audiences = [
        jwt.decode(each["authorization"][7:], options={"verify_signature": False})["aud"] for each in sim.bot.headers
    ]
    assert sorted(audiences) == [APP, APP, OTHER_APP]


async def test_one_call_can_have_modes_of_its_own(sim: Sim) -> None:
    first, second = await sim.create(quiet=True), await sim.create(quiet=True)
    modes = await sim.control("PUT", "/delivery", {"callId": first.replace("-", "").upper(), "loss": 1})
    assert modes["loss"] == 0
    await tell(sim, first, 1)
    await tell(sim, second, 2)
    await sim.advance(0)
    assert numbers(sim) == [2]


async def test_a_past_notification_can_be_sent_again(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"subcode": 5010})
    past = (await notifications(sim, call_id))[1]

    await sim.control("POST", f"/calls/{call_id}/notify", {"notificationId": past["id"]}, expect=202)
    await sim.advance(0)

    assert sim.bot.items[1] == sim.bot.items[2]
    assert len(sim.bot.items) == 3


async def test_a_quiet_call_says_nothing_by_itself(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)
    await sim.control("POST", f"/calls/{call_id}/end")
    await sim.advance(60)
    assert sim.bot.bodies == []


def test_the_modes_are_those_that_the_control_api_shows() -> None:
    assert Modes().model_dump(by_alias=True) == {
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
