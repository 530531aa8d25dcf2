"""The command line of the simulator: `python -m simulator` serves it until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import ssl
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from simulator.app import application
from simulator.clock import MAX_SPEED
from simulator.simulation import Options, Simulation
from simulator.tls import CertificateAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.applications import Starlette

_USAGE_ERROR = 2
_MAX_PORT = 65535
_BACKLOG = 512  # connections that wait to be accepted


class _StartError(Exception):
    """The simulator cannot start. The message says why."""


class _Server(uvicorn.Server):
    """A server without signal handlers of its own, because one signal must stop the http and the https server."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and set `listening` when this is done."""
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: `_stop_on_signals` handles the signals."""
        yield

    def drop_client(self, host: str, port: int) -> None:
        """Drop the connection of a client without a response."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == (host, port):
                connection.transport.abort()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, and return 0. If the start fails, print one line on stderr and return 2."""
    try:
        asyncio.run(_serve(_parse(arguments)))
    except _StartError as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201 a terminal program
        return _USAGE_ERROR
    except KeyboardInterrupt:
        pass
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="simulator", description="Simulate Microsoft Graph's cloud communications.")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8080, help="http port, 0 for any free one (default: %(default)s)")
    parser.add_argument("--tls-port", type=_port, help="serve https too, on this port; 0 for any free one")
    parser.add_argument(
        "--ca-file", type=Path, help="write the https certificate authority's PEM to this file (with --tls-port)"
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        help="simulated seconds per real second; 0 stops the clock (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="a number that makes ids, faults and delivery repeatable")
    parser.add_argument("--quiet", action="store_true", help="log no requests on stderr")
    options = parser.parse_args(arguments)
    if options.ca_file is not None and options.tls_port is None:
        raise _StartError("--ca-file needs --tls-port")
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # argparse exits here
        """Raise the error for one line on stderr, instead of printing the usage."""
        raise _StartError(f"{message} (see --help)")


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to {_MAX_PORT}")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed <= MAX_SPEED:  # refuses nan and inf too
        raise argparse.ArgumentTypeError(f"'{text}' is not a speed from 0 to {MAX_SPEED}")
    return speed


async def _serve(options: argparse.Namespace) -> None:
    plain = _bind(options.address, options.port)
    secure = None if options.tls_port is None else _bind(options.address, options.tls_port)
    base_url = f"http://{options.address}:{plain.getsockname()[1]}"
    secure_url = None if secure is None else f"https://localhost:{secure.getsockname()[1]}"
    simulation = Simulation(Options(base_url, options.speed, options.seed, secure_url))
    app = application(simulation)
    servers, sockets, addresses = [_Server(_config(app, options))], [plain], [base_url]
    if secure is not None:
        servers.append(_Server(_config(app, options, _tls_context(options.ca_file))))
        sockets.append(secure)
        addresses.append(str(secure_url))

    def drop_client(host: str, port: int) -> None:
        for server in servers:
            server.drop_client(host, port)

    simulation.connections.drop_client = drop_client
    _stop_on_signals(servers, simulation)
    running = [asyncio.create_task(server.serve([sock])) for server, sock in zip(servers, sockets, strict=True)]
    for server in servers:
        await server.listening.wait()
    print(f"simulator ready: {', '.join(addresses)}", flush=True)  # noqa: T201 a terminal program
    await asyncio.gather(*running)
    await simulation.close()


def _config(app: Starlette, options: argparse.Namespace, tls: ssl.SSLContext | None = None) -> uvicorn.Config:
    if not options.quiet:
        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=None,
        access_log=not options.quiet,
        http="h11",
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    config.load()
    config.ssl = tls
    return config


def _bind(address: str, port: int) -> socket.socket:
    # Name the protocol TCP. Otherwise asyncio leaves Nagle's algorithm on, which delays every body by 40 ms.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
        sock.listen(_BACKLOG)  # listen now, so that a second simulator on this port fails here and not later
    except OSError as error:
        sock.close()
        advice = "If the port is in use, choose another one, or 0 for any free port."
        raise _StartError(f"cannot listen on {address}:{port}: {error.strerror}. {advice}") from error
    return sock


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    authority = CertificateAuthority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "server.pem"
        authority.write_server_identity(identity)
        context.load_cert_chain(identity)
    if ca_file is not None:
        try:
            authority.write_certificate(ca_file)
        except OSError as error:
            raise _StartError(f"cannot write --ca-file {ca_file}: {error.strerror}") from error
    return context


def _stop_on_signals(servers: list[_Server], simulation: Simulation) -> None:
    loop = asyncio.get_running_loop()

    def stop(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(simulation.clock.stop)  # wakes the requests that wait for a delay
        logging.getLogger("uvicorn.error").disabled = True  # do not log the requests that are cancelled
        for server in servers:
            server.should_exit = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    sys.exit(main())
