"""A bot on a free port of 127.0.0.1 that records each request and answers as a test tells it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

from tests.support.http_server import Quiet


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it was on the wire. `at` is in seconds, for differences only."""

    at: float
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def names(self) -> set[str]:
        """The names of the headers, in lower case."""
        return {name.lower() for name, _ in self.headers}

    def header(self, name: str) -> str:
        """Return the value of a header that stands there once."""
        (value,) = (value for each, value in self.headers if each.lower() == name)
        return value

    def claims(self) -> dict[str, object]:
        """Return the claims of the bearer token, without a check of its signature."""
        token = self.header("authorization").removeprefix("Bearer ")
        return dict(jwt.decode(token, options={"verify_signature": False}))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, after `delay` seconds. `is_cut`: the connection is closed without one."""

    status: int = 202
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    is_cut: bool = False


class ScriptedBot:
    """The running bot. It answers 202 unless a test sets other replies for a path."""

    def __init__(self) -> None:
        self._received: list[Received] = []
        self._replies: dict[str, list[Reply]] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """Its URL, the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def reply(self, path: str, *replies: Reply | int) -> None:
        """Set the replies for a path, in their order. The last one stays. A number is a status."""
        with self._lock:
            self._replies[path] = [Reply(each) if isinstance(each, int) else each for each in replies]

    def received(self, path: str) -> list[Received]:
        """Return the requests for a path, in the order of their arrival."""
        with self._lock:
            return [each for each in self._received if each.path == path]

    def paths(self) -> set[str]:
        """Return all paths that were requested."""
        with self._lock:
            return {each.path for each in self._received}

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def take(self, received: Received) -> Reply:
        """Record a request, and return the reply to it."""
        with self._lock:
            self._received.append(received)
            replies = self._replies.get(received.path, [Reply()])
            return replies.pop(0) if len(replies) > 1 else replies[0]


@contextmanager
def running_bot() -> Iterator[ScriptedBot]:
    """Run a bot during the block."""
    bot = ScriptedBot()
    bot.start()
    try:
        yield bot
    finally:
        bot.stop()


def _handler(bot: ScriptedBot) -> type[BaseHTTPRequestHandler]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            reply = bot.take(Received(time.monotonic(), self.path, tuple(self.headers.items()), body))
            time.sleep(reply.delay)
            if reply.is_cut:
                return
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # the relay may have given up
                self.end_headers()
                self.wfile.write(reply.body)

    return Handler
