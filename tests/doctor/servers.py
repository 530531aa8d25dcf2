"""Small HTTP and HTTPS servers whose replies a test defines."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True)
class Reply:
    """A response of a test server. `body` is sent as JSON; None sends no body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None


type Rule = Callable[[str, str], Reply]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect: tests cause this on purpose."""


def _handler(rule: Rule) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = rule(self.command, self.path)
            body = b"" if reply.body is None else json.dumps(reply.body).encode()
            self.send_response_only(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PUT = _serve  # noqa: N815 names that the base class looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 its name in the base class
            pass

    return Handler


@contextmanager
def serving(rule: Rule, identity: Path | None = None) -> Iterator[str]:
    """Run a server on a free port, and yield its base URL.

    Parameters
    ----------
    rule
        Returns the reply for a method and a path.
    identity
        A PEM file with key and certificate. With it the server speaks https.
    """
    server = _Server(("127.0.0.1", 0), _handler(rule))
    scheme, host = "http", "127.0.0.1"
    if identity:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme, host = "https", "localhost"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"{scheme}://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
