"""The local stack: Azurite, the simulator and one or more hosts on one machine, connected by settings only."""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from local.stack import azurite
from local.stack.folders import temporary_folder
from local.stack.processes import Child, Children

ROOT = Path(__file__).resolve().parent.parent.parent
APP_ID = "3f1d9a52-7c84-4e0b-a6d9-1b5c2e8f7a60"  # a made-up bot
LEASE_MINUTES = 45  # Graph: call-keepAlive page
HOST_START_TIMEOUT = timedelta(seconds=60)  # the first start on a slow machine compiles all modules
CORE_TOOLS_PORT = 7071
CORE_TOOLS_START_TIMEOUT = timedelta(minutes=4)  # the first start downloads the extension bundle


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports on 127.0.0.1; 0 takes any free port."""

    host: int = 0
    simulator: int = 0
    blob: int = 0
    queue: int = 0
    table: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the stack.

    Attributes
    ----------
    speed
        The speed of Graph's time. With 60, the 45 minutes of a lease take 45 seconds.
    schedule
        The NCRONTAB expression of the timer.
    ports
        Where the parts listen.
    core_tools
        True to run Azure Functions Core Tools instead of the local host.
    echo
        True to print the hosts' output instead of writing it to a file.
    keep_storage
        True to keep Azurite's data in a folder, so that it can be stopped and started.
    app
        The folder of host.json.
    libraries
        A folder that the app imports from first; None for the packages of this environment only.
    settings
        Further app settings.
    """

    speed: float = 60
    schedule: str = "*/15 * * * * *"
    ports: Ports = field(default_factory=Ports)
    core_tools: bool = False
    echo: bool = False
    keep_storage: bool = False
    app: Path = ROOT
    libraries: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _HostProgram:
    """A program that runs function apps: its command, the pattern of its line when ready, and the time limit for it."""

    command: tuple[str, ...]
    ready: str
    start_timeout: timedelta


# `func` runs the app in its working directory; the local host runs the app of its option --root.
_LOCAL_HOST = _HostProgram(
    (sys.executable, "-m", "local.host"), r"host ready: http://127\.0\.0\.1:(\d+)", HOST_START_TIMEOUT
)
_CORE_TOOLS = _HostProgram(("func", "start"), r"(?i)host lock lease acquired|Functions:", CORE_TOOLS_START_TIMEOUT)


class Host:
    """A Functions host, which can be ended and started again on the same port. Port 0 takes any free one first."""

    def __init__(self, program: _HostProgram, port: int, start: Callable[[list[str], dict[str, str]], Child]) -> None:
        self._program = program
        self._port = port
        self._start = start
        self.child = self.start()

    @property
    def address(self) -> str:
        """The URL of the host."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self) -> str:
        """The URL of the app's routes."""
        return f"{self.address}/api"

    def start(self, **settings: str) -> Child:
        """Start the host, again or for the first time, and wait until it is ready. `settings` add to the stack's."""
        self.child = self._start([*self._program.command, "--port", str(self._port)], settings)
        found = self.child.wait_for(self._program.ready, self._program.start_timeout.total_seconds())
        self._port = int(found[1]) if found.groups() else self._port
        return self.child


class Stack:
    """The running parts: Azurite, the simulator and the hosts. The first host starts with the stack."""

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
        """The ports of Azurite."""
        return self.azurite.storage

    @property
    def host(self) -> Child:
        """The process of the first host."""
        return self.hosts[0].child

    @property
    def address(self) -> str:
        """The URL of the first host."""
        return self.hosts[0].address

    @property
    def api(self) -> str:
        """The URL of the app's routes at the first host."""
        return self.hosts[0].api

    def start_host(self) -> Child:
        """Start the first host again."""
        return self.hosts[0].start()

    def add_host(self, port: int = 0, settings: Mapping[str, str] | None = None) -> Host:
        """Start one more host on the same storage. `settings` add to the stack's. It has its own log."""
        name = "host" if not self.hosts else f"host-{len(self.hosts) + 1}"
        log = None if self._options.echo else self.folder / f"{name}.log"

        def start(command: list[str], more: dict[str, str]) -> Child:
            env = {**self.settings(), **(settings or {}), **more}
            if self._options.libraries:
                env["PYTHONPATH"] = str(self._options.libraries)
            return self._children.start(name, command, env=env, cwd=folder, log=log, echo=self._options.echo)

        app = self._options.app
        if self._options.core_tools:
            program, folder = _CORE_TOOLS, app
        else:
            program, folder = replace(_LOCAL_HOST, command=(*_LOCAL_HOST.command, "--root", str(app))), ROOT
        self.hosts.append(Host(program, port, start))
        return self.hosts[-1]

    def start(self, name: str, command: Sequence[str], settings: Mapping[str, str]) -> Child:
        """Start a further process, which ends with the stack. `settings` are its environment variables."""
        env = {"PYTHONUNBUFFERED": "1", **settings}
        return self._children.start(name, command, env=env, cwd=ROOT, log=self.folder / f"{name}.log")

    def bot_settings(self, app_id: str = APP_ID) -> dict[str, str]:
        """Return the environment variables of an example bot whose Graph and Entra are the simulator."""
        return {
            "BOT_APP_ID": app_id,
            "BOT_CALLBACK": f"{self.api}/notifications",
            "GRAPH_URL": f"{self.simulator}/v1.0",
            "LOGIN_URL": self._login,
            "LEGACY_METADATA": f"{self.simulator}/v1/.well-known/OpenIdConfiguration",
            "SSL_CERT_FILE": str(self._ca_file),
        }

    def check(self) -> None:
        """Raise `AzuriteError` if Azurite has ended, `ProcessError` if the simulator or a host has."""
        self.azurite.check()
        self._simulator_child.check()
        for host in self.hosts:
            host.child.check()

    def settings(self) -> dict[str, str]:
        """Return the app settings, under the names of a deployment."""
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
    """Run the stack during the block, and end all its processes after it.

    Raises
    ------
    AzuriteError, ProcessError
        A part does not start. The message says what to do.
    """
    with temporary_folder() as folder, Children() as children:
        kept = folder / "azurite" if options.keep_storage else None
        ports = azurite.Azurite(options.ports.blob, options.ports.queue, options.ports.table)
        with azurite.serving(ports, folder=kept) as server:
            try:
                yield Stack(options, children, server, folder)
            finally:
                children.stop_all()  # the host before its storage, so that running invocations can finish
