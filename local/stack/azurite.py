"""Azurite for the laptop and the tests: Table, Queue and Blob Storage by their real protocol."""

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
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent.parent
ACCOUNT = "devstoreaccount1"
# The account and key that Microsoft publishes for every Azurite (Learn: "Use the Azurite emulator"); no secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_TIMEOUT = 30.0  # seconds; it takes one, on a busy machine a few
STOP_TIMEOUT = 10.0  # seconds; it takes none
OLDEST_NODE = 20

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
# Its stdin is a pipe that we hold: when we die, however suddenly, the pipe ends and so does Azurite.
_DIE_WITH_PARENT = "process.stdin.resume().on('end', () => process.exit(0)); require(process.argv[1])"


class AzuriteError(Exception):
    """Azurite could not be started. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running Azurite, by its ports on 127.0.0.1."""

    blob_port: int
    queue_port: int
    table_port: int

    @property
    def connection_string(self) -> str:
        """What the Azure SDKs, and the setting `AzureWebJobsStorage`, take."""
        host = "http://127.0.0.1"
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={host}:{self.blob_port}/{ACCOUNT};"
            f"QueueEndpoint={host}:{self.queue_port}/{ACCOUNT};"
            f"TableEndpoint={host}:{self.table_port}/{ACCOUNT};"
        )


class Server:
    """An Azurite that may be stopped and started again, on the ports it had.

    Parameters
    ----------
    program
        The command that starts it.
    wanted
        The ports on 127.0.0.1; 0 takes a free one.
    folder
        Where it keeps what it holds. None: in memory, and what it held is gone when it stops.

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
        """Start it, or start it again with what it had kept."""
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
        """Raise `AzuriteError` if it has ended."""
        if (code := self._process.poll()) is not None:
            gone = "" if self._kept else ", and all calls with it, which it held in memory"
            raise AzuriteError(f"Azurite has ended ({code}){gone}. Start again.")

    def stop(self) -> None:
        """Let it finish what it does and write down what it holds. From then on connections are refused."""
        self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while _read(self._log).count(_CLOSED) < len(_SERVICES):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AzuriteError(f"Azurite did not close its files within {STOP_TIMEOUT:.0f} s: data may be lost.")
            time.sleep(0.02)
        self.kill()  # closed, it would still wait for its stdin

    def kill(self) -> None:
        """End it at once; no harm if it has ended."""
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
    """Run Azurite for as long as the block lasts.

    Parameters
    ----------
    wanted
        The ports on 127.0.0.1; 0 takes a free one.
    folder
        Where it keeps what it holds, so that it can be stopped and started. None: in memory.
    node
        The Node executable. If None: the one of the virtual environment, where the set-up had to put one there, else
        the one on the PATH.
    root
        The folder that has `node_modules`.

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
    """Run one in memory for as long as the block lasts. Parameters and errors are those of `serving`."""
    ports = (blob_port, queue_port, table_port)
    with serving(Azurite(*ports), node=node, root=root) as server:
        yield server.storage


def _program(node: str | None, root: Path) -> list[str]:
    script = root / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    if not script.is_file():
        raise AzuriteError(f"Azurite is not installed in {root / 'node_modules'}. Run make setup.")
    return [find_node(node), "-e", _DIE_WITH_PARENT, str(script)]


def find_node(named: str | None = None) -> str:
    """The Node executable: the virtual environment's if the set-up had to install one there, else the PATH's."""
    candidates = [named] if named else [str(Path(sys.prefix) / "bin" / "node"), "node"]
    for found in filter(None, map(shutil.which, candidates)):
        if _major_version(found) >= OLDEST_NODE:
            return found
    raise AzuriteError(
        f"{named or 'Node'} was not found, or is older than {OLDEST_NODE}. Run make clean, then make setup."
    )


def _major_version(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 - as above
    return int(found[1]) if (found := re.match(r"v(\d+)\.", said)) else 0


def _wait_until_listening(process: subprocess.Popen[bytes], log: IO[str]) -> Azurite:
    """Its own words are the one sure sign: a port that answers may be another process's."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        ended = process.poll() is not None  # asked before the log is read, so that its last words are in it
        said = _read(log)
        ports = {service: int(port) for service, port in _LISTENING.findall(said)}
        if len(ports) == len(_SERVICES):
            return Azurite(*(ports[service] for service in _SERVICES))
        if ended:
            raise AzuriteError(_why(said))
        time.sleep(0.02)
    raise AzuriteError(
        f"Azurite did not start within {START_TIMEOUT:.0f} s. It said: {_read(log).strip() or 'nothing'}"
    )


def _read(log: IO[str]) -> str:
    """Read without moving the offset that the child writes at: the two share one open file."""
    return os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")


def _why(said: str) -> str:
    if in_use := _IN_USE.search(said):
        return f"Azurite cannot start: port {in_use[1]} is in use. Stop what uses it, or choose another port."
    lines = said.strip().splitlines() or ["nothing"]
    told = next((line for line in lines if "Error" in line), lines[-1])  # after an error Node tells its version last
    return f"Azurite ended at its start. It said: {told.strip()}"
