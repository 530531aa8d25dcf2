"""The whole of Call Keeper on one machine: Azurite, the simulator and the host, wired by settings alone."""

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local import azurite
from local.processes import Child, Children

ROOT = Path(__file__).resolve().parent.parent
APP_ID = "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60"  # of a bot that exists nowhere
LEASE_MINUTES = 45  # Graph: call-keepAlive page
LOGIN_TIMEOUT = 60.0  # seconds; the first start on a slow machine compiles everything
CORE_TOOLS_TIMEOUT = 240.0  # seconds; at their first start they download the extension bundle


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen on 127.0.0.1; 0 is any free port."""

    host: int = 0
    simulator: int = 0
    blob: int = 0
    queue: int = 0
    table: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """How to run it. With `speed` 60 the 45 minutes of a lease are 45 seconds."""

    speed: float = 60
    schedule: str = "*/15 * * * * *"
    ports: Ports = field(default_factory=Ports)
    core_tools: bool = False
    echo: bool = False
    settings: dict[str, str] = field(default_factory=dict)


class Stack:
    """What runs: addresses, the function key, and the host, which may be ended and started again."""

    def __init__(self, options: Options, children: Children, storage: azurite.Azurite, folder: Path) -> None:
        self._options = options
        self._children = children
        self.storage = storage
        self.folder = folder
        self.function_key = secrets.token_urlsafe(24)
        self._secret = secrets.token_urlsafe(24)
        self._simulator_child, self.simulator, self._login = self._start_simulator()
        self.host = self.start_host()

    @property
    def api(self) -> str:
        """Where the routes of the app begin."""
        return f"{self.address}/api"

    def start_host(self) -> Child:
        """Start the Functions host, or start it again, on the port it had."""
        port = self._options.ports.host or getattr(self, "_port", 0)
        if self._options.core_tools:
            command: list[str] = ["func", "start", "--port", str(port or 7071)]
            ready = r"(?i)host lock lease acquired|Functions:"
        else:
            command = [sys.executable, "-m", "local.host", "--port", str(port)]
            ready = r"host ready: http://127\.0\.0\.1:(\d+)"
        log = None if self._options.echo else self.folder / "host.log"
        child = self._children.start("host", command, env=self.settings(), cwd=ROOT, log=log, echo=self._options.echo)
        found = child.wait_for(ready, CORE_TOOLS_TIMEOUT if self._options.core_tools else LOGIN_TIMEOUT)
        self._port = port if self._options.core_tools else int(found[1])
        self.address = f"http://127.0.0.1:{self._port or 7071}"
        self.host = child
        return child

    def check(self) -> None:
        """Raise `ProcessError` if the simulator or the host has ended."""
        self._simulator_child.check()
        self.host.check()

    def settings(self) -> dict[str, str]:
        """The app settings, as a deployment has them."""
        return {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": self.storage.connection_string,
            "CALLS_STORAGE": self.storage.connection_string,
            "KEEP_ALIVE_SCHEDULE": self._options.schedule,
            "KEEP_ALIVE_LEASE": f"PT{LEASE_MINUTES * 60 / self._options.speed:g}S",
            "GRAPH_APP_ID": APP_ID,
            "GRAPH_CREDENTIAL": "secret",
            "GRAPH_CLIENT_SECRET": self._secret,
            "GRAPH_BASE_URL": self.simulator,
            "AZURE_AUTHORITY_HOST": self._login,
            "NOTIFICATION_METADATA_URLS": f"{self.simulator}/v1/.well-known/OpenIdConfiguration",
            "SSL_CERT_FILE": str(self._ca_file),
            "LOCAL_FUNCTION_KEY": self.function_key,
            "PYTHONUNBUFFERED": "1",
            **self._options.settings,
        }

    @property
    def _ca_file(self) -> Path:
        return self.folder / "simulator-ca.pem"

    def _start_simulator(self) -> tuple[Child, str, str]:
        command = [sys.executable, "-m", "simulator", "--port", str(self._options.ports.simulator)]
        command += ["--tls-port", "0", "--ca-file", str(self._ca_file), "--speed", str(self._options.speed), "--quiet"]
        child = self._children.start("simulator", command, cwd=ROOT, log=self.folder / "simulator.log")
        found = child.wait_for(r"simulator ready: (http://\S+?), (https://\S+)")
        return child, found[1], found[2]


@contextmanager
def running(options: Options) -> Iterator[Stack]:
    """Run all parts for as long as the block lasts; nothing is left behind.

    Raises
    ------
    AzuriteError, ProcessError
        A part could not be started. The message says what to do.
    """
    folder = Path(tempfile.mkdtemp(prefix="call-keeper-"))
    ports = options.ports
    try:
        with (
            Children() as children,
            azurite.running(blob_port=ports.blob, queue_port=ports.queue, table_port=ports.table) as storage,
        ):
            yield Stack(options, children, storage, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
