"""A proxy between the app and Graph, which records the tokens that the app sends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_CONNECTION_HEADERS = {"host", "connection", "transfer-encoding", "content-length", "content-encoding"}


class GraphProxy:
    """The address of the proxy, and the bearer tokens that it saw.

    `graph` is the address to which it forwards. A test sets it as soon as the simulator runs.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.graph = ""
        self.tokens: set[str] = set()


@contextmanager
def running_proxy() -> Iterator[GraphProxy]:
    """Run the proxy: forward each request, and record its bearer token."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    proxy = GraphProxy(f"http://127.0.0.1:{server.server_address[1]}")

    class Forward(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            proxy.tokens.add(self.headers.get("Authorization", "").removeprefix("Bearer "))
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            kept = {name: value for name, value in self.headers.items() if name.lower() not in _CONNECTION_HEADERS}
            response = httpx.request(self.command, proxy.graph + self.path, headers=kept, content=body, timeout=30)
            self.send_response(response.status_code)
            for name, value in response.headers.items():
                if name.lower() not in _CONNECTION_HEADERS:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_DELETE = do_PATCH = _forward  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server.RequestHandlerClass = Forward
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
