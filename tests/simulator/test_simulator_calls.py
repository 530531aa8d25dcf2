"""The states of a call: creation, keepAlive, hang-up, end of the lease, forgotten call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Sim

MINUTES = 60  # seconds


async def test_a_call_without_keep_alive_ends_after_45_minutes_with_408_8537(sim: Sim) -> None:
    call_id = await sim.create()

    await sim.advance(45 * MINUTES - 1)
    assert (await sim.control("GET", f"/calls/{call_id}"))["state"] == "established"
    await sim.advance(1)

    call = await sim.control("GET", f"/calls/{call_id}")
    assert (call["state"], call["code"], call["subcode"]) == ("terminated", 408, 8537)
    assert sim.bot.states == ["established", "terminated"]
    assert sim.bot.items[-1]["changeType"] == "deleted"


async def test_a_keep_alive_renews_the_lease(sim: Sim) -> None:
    call_id = await sim.create(quiet=True)

    for _ in range(3):
        await sim.advance(44 * MINUTES)
        response = await sim.graph("POST", f"/v1.0/communications/calls/{call_id}/keepAlive")
        assert response.status_code == 200
        assert response.content == b""
        assert response.headers["content-type"].startswith("text/plain")

    call = await sim.control("GET", f"/calls/{call_id}")
    assert (call["state"], call["keepAlives"]) == ("established", 3)
    await sim.advance(45 * MINUTES)
    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 8537


async def test_a_lease_expires_at_its_own_time_even_within_a_long_step_of_the_clock(sim: Sim) -> None:
    call_id = await sim.create()
    before = await sim.control("GET", f"/calls/{call_id}")

    await sim.advance(24 * 60 * MINUTES)

    after = await sim.control("GET", f"/calls/{call_id}")
    lease = before["lease"]
    assert isinstance(lease, dict)
    assert after["endedAt"] == lease["expiresAt"]


async def test_an_old_call_has_only_the_rest_of_its_lease(sim: Sim) -> None:
    call_id = await sim.create(ageSeconds=44 * MINUTES)

    await sim.advance((45 - 44) * MINUTES)

    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 8537


async def test_a_hang_up_terminates_a_call_after_a_second(sim: Sim) -> None:
    call_id = await sim.create()

    response = await sim.graph("DELETE", f"/v1.0/communications/calls/{call_id}")
    again = await sim.graph("DELETE", f"/v1.0/communications/calls/{call_id}")

    assert (response.status_code, response.content, again.status_code) == (204, b"", 204)
    assert (await sim.graph("GET", f"/v1.0/communications/calls/{call_id}")).json()["state"] == "terminating"
    await sim.advance(1)
    assert sim.bot.states == ["established", "terminating", "terminated"]
    call = await sim.control("GET", f"/calls/{call_id}")
    assert (call["code"], call["subcode"]) == (200, 5001)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/keepAlive"), ("POST", "/recordResponse")],
    ids=["get", "delete", "keepAlive", "recordResponse"],
)
async def test_a_call_that_is_over_is_not_found(sim: Sim, method: str, path: str) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"code": 200, "subcode": 5010})

    response = await sim.graph(method, f"/v1.0/communications/calls/{call_id}{path}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "8522"


async def test_a_forgotten_call_is_not_found_and_not_notified(sim: Sim) -> None:
    call_id = await sim.create()

    await sim.control("POST", f"/calls/{call_id}/forget")
    await sim.advance((45 + 1) * MINUTES)

    assert (await sim.graph("POST", f"/v1.0/communications/calls/{call_id}/keepAlive")).status_code == 404
    assert sim.bot.states == ["established"]


async def test_a_call_is_found_by_either_form_of_its_id(sim: Sim) -> None:
    call_id = await sim.create()

    response = await sim.graph("GET", f"/v1.0/communications/calls/{call_id.replace('-', '').upper()}")

    assert response.json()["id"] == call_id
