"""Fixtures: a simulator in this process, whose clock stands still, and a bot that receives its notifications."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from simulator.app import application
from simulator.simulation import Options, Simulation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from simulator.wire import Json

BASE = "http://127.0.0.1:8080"
TENANT = "11111111-2222-4333-8444-555555555555"
APP = "66666666-7777-4888-9999-aaaaaaaaaaaa"
CALLBACK = "http://127.0.0.1:9000/api/notifications"

type Item = dict[str, Json]


@dataclass
class Bot:
    """A webhook that keeps the bodies it receives.

    It responds with the next of `responses`, else with the next status of `statuses`, else with 202.
    """

    bodies: list[Item] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)

    def reset(self) -> None:
        for kept in (self.bodies, self.headers, self.statuses, self.responses):
            kept.clear()

    async def receive(self, request: Request) -> Response:
        self.bodies.append(json.loads(await request.body()))
        self.headers.append(request.headers)
        if self.responses:
            return self.responses.pop(0)
        return Response(status_code=self.statuses.pop(0) if self.statuses else 202)

    @property
    def items(self) -> list[Item]:
        found: list[Item] = []
        for body in self.bodies:
            value = body["value"]
            assert isinstance(value, list)
            found += value
        return found

    @property
    def states(self) -> list[Json]:
        return [_data(item).get("state") for item in self.items]


def _data(item: Item) -> Item:
    data = item["resourceData"]
    assert isinstance(data, dict)
    return data


@dataclass
class Sim:
    """The simulation, an HTTP client of its routes, and the bot."""

    simulation: Simulation
    http: httpx.AsyncClient
    bot: Bot

    async def control(self, method: str, path: str, body: Item | None = None, expect: int = 200) -> Item:
        response = await self.http.request(method, f"/control{path}", json=body)
        assert response.status_code == expect, response.text
        found: Item = response.json() if response.content else {}
        return found

    async def advance(self, seconds: float) -> None:
        await self.control("POST", "/clock", {"advance": seconds})

    async def create(self, **wanted: Json) -> str:
        body: Item = {"tenantId": TENANT, "appId": APP, "callbackUri": CALLBACK} | wanted
        created = await self.control("POST", "/calls", body, expect=201)
        return str(created["id"])

    async def token(
        self, kind: Literal["entra", "notification"] = "entra", app_id: str = APP, tenant_id: str = TENANT, **more: Json
    ) -> str:
        body: Item = {"kind": kind, "appId": app_id, "tenantId": tenant_id} | more
        return str((await self.control("POST", "/tokens", body))["token"])

    async def graph(
        self, method: str, path: str, body: Item | None = None, token: str | None = None, request_id: str = ""
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or await self.token()}"}
        if request_id:
            headers["client-request-id"] = request_id
        return await self.http.request(method, path, json=body, headers=headers)


@pytest.fixture(scope="session")
async def one_sim() -> AsyncIterator[Sim]:
    """Return one simulator for all tests, because creating its keys is slow."""
    bot = Bot()
    webhook = Starlette(routes=[Route("/api/notifications", bot.receive, methods=["POST"])])
    simulation = Simulation(Options(BASE, speed=0, seed=1), notification_transport=httpx.ASGITransport(webhook))
    transport = httpx.ASGITransport(application(simulation))
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield Sim(simulation, client, bot)
    await simulation.close()


@pytest.fixture
def sim(one_sim: Sim) -> Sim:
    """Return the simulator in the state after its start."""
    one_sim.simulation.reset()
    one_sim.bot.reset()
    return one_sim
