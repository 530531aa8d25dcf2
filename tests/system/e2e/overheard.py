"""Graph with a listener in between, who hears the tokens that it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_OF_THE_CONNECTION = {"host", "connection", "transfer-encoding", "content-length", "content-encoding"}


class Overheard:
    """Where to ask Graph, and what was heard; `graph` is where it truly is, once that is known."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.graph = ""
        self.tokens: set[str] = set()


@contextmanager
def listening_in() -> Iterator[Overheard]:
    """Hand on whatever comes, and keep its bearer token."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    found = Overheard(f"http://127.0.0.1:{server.server_address[1]}")

    class HandsOn(BaseHTTPRequestHandler):
        def _hand_on(self) -> None:
            found.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
            answer = httpx.request(self.command, found.graph + self.path, headers=kept, content=body, timeout=30)
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in _OF_THE_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = do_PATCH = _hand_on  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Nothing: the test speaks."""

    server.RequestHandlerClass = HandsOn
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
