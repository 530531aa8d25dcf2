"""Fixtures: the app served in this process, on Azurite, with a simulated Graph."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest

from local.host.admin import Admin
from local.host.functions import Function
from local.host.http import FrontEnd
from local.host.keys import Keys
from local.host.run import Options as HostOptions
from local.host.run import _listening_socket, _Server
from local.host.worker import Worker, index
from shared.services import Services
from tests.functions.harness import (
    FUNCTION_KEY,
    INDEXED,
    ROOT,
    App,
    Simulator,
    asking_for_tokens,
    composed,
    environment,
    simulator_process,
)


@pytest.fixture(scope="session")
def simulator_addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with simulator_process(tmp_path_factory.mktemp("simulator"), sys.executable) as addresses:
        yield addresses


@pytest.fixture(scope="session")
async def one_simulator(simulator_addresses: tuple[str, str]) -> AsyncIterator[Simulator]:
    address, login = simulator_addresses
    async with httpx.AsyncClient(base_url=address) as client:
        yield Simulator(client, address, login)


@pytest.fixture
async def simulator(one_simulator: Simulator) -> Simulator:
    """The simulator without the faults and modes of the test before."""
    await one_simulator.control("DELETE", "/faults")
    await one_simulator.control("PUT", "/delivery", {})
    return one_simulator


@pytest.fixture(scope="session")
async def functions() -> Mapping[str, Function]:
    """The app, as Microsoft's worker library indexes it: once a process, whichever tests ask for it."""
    if not INDEXED:
        path, folder = list(sys.path), os.getcwd()  # noqa: PTH109 what chdir takes back
        INDEXED.update({function.name: function for function in await index(ROOT)})
        sys.path[:] = path
        os.chdir(folder)
    return INDEXED


@pytest.fixture(scope="session")
async def served(functions: Mapping[str, Function]) -> AsyncIterator[tuple[httpx.AsyncClient, Worker]]:
    """The app behind the local host's HTTP, on a free port."""
    worker = Worker(None)
    keys = Keys(FUNCTION_KEY, "a-master-key-for-tests")
    front = FrontEnd(functions.values(), worker, keys, "api", Admin(functions, keys, {}))
    with _listening_socket(HostOptions(ROOT, port=0)) as listening:
        server = _Server(front)
        running = asyncio.create_task(server.serve([listening]))
        await server.ready.wait()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            yield client, worker
        server.should_exit = True
        await running


@pytest.fixture(scope="session")
async def whole_app(
    served: tuple[httpx.AsyncClient, Worker],
    functions: Mapping[str, Function],
    one_simulator: Simulator,
    azurite: str,
) -> AsyncIterator[App]:
    client, worker = served
    async with composed(environment(azurite, one_simulator)) as (parts, clock):
        yield App(client, one_simulator, functions, worker, parts, clock, azurite)


@pytest.fixture
def app(whole_app: App, simulator: Simulator) -> App:  # noqa: ARG001 (it is cleaned for the test)
    """The app, with a tenant of this test's own."""
    vars(whole_app.parts).pop("health", None)  # it remembers the check of the test before
    whole_app.clock.ahead *= 0
    return replace(whole_app, tenant=str(uuid4()))


@pytest.fixture
async def guarded(app: App) -> AsyncIterator[App]:
    """The app with MANAGEMENT_AUDIENCE set."""
    async with app.configured(Services, **asking_for_tokens()) as with_audience:
        yield with_audience
