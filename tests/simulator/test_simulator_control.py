"""The control API's own manners, the clock, and what the simulator may import."""

from __future__ import annotations

import ast
import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from simulator.clock import Clock
from simulator.wire import canonical_id
from tests.simulator.conftest import APP, TENANT

if TYPE_CHECKING:
    from simulator.wire import Json
    from tests.simulator.conftest import Sim

WANTED: dict[str, Json] = {"tenantId": TENANT, "appId": APP}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/calls", {}, 400),
        ("POST", "/calls", WANTED | {"tenant": TENANT}, 400),
        ("POST", "/calls", WANTED | {"callbackUri": "ftp://x"}, 400),
        ("POST", "/calls", WANTED | {"id": "a/b"}, 400),
        ("POST", "/calls", WANTED | {"state": "terminated"}, 400),
        ("POST", "/calls", WANTED | {"state": "incoming", "direction": "outgoing"}, 400),
        ("POST", "/clock", {"advance": -1}, 400),
        ("POST", "/clock", {"speed": -1}, 400),
        ("PUT", "/delivery", {"loss": 1.5}, 400),
        ("PUT", "/delivery", {"shape": "other"}, 400),
        ("POST", "/tokens", {"appId": APP}, 400),
        ("POST", "/keys/rotate", {"kind": "other"}, 400),
        ("PUT", f"/apps/{APP}", {"role": []}, 400),
        ("GET", "/calls/none", None, 404),
        ("POST", "/calls/none/end", {}, 404),
        ("POST", "/calls/none/operations/none/finish", {}, 404),
        ("GET", "/nothing", None, 404),
        ("PATCH", "/clock", {}, 405),
    ],
)
async def test_what_cannot_be_done_is_a_problem_with_a_reason(
    sim: Sim, method: str, path: str, body: dict[str, Json] | None, status: int
) -> None:
    answer = await sim.http.request(method, f"/control{path}", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


async def test_a_call_that_is_over_cannot_be_ended_again(sim: Sim) -> None:
    call_id = await sim.create()
    await sim.control("POST", f"/calls/{call_id}/end", {"subcode": 5003})
    for path in ("end", "forget"):
        assert "over already" in str((await sim.control("POST", f"/calls/{call_id}/{path}", expect=409))["detail"])
    assert (await sim.control("GET", f"/calls/{call_id}"))["subcode"] == 5003


async def test_an_id_can_be_chosen_once(sim: Sim) -> None:
    chosen = "2E1A0B002DB440229570243709C565AB"
    assert await sim.create(id=chosen) == "2e1a0b00-2db4-4022-9570-243709c565ab"
    await sim.control("POST", "/calls", WANTED | {"id": canonical_id(chosen)}, expect=409)
    assert await sim.create(id="opaque-Id") == "opaque-Id"


async def test_an_operation_can_be_finished_once_with_any_outcome(sim: Sim) -> None:
    call_id = await sim.create()
    path = f"/v1.0/communications/calls/{call_id}/recordResponse"
    operation_id = (await sim.graph("POST", path, {})).json()["id"]
    outcome: dict[str, Json] = {"status": "failed", "code": 400, "subcode": 8510, "message": "Silence."}

    finish = f"/calls/{call_id}/operations/{operation_id}/finish"
    done = await sim.control("POST", finish, outcome | {"completionReason": "initialSilenceTimeout"})
    await sim.control("POST", finish, outcome, expect=409)
    await sim.advance(60)

    assert (done["status"], done["subcode"]) == ("failed", 8510)
    data = sim.bot.items[-1]["resourceData"]
    assert isinstance(data, dict)
    assert (data["completionReason"], data["recordingLocation"]) == ("initialSilenceTimeout", "")


async def test_a_reset_leaves_nothing_but_the_keys(sim: Sim) -> None:
    keys = (await sim.http.get("/v1/keys")).json()
    await sim.create()
    await sim.control("POST", "/faults", {"status": 500}, expect=201)
    await sim.control("PUT", "/delivery", {"loss": 1})
    await sim.control("PUT", f"/apps/{APP}", {"roles": []})
    await sim.control("POST", "/clock", {"advance": 86400, "speed": 60})

    await sim.control("POST", "/reset", expect=204)

    assert (await sim.control("GET", "/calls"))["value"] == []
    assert (await sim.control("GET", "/faults"))["value"] == []
    assert (await sim.control("GET", "/delivery"))["loss"] == 0
    assert (await sim.control("GET", "/requests"))["counts"] == {}
    clock = await sim.control("GET", "/clock")
    assert clock["speed"] == 0
    assert abs((datetime.fromisoformat(str(clock["now"])) - datetime.now(UTC)).total_seconds()) < 60
    assert (await sim.http.get("/v1/keys")).json() == keys
    await sim.graph("GET", f"/v1.0/communications/calls/{await sim.create()}")


async def test_the_same_seed_gives_the_same_ids(sim: Sim) -> None:
    first = [await sim.create() for _ in range(3)]
    sim.simulation.reset()
    assert [await sim.create() for _ in range(3)] == first


async def test_a_running_clock_does_what_is_due_by_itself() -> None:
    clock, done = Clock(speed=36_000), asyncio.Event()  # an hour is 0.1 s
    began, at = clock.now(), list[datetime]()

    def act() -> None:
        at.append(clock.now())
        done.set()

    clock.after(3600, act)
    async with asyncio.timeout(30):
        await done.wait()
    assert (at[0] - began).total_seconds() == pytest.approx(3600, abs=600)
    clock.stop()


async def test_a_change_of_speed_moves_what_is_due_and_not_the_time() -> None:
    clock, done = Clock(speed=0), asyncio.Event()
    began = clock.now()
    clock.after(3600, done.set)
    assert clock.now() == began
    clock.set_speed(36_000)
    async with asyncio.timeout(30):
        await done.wait()
    clock.stop()


async def test_what_a_step_sets_off_happens_within_the_step() -> None:
    clock, seen = Clock(speed=0), list[float]()
    began = clock.now()

    def again() -> None:
        seen.append((clock.now() - began).total_seconds())
        clock.after(10, again)

    async def nothing() -> None:
        pass

    clock.after(10, again)
    await clock.advance(35, nothing)
    assert seen == [10, 20, 30]
    assert (clock.now() - began).total_seconds() == 35


def test_the_simulator_imports_nothing_of_the_application() -> None:
    """It is a second reading of Graph's documents: sharing code would be sharing mistakes."""
    folder = Path(__file__).parents[2]
    imported: set[str] = set()
    for module in (folder / "simulator").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    assert "starlette" in imported
    assert imported.isdisjoint({"shared", "functions", "local", "function_app", "tests"})
