"""The lifecycle of the host: listen, load the app, run until a signal, stop."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
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

SHUTDOWN_GRACE = timedelta(seconds=5)  # for running invocations when the host is stopped
_STOP_TIMEOUT = SHUTDOWN_GRACE + timedelta(seconds=1)  # then the server and the listeners are cancelled
_CONNECTION_BACKLOG = 1024
_SUPPORTED_BINDINGS = {"httpTrigger", "timerTrigger", "queueTrigger", "http", "queue"}


@dataclass(frozen=True, slots=True)
class Options:
    """The app's folder and the address to listen on; port 0 takes a free one. `print_keys` prints random keys."""

    root: Path
    address: str = "127.0.0.1"
    port: int = 7071
    print_keys: bool = True


class Listener(Protocol):
    """A trigger other than HTTP, which starts its function by itself."""

    @property
    def name(self) -> str:
        """The function's name."""
        ...

    async def run(self, stopping: asyncio.Event) -> None:
        """Start the function whenever it is due, until `stopping` is set."""
        ...

    async def run_by_hand(self, text: str) -> None:
        """Start the function now, with this input."""
        ...


async def run(options: Options) -> None:
    """Run the app until SIGINT or SIGTERM. A second signal ends the process at once.

    Raises
    ------
    HostError
        The app cannot start because of its code, its settings, the port or the storage.
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
    # An app's clients live as long as its process, and Azure's worker does not close them either. Without this, asyncio
    # would log each unclosed client.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers; `ready` is set when it serves."""

    def __init__(self, front: FrontEnd) -> None:
        config = uvicorn.Config(
            front,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(SHUTDOWN_GRACE.total_seconds()),
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
    done, late = await asyncio.wait(tasks, timeout=_STOP_TIMEOUT.total_seconds())
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()  # raises the error of a task that failed


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
    """Listen before the app is loaded, so that a port in use is reported at once and early requests wait."""
    family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
    try:
        listening = socket.create_server((options.address, options.port), family=family, backlog=_CONNECTION_BACKLOG)
        # Connections inherit the option. asyncio sets it only on sockets that were created with IPPROTO_TCP, unlike
        # these. Without it the body of a response waits 40 ms for the client's delayed ACK of its head.
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
            queues.client(
                binding, function=function.name
            )  # a wrong connection is reported now, not at the first message
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
    """Return the enabled functions with their settings resolved.

    Raises
    ------
    HostError
        A function has a binding that this host does not support.
    """
    found = [f.resolved(os.environ) for f in functions if not settings.disabled(f.name, os.environ)]
    for function in found:
        for binding in function.bindings:
            if binding.type not in _SUPPORTED_BINDINGS:
                raise HostError(f"function {function.name}: the local host does not support the binding {binding.type}")
        if function.retries:
            logger.warning("function.retry_policy.ignored", extra={"function": function.name})
        logger.info("function.loaded", extra={"function": function.name, **_trigger_fields(function.trigger)})
    return found


def _trigger_fields(trigger: Binding) -> dict[str, str]:
    match trigger.type:
        case "httpTrigger":
            return {"methods": ",".join(trigger.methods) or "all", "route": trigger.route or "", "auth": trigger.level}
        case "timerTrigger":
            return {"schedule": trigger.schedule or ""}
        case _:
            return {"queue": trigger.queue_name or ""}


def _keys(options: Options) -> Keys:
    keys = Keys.of(os.environ)
    if options.print_keys:
        for setting, key in ((FUNCTION_KEY, keys.function), (MASTER_KEY, keys.master)):
            if not os.environ.get(setting):
                print(f"{setting}={key}", flush=True)
    return keys
