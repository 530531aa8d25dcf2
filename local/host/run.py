"""The life of the host: load the app, listen, run until a signal, stop."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import uvicorn

from local.host import settings
from local.host.admin import Admin
from local.host.errors import HostError
from local.host.functions import Binding, Function
from local.host.http import FrontEnd
from local.host.keys import FUNCTION_KEY, MASTER_KEY, Keys
from local.host.queues import QueueListener
from local.host.storage import Queues
from local.host.timers import Timer
from local.host.worker import Worker, index

logger = logging.getLogger("local.host")

GRACE = 5  # seconds that running invocations get to finish when the host is stopped
_KNOWN = {"httpTrigger", "timerTrigger", "queueTrigger", "http", "queue"}


@dataclass(frozen=True, slots=True)
class Options:
    """Where the app is and where to listen; port 0 takes a free one. `tell_keys` prints those that were made up."""

    root: Path
    address: str = "127.0.0.1"
    port: int = 7071
    tell_keys: bool = True


class Listener(Protocol):
    """What starts a function without an HTTP request."""

    @property
    def name(self) -> str:
        """The function's name."""
        ...

    async def run(self, stopping: asyncio.Event) -> None:
        """Start the function whenever it is due, until the host stops."""
        ...

    async def run_by_hand(self, text: str) -> None:
        """Start it now, with this input."""
        ...


async def run(options: Options) -> None:
    """Run the app until SIGINT or SIGTERM; a second signal ends the process at once.

    Raises
    ------
    HostError
        The app, its settings, the port or the storage does not let it start.
    """
    stopping = _stop_on_signals()
    settings.prepare_environment(options.root)
    host_json = settings.host_options(options.root)
    with _listening_socket(options) as listening:
        indexed = {function.name: function for function in await index(options.root)}
        functions = _enabled(indexed.values())
        async with Queues(os.environ, host_json.extensions.queues) as queues:
            worker = Worker(host_json.function_timeout, queues.send)
            listeners = [found for f in functions if (found := await _listener(f, worker, queues))]
            keys = _keys(options)
            admin = Admin(indexed, keys, {listener.name: listener.run_by_hand for listener in listeners})
            front = FrontEnd(functions, worker, keys, host_json.extensions.http.route_prefix, admin)
            await _serve(front, listening, listeners, stopping)
    # An app's clients live as long as its process, and Azure's worker closes none: no lament over each at the end.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class _Server(uvicorn.Server):
    """Uvicorn, which leaves signals to the host and says when it is ready."""

    def __init__(self, front: FrontEnd) -> None:
        config = uvicorn.Config(
            front,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


async def _serve(
    front: FrontEnd, listening: socket.socket, listeners: Sequence[Listener], stopping: asyncio.Event
) -> None:
    server = _Server(front)
    tasks = {asyncio.create_task(server.serve([listening]))}
    await server.ready.wait()
    tasks |= {asyncio.create_task(listener.run(stopping)) for listener in listeners}
    address, port = listening.getsockname()[:2]
    print(f"host ready: http://{f'[{address}]' if ':' in address else address}:{port}", flush=True)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    stopping.set()
    server.should_exit = True
    done, late = await asyncio.wait(tasks, timeout=GRACE + 1)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()  # one that broke down says why


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        logger.info("host.stopping")
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return stopping


def _listening_socket(options: Options) -> socket.socket:
    """Listen before the app is loaded: a port in use shows at once, and early requests wait instead of failing."""
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    try:
        listening = socket.create_server((options.address, options.port), family=family, backlog=1024)
        # Connections inherit it. asyncio sets it only on sockets made with IPPROTO_TCP, and these are not. Without it
        # the body of an answer waits 40 ms for the client's delayed acknowledgement of its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostError(
                f"port {options.port} is in use: stop what listens there, or choose another with --port (0: any)"
            ) from error
        raise HostError(f"cannot listen on {options.address}, port {options.port}: {error.strerror}") from error
    return listening


async def _listener(function: Function, worker: Worker, queues: Queues) -> Listener | None:
    for binding in function.bindings:
        if binding.type == "queue":
            queues.client(binding, function=function.name)  # a wrong connection shows now, not at the first message
    match function.trigger.type:
        case "timerTrigger":
            return Timer(function, worker)
        case "queueTrigger":
            listener = QueueListener(function, worker, queues)
            await listener.prepare()
            return listener
        case _:
            return None


def _enabled(functions: Iterable[Function]) -> list[Function]:
    """Leave out the disabled, resolve the settings of the others, refuse what this host cannot run."""
    found = [f.resolved(os.environ) for f in functions if not settings.disabled(f.name, os.environ)]
    for function in found:
        for binding in function.bindings:
            if binding.type not in _KNOWN:
                raise HostError(f"function {function.name}: the local host has no binding {binding.type}")
        if function.retries:
            logger.warning("function.retry_policy.ignored", extra={"function": function.name})
        logger.info("function.loaded", extra={"function": function.name, **_where(function.trigger)})
    return found


def _where(trigger: Binding) -> dict[str, str]:
    match trigger.type:
        case "httpTrigger":
            return {"methods": ",".join(trigger.methods) or "all", "route": trigger.route or "", "auth": trigger.level}
        case "timerTrigger":
            return {"schedule": trigger.schedule or ""}
        case _:
            return {"queue": trigger.queue_name or ""}


def _keys(options: Options) -> Keys:
    keys = Keys.of(os.environ)
    if options.tell_keys:
        for setting, key in ((FUNCTION_KEY, keys.function), (MASTER_KEY, keys.master)):
            if not os.environ.get(setting):
                print(f"{setting}={key}", flush=True)
    return keys
