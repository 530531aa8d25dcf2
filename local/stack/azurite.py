"""Azurite for laptops and tests: Table, Queue and Blob Storage with their real protocol."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent.parent
ACCOUNT = "devstoreaccount1"
# The account and key that Microsoft publishes for every Azurite (Learn: "Use the Azurite emulator"); no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_TIMEOUT = timedelta(seconds=30)  # it takes a second, on a busy machine a few
STOP_TIMEOUT = timedelta(seconds=10)  # it takes less than a second
POLL_INTERVAL = timedelta(seconds=0.02)
MIN_NODE_VERSION = 20
MAX_LOG_BYTES = 1 << 20

_SERVICES = ("Blob", "Queue", "Table")
_CLOSED = "service successfully closed"
_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service is successfully listening at http://[\d.]+:(\d+)")
_IN_USE = re.compile(r"EADDRINUSE\D*[\d.]+:(\d+)")
_FLAGS = (
    "--skipApiVersionCheck",
    "--disableProductStyleUrl",
    "--disableTelemetry",
    "--silent",
)
# Its stdin is a pipe from this process. When this process ends, even by SIGKILL, the pipe closes and Azurite exits.
_DIE_WITH_PARENT = "process.stdin.resume().on('end', () => process.exit(0)); require(process.argv[1])"


class AzuriteError(Exception):
    """Azurite cannot be started, or has ended. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Azurite:
    """The ports of an Azurite on 127.0.0.1."""

    blob_port: int
    queue_port: int
    table_port: int

    @property
    def connection_string(self) -> str:
        """The connection string for the Azure SDKs and the setting `AzureWebJobsStorage`."""
        host = "http://127.0.0.1"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={host}:{self.blob_port}/{ACCOUNT};"
            f"QueueEndpoint={host}:{self.queue_port}/{ACCOUNT};"
            f"TableEndpoint={host}:{self.table_port}/{ACCOUNT};"
        )


class Server:
    """An Azurite that can be stopped and started again on the same ports.

    Parameters
    ----------
    program
        The command that starts it.
    wanted
        The ports on 127.0.0.1; 0 takes a free one.
    folder
        The folder of its data. None keeps data in memory; it is lost when Azurite stops.

    Raises
    ------
    AzuriteError
        A port is in use, or it did not start.
    """

    def __init__(self, program: list[str], wanted: Azurite, folder: Path | None) -> None:
        self._program = program
        self._kept = folder is not None
        self._keep = ["--location", str(folder)] if folder else ["--inMemoryPersistence"]
        self._log: IO[str]
        self._process: subprocess.Popen[bytes]
        self.storage = wanted
        self.start()

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    def start(self) -> None:
        """Start Azurite, again or for the first time. After a stop, data in a folder is still there."""
        command = [*self._program, *_FLAGS, *self._keep, "--blobPort", str(self.storage.blob_port)]
        command += ["--queuePort", str(self.storage.queue_port), "--tablePort", str(self.storage.table_port)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `kill` closes it
        self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            command,
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self.storage = _wait_until_listening(self._process, self._log)
        except BaseException:
            self.kill()
            raise

    def check(self) -> None:
        """Raise `AzuriteError` if Azurite has ended."""
        if (code := self._process.poll()) is not None:
            lost = "" if self._kept else ", and all calls are lost, which it kept in memory"
            raise AzuriteError(f"Azurite has ended ({code}){lost}. Start again.")

    def stop(self) -> None:
        """Let Azurite finish its requests and write its data, then end it. Connections are refused from now on."""
        self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT.total_seconds()
        while _read(self._log).count(_CLOSED) < len(_SERVICES):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AzuriteError(
                    f"Azurite did not close its files within {STOP_TIMEOUT.total_seconds():.0f} s: data may be lost."
                )
            time.sleep(POLL_INTERVAL.total_seconds())
        self.kill()  # it still waits for the end of its stdin

    def kill(self) -> None:
        """End Azurite at once; do nothing if it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._log.close()


@contextmanager
def serving(
    wanted: Azurite, *, folder: Path | None = None, node: str | None = None, root: Path = ROOT
) -> Iterator[Server]:
    """Run Azurite during the block, and yield its server.

    Parameters
    ----------
    wanted
        The ports on 127.0.0.1; 0 takes a free one.
    folder
        The folder of its data, so that it can be stopped and started. None keeps data in memory.
    node
        The Node executable. None uses the virtual environment's, if the set-up installed one, else the PATH's.
    root
        The folder with `node_modules`.

    Raises
    ------
    AzuriteError
        Node or Azurite is not installed or too old, a port is in use, or it did not start.
    """
    server = Server(_program(node, root), wanted, folder)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running(
    *, blob_port: int = 0, queue_port: int = 0, table_port: int = 0, node: str | None = None, root: Path = ROOT
) -> Iterator[Azurite]:
    """Run Azurite in memory during the block. Parameters and errors are those of `serving`."""
    ports = (blob_port, queue_port, table_port)
    with serving(Azurite(*ports), node=node, root=root) as server:
        yield server.storage


def _program(node: str | None, root: Path) -> list[str]:
    script = root / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    if not script.is_file():
        raise AzuriteError(f"Azurite is not installed in {root / 'node_modules'}. Run make setup.")
    return [find_node(node), "-e", _DIE_WITH_PARENT, str(script)]


def find_node(named: str | None = None) -> str:
    """Return the Node executable: the virtual environment's, if the set-up installed one there, else the PATH's."""
    candidates = [named] if named else [str(Path(sys.prefix) / "bin" / "node"), "node"]
    for found in filter(None, map(shutil.which, candidates)):
        if _major_version(found) >= MIN_NODE_VERSION:
            return found
    raise AzuriteError(
        f"{named or 'Node'} was not found, or is older than {MIN_NODE_VERSION}. Run make clean, then make setup."
    )


def _major_version(node: str) -> int:
    output = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - as above
    return int(found[1]) if (found := re.match(r"v(\d+)\.", output)) else 0


def _wait_until_listening(process: subprocess.Popen[bytes], log: IO[str]) -> Azurite:
    """Wait for its log lines, because a port that answers may belong to another process. Return the ports."""
    deadline = time.monotonic() + START_TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        ended = process.poll() is not None  # before the log is read, so that the log is complete if it has ended
        output = _read(log)
        ports = {service: int(port) for service, port in _LISTENING.findall(output)}
        if len(ports) == len(_SERVICES):
            return Azurite(*(ports[service] for service in _SERVICES))
        if ended:
            raise AzuriteError(_start_failure(output))
        time.sleep(POLL_INTERVAL.total_seconds())
    raise AzuriteError(
        f"Azurite did not start within {START_TIMEOUT.total_seconds():.0f} s."
        f" Its output: {_read(log).strip() or 'nothing'}"
    )


def _read(log: IO[str]) -> str:
    """Return the log. Child and parent share one open file, so reading must not move the offset of its writes."""
    return os.pread(log.fileno(), MAX_LOG_BYTES, 0).decode(errors="replace")


def _start_failure(output: str) -> str:
    if in_use := _IN_USE.search(output):
        return f"Azurite cannot start: port {in_use[1]} is in use. Stop what uses it, or choose another port."
    lines = output.strip().splitlines() or ["nothing"]
    error = next((line for line in lines if "Error" in line), lines[-1])  # after an error Node prints its version last
    return f"Azurite ended when it was started. Its output: {error.strip()}"
