"""Azurite starts, reports clearly why it cannot, and always ends with its owner."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient

from local.stack.azurite import ROOT, Azurite, AzuriteError, running, serving
from tests.local.waiting import wait_until


def listens(port: int) -> bool:
    """True if something listens on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_tables_are_reached_by_the_connection_string(azurite: str) -> None:
    async with TableServiceClient.from_connection_string(azurite) as service:
        await service.create_table("smoke")
        assert [table.name async for table in service.query_tables("TableName eq 'smoke'")] == ["smoke"]


def test_azurite_ends_with_the_block() -> None:
    with running() as storage:
        ports = (storage.blob_port, storage.queue_port, storage.table_port)
        assert all(listens(port) for port in ports)
    assert not any(listens(port) for port in ports)


async def test_azurite_with_a_folder_keeps_its_data_over_a_stop(tmp_path: Path) -> None:
    with serving(Azurite(0, 0, 0), folder=tmp_path) as server:
        before = server.storage
        async with TableServiceClient.from_connection_string(before.connection_string) as service:
            await service.create_table("smoke")
            server.stop()
            assert not listens(before.table_port)
            server.start()
            assert server.storage == before
            assert [table.name async for table in service.list_tables()] == ["smoke"]


@pytest.mark.parametrize(
    ("in_folder", "lost"), [pytest.param(False, True, id="in memory"), pytest.param(True, False, id="in a folder")]
)
def test_a_killed_azurite_is_reported_with_the_loss_of_calls(tmp_path: Path, in_folder: bool, lost: bool) -> None:
    with serving(Azurite(0, 0, 0), folder=tmp_path if in_folder else None) as server:
        server.check()
        os.killpg(server.pid, signal.SIGKILL)
        os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(AzuriteError, match=r"Azurite has ended \(-9\)") as raised:
            server.check()
    assert ("all calls are lost" in str(raised.value)) is lost


def test_a_port_in_use_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AzuriteError, match=f"port {port} is in use"), running(queue_port=port):
            pytest.fail("started on a port in use")


def test_without_node_the_error_says_what_to_do() -> None:
    with pytest.raises(AzuriteError, match="make setup"), running(node="no-such-node"):
        pytest.fail("started without Node")


def test_without_node_modules_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AzuriteError, match="Run make setup"), running(root=tmp_path):
        pytest.fail("started without Azurite")


def test_azurite_ends_when_its_owner_is_killed() -> None:
    program = (
        "import time\nfrom local.stack.azurite import running\n"
        "with running() as storage:\n print(storage.table_port, flush=True)\n time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    with owner.stdout:
        port = int(owner.stdout.readline())
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_until(lambda: not listens(port))
