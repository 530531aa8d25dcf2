"""HTTP requests byte by byte, sent over a bare socket."""

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

TARGET = "/api/notifications"
RESPONSE_TIMEOUT = 20  # seconds


@dataclass(frozen=True)
class Request:
    """An HTTP request. If it is not well formed, `raw_head` is its head, with `HOST` for the host's name."""

    headers: tuple[tuple[str, str | bytes], ...] = ()
    body: bytes = b""
    method: str = "POST"
    target: str = TARGET
    raw_head: bytes | None = None

    def wire(self, host: str) -> bytes:
        """Return the bytes to send. Host, length and type are added unless the request has them."""
        if self.raw_head is not None:
            return self.raw_head.replace(b"HOST", host.encode()) + self.body
        named = {name.lower() for name, _ in self.headers}
        own = [("Host", host), ("Connection", "close"), ("Content-Type", "application/json")]
        if "transfer-encoding" not in named:
            own.append(("Content-Length", str(len(self.body))))
        lines = [(name, value) for name, value in own if name.lower() not in named] + list(self.headers)
        head = b"".join(_bytes(name) + b": " + _bytes(value) + b"\r\n" for name, value in lines)
        return f"{self.method} {self.target} HTTP/1.1\r\n".encode() + head + b"\r\n" + self.body


@dataclass(frozen=True)
class Response:
    """A response. The status is None if the connection was closed without one."""

    status: int | None
    body: bytes


async def send(address: str, request: Request) -> Response:
    """Send a request over a socket of its own, and read until the server closes the connection."""
    host = urlsplit(address).netloc
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT):
            writer.write(request.wire(host))
            received = await _read(reader)
    finally:
        writer.close()
    head, _, body = received.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    return Response(int(head[:3]) if head[:3].isdigit() else None, body)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionResetError:  # the server closed the connection before it read the whole request
        return b""


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
