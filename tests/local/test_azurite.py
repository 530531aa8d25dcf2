"""Azurite starts, says clearly why not, and never outlives us."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure.data.tables.aio import TableServiceClient

from local.stack.azurite import ROOT, Azurite, AzuriteError, running, serving


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_tables_answer_by_the_connection_string(azurite: str) -> None:
    async with TableServiceClient.from_connection_string(azurite) as service:
        await service.create_table("smoke")
        assert [table.name async for table in service.query_tables("TableName eq 'smoke'")] == ["smoke"]


def test_it_is_gone_after_the_block() -> None:
    with running() as storage:
        ports = (storage.blob_port, storage.queue_port, storage.table_port)
        assert all(listens(port) for port in ports)
    assert not any(listens(port) for port in ports)


async def test_one_with_a_folder_has_everything_again_after_it_was_stopped(tmp_path: Path) -> None:
    with serving(Azurite(0, 0, 0), folder=tmp_path) as server:
        before = server.storage
        async with TableServiceClient.from_connection_string(before.connection_string) as service:
            await service.create_table("smoke")
            server.stop()
            assert not listens(before.table_port)
            server.start()
            assert server.storage == before
            assert [table.name async for table in service.list_tables()] == ["smoke"]


def test_one_that_was_killed_is_told_with_what_is_gone(tmp_path: Path) -> None:
    for folder, lost in ((None, True), (tmp_path, False)):
        with serving(Azurite(0, 0, 0), folder=folder) as server:
            server.check()
            os.killpg(server.pid, signal.SIGKILL)
            os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)
            with pytest.raises(AzuriteError, match=r"Azurite has ended \(-9\)") as told:
                server.check()
        assert ("all calls with it" in str(told.value)) is lost


def test_a_port_in_use_is_named() -> None:
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


def test_it_ends_when_its_owner_is_killed() -> None:
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
    deadline = time.monotonic() + 10
    while listens(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not listens(port)
