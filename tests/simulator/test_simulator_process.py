"""The simulator as a process: start, both ports, real clients, real time, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import jwt
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TENANT = "11111111-2222-4333-8444-555555555555"
APP = "66666666-7777-4888-9999-aaaaaaaaaaaa"

# Clients run in processes of their own, because aiohttp reads SSL_CERT_FILE when it is imported.
SECRET_CLIENT = """
import asyncio, sys
from azure.identity.aio import ClientSecretCredential

async def main():
    authority, tenant, app, scope = sys.argv[1:]
    credential = ClientSecretCredential(tenant, app, "any", authority=authority, disable_instance_discovery=True)
    async with credential:
        print((await credential.get_token(scope)).token)

asyncio.run(main())
"""
DISCOVERING_CLIENT = """
import sys, msal
authority, tenant, app, scope = sys.argv[1:]
client = msal.ConfidentialClientApplication(app, "any", f"{authority}/{tenant}", validate_authority=False)
print(client.acquire_token_for_client([scope])["access_token"])
"""
IDENTITY_CLIENT = """
import asyncio, sys
from azure.identity.aio import ManagedIdentityCredential

async def main():
    async with ManagedIdentityCredential() as credential:
        print((await credential.get_token(sys.argv[1])).token)

asyncio.run(main())
"""


@dataclass(frozen=True)
class Running:
    process: asyncio.subprocess.Process
    http: str
    https: str | None
    started_in: float


@asynccontextmanager
async def running(*options: str) -> AsyncIterator[Running]:
    """Start a simulator on a free port. End it with SIGTERM, unless the test has ended it."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", "--port", "0", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("simulator ready: "), line
        addresses = line.removeprefix("simulator ready: ").strip().split(", ")
        yield Running(process, addresses[0], addresses[1] if len(addresses) > 1 else None, time.monotonic() - began)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def client_of(simulator: Running) -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, base_url=simulator.http)


async def run(code: str, *arguments: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code, *arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


async def refused(*options: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "simulator", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out == b""
    return process.returncode, err.decode()


async def test_the_process_is_ready_within_seconds_and_prints_one_line() -> None:
    async with running("--quiet") as simulator:
        assert simulator.started_in < 10  # 1 s on an idle machine, times 10 for a busy one
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{simulator.http}/control/health")).json()["status"] == "ok"
        simulator.process.send_signal(signal.SIGINT)
        out, _ = await simulator.process.communicate()
        assert out == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
async def test_a_signal_ends_the_process_without_output_even_while_requests_wait(number: signal.Signals) -> None:
    async with running("--quiet", "--speed", "0") as simulator, httpx.AsyncClient(trust_env=False) as client:
        await client.post(f"{simulator.http}/control/faults", json={"delaySeconds": 1})
        waiting = asyncio.create_task(client.get(f"{simulator.http}/v1.0/communications/calls/x"))
        while not (await client.get(f"{simulator.http}/control/faults")).json()["value"][0]["hits"]:
            pass
        simulator.process.send_signal(number)
        out, err = await simulator.process.communicate()
        assert (simulator.process.returncode, out, err) == (0, b"", b"")
        with pytest.raises(httpx.HTTPError):
            (await waiting).raise_for_status()


async def test_a_port_in_use_prints_one_line_and_exits_with_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = await refused("--port", str(taken.getsockname()[1]))
    assert code == 2
    assert output.count("\n") == 1
    assert "in use" in output


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--port", "http"], id="port that is no number"),
        pytest.param(["--port", "65536"], id="port above 65535"),
        pytest.param(["--speed", "-1"], id="negative speed"),
        pytest.param(["--speed", "nan"], id="speed that is no number"),
        pytest.param(["--no-such-option"], id="unknown option"),
        pytest.param(["--ca-file", "x.pem"], id="ca-file without tls-port"),
        pytest.param(["--address", "203.0.113.1"], id="address of another machine"),
        pytest.param(
            ["--port", "0", "--tls-port", "0", "--ca-file", "no/such/folder/ca.pem"],
            id="unwritable ca-file",
        ),
    ],
)
async def test_a_wrong_option_prints_one_line_and_exits_with_2(options: list[str]) -> None:
    code, output = await refused(*options)
    assert code == 2
    assert output.startswith("simulator: ")
    assert output.count("\n") == 1


async def test_azure_identity_gets_a_token_over_https_that_graph_accepts_over_http(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    async with running("--quiet", "--tls-port", "0", "--ca-file", str(ca_file)) as simulator:
        assert simulator.https is not None
        scope = f"{simulator.http}/.default"
        secure = {"SSL_CERT_FILE": str(ca_file), "REQUESTS_CA_BUNDLE": str(ca_file)}
        tokens = [
            await run(SECRET_CLIENT, simulator.https, TENANT, APP, scope, **secure),
            await run(
                DISCOVERING_CLIENT, simulator.https, TENANT, APP, "https://graph.microsoft.com/.default", **secure
            ),
        ]
        async with client_of(simulator) as client:
            wanted = {"tenantId": TENANT, "appId": APP, "quiet": True}
            call_id = (await client.post("/control/calls", json=wanted)).json()["id"]
            for token in tokens:
                path = f"/v1.0/communications/calls/{call_id}/keepAlive"
                response = await client.post(path, headers={"Authorization": f"Bearer {token}"})
                assert response.status_code == 200, response.text


async def test_azure_identity_gets_a_token_of_the_managed_identity() -> None:
    async with running("--quiet") as simulator:
        environment = {"IDENTITY_ENDPOINT": f"{simulator.http}/msi/token", "IDENTITY_HEADER": "any"}
        token = await run(IDENTITY_CLIENT, "https://graph.microsoft.com/.default", **environment)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == "https://graph.microsoft.com"
    assert "Calls.Initiate.All" in claims["roles"]


async def test_a_lease_expires_in_accelerated_time_and_the_bot_is_notified() -> None:
    received: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def bot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        await received.put(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(bot, "127.0.0.1", 0)
    async with server, running("--quiet", "--speed", "27000") as simulator:  # 45 minutes in 2700 / 27,000 = 0.1 s
        callback = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with client_of(simulator) as client:
            await client.post("/control/calls", json={"tenantId": TENANT, "appId": APP, "callbackUri": callback})
            async with asyncio.timeout(30):
                bodies = [await received.get() for _ in range(2)]
    assert "8537" in json.dumps(bodies[1])


async def test_an_unreachable_bot_is_an_error_in_each_attempt() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening, so that connections are refused
        callback = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with running("--quiet", "--speed", "0") as simulator, client_of(simulator) as client:
            wanted = {"tenantId": TENANT, "appId": APP, "callbackUri": callback}
            call_id = (await client.post("/control/calls", json=wanted)).json()["id"]
            await client.post("/control/clock", json={"advance": 60})
            sent = (await client.get(f"/control/calls/{call_id}")).json()["notifications"][0]
    assert [(each["status"], "ConnectError" in each["error"]) for each in sent["attempts"]] == [(None, True)] * 3
    assert sent["delivered"] is False


async def test_without_quiet_each_request_is_logged_without_its_token() -> None:
    async with running() as simulator:
        async with client_of(simulator) as client:
            await client.get("/v1.0/communications/calls/x", headers={"Authorization": "Bearer secret"})
        simulator.process.terminate()
        _, output = await simulator.process.communicate()
    assert b'"GET /v1.0/communications/calls/x HTTP/1.1" 401' in output
    assert b"secret" not in output


async def test_after_a_dropped_connection_the_next_request_is_served() -> None:
    async with running("--quiet") as simulator, client_of(simulator) as client:
        await client.post("/control/faults", json={"dropConnection": True, "count": 1})
        with pytest.raises(httpx.TransportError):
            await client.get("/v1.0/communications/calls/x")
        assert (await client.get("/v1.0/communications/calls/x")).status_code == 401
        counts = (await client.get("/control/requests")).json()["counts"]
        assert counts["get"] == {"dropped": 1, "401": 1, "total": 2}
