"""The whole of Call Keeper on one machine: Azurite, the simulator and the host, wired by settings alone."""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local.stack import azurite
from local.stack.folders import temporary_folder
from local.stack.processes import Child, Children

ROOT = Path(__file__).resolve().parent.parent.parent
APP_ID = "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60"  # of a bot that exists nowhere
LEASE_MINUTES = 45  # Graph: call-keepAlive page
LOGIN_TIMEOUT = 60.0  # seconds; the first start on a slow machine compiles everything
CORE_TOOLS_PORT = 7071
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
    keep_storage: bool = False  # so that Azurite can be stopped and started
    app: Path = ROOT  # the folder of host.json
    libraries: Path | None = None  # what the app imports first; None: what this environment has
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A program that runs function apps: its command, what it says when it serves, how many seconds that may take."""

    command: tuple[str, ...]
    ready: str
    patience: float


# `func` takes the folder that it is started in, our host the one that it is given.
_LOCAL = _Kind((sys.executable, "-m", "local.host"), r"host ready: http://127\.0\.0\.1:(\d+)", LOGIN_TIMEOUT)
_CORE_TOOLS = _Kind(("func", "start"), r"(?i)host lock lease acquired|Functions:", CORE_TOOLS_TIMEOUT)


class Host:
    """A Functions host, which may be ended and started again on the port it had; 0 takes any free one at first."""

    def __init__(self, kind: _Kind, port: int, start: Callable[[list[str], dict[str, str]], Child]) -> None:
        self._kind = kind
        self._port = port
        self._start = start
        self.child = self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self) -> str:
        """Where the routes of the app begin."""
        return f"{self.address}/api"

    def start(self, **settings: str) -> Child:
        """Start it, or start it again, with these settings beside the stack's, until it serves."""
        self.child = self._start([*self._kind.command, "--port", str(self._port)], settings)
        found = self.child.wait_for(self._kind.ready, self._kind.patience)
        self._port = int(found[1]) if found.groups() else self._port
        return self.child


class Stack:
    """What runs: Azurite, the simulator, the function key, and the hosts; the first one is there from the start."""

    def __init__(self, options: Options, children: Children, azurite_server: azurite.Server, folder: Path) -> None:
        self._options = options
        self._children = children
        self.azurite = azurite_server
        self.folder = folder
        self.function_key = secrets.token_urlsafe(24)
        self._secret = secrets.token_urlsafe(24)
        self._simulator_child, self.simulator, self._login = self._start_simulator()
        self.hosts: list[Host] = []
        self.add_host(options.ports.host or (CORE_TOOLS_PORT if options.core_tools else 0))

    @property
    def storage(self) -> azurite.Azurite:
        """Where Azurite listens."""
        return self.azurite.storage

    @property
    def host(self) -> Child:
        """The first host."""
        return self.hosts[0].child

    @property
    def address(self) -> str:
        """Where the first host listens."""
        return self.hosts[0].address

    @property
    def api(self) -> str:
        """Where the routes of the app begin, at the first host."""
        return self.hosts[0].api

    def start_host(self) -> Child:
        """Start the first host again."""
        return self.hosts[0].start()

    def add_host(self, port: int = 0, settings: Mapping[str, str] | None = None) -> Host:
        """Start one more host on the same storage, with these settings beside the stack's; its log is its own."""
        name = "host" if not self.hosts else f"host-{len(self.hosts) + 1}"
        log = None if self._options.echo else self.folder / f"{name}.log"

        def start(command: list[str], others: dict[str, str]) -> Child:
            env = {**self.settings(), **(settings or {}), **others}
            if self._options.libraries:
                env["PYTHONPATH"] = str(self._options.libraries)
            return self._children.start(name, command, env=env, cwd=folder, log=log, echo=self._options.echo)

        app = self._options.app
        kind, folder = (_CORE_TOOLS, app) if self._options.core_tools else (_LOCAL, ROOT)
        if not self._options.core_tools:
            kind = replace(kind, command=(*kind.command, "--root", str(app)))
        self.hosts.append(Host(kind, port, start))
        return self.hosts[-1]

    def check(self) -> None:
        """Raise `AzuriteError` if storage has ended, `ProcessError` if the simulator or a host has."""
        self.azurite.check()
        self._simulator_child.check()
        for host in self.hosts:
            host.child.check()

    def settings(self) -> dict[str, str]:
        """The app settings, as a deployment has them."""
        return {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": self.storage.connection_string,
            "CALLS_STORAGE": self.storage.connection_string,
            "KEEP_ALIVE_SCHEDULE": self._options.schedule,
            "LEASE_DURATION": f"PT{LEASE_MINUTES * 60 / self._options.speed:g}S",
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
    with temporary_folder() as folder, Children() as children:
        kept = folder / "azurite" if options.keep_storage else None
        ports = azurite.Azurite(options.ports.blob, options.ports.queue, options.ports.table)
        with azurite.serving(ports, folder=kept) as server:
            try:
                yield Stack(options, children, server, folder)
            finally:
                children.stop_all()  # the host before its storage: what is under way then ends well
