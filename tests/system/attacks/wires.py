"""Requests that are odd as HTTP: addresses, methods, and what proxies read in another way than servers do.

What the server itself refuses has no problem body, and may be a closed connection. In Azure front ends stand before the
app; here it is the local host's server.
"""

from collections.abc import Callable, Iterator

from tests.system.attacks.scene import TARGET, Case, Request, Scene

SMUGGLING = "RFC 9112 section 11.2; CWE-444"
ADDRESSES = "CWE-22, CWE-647; OWASP API8"
METHODS = "OWASP API5: a function that nobody meant to open"
BROKEN = (400, 401, 404, None)  # the server's word, ours for what it lets in without a token, or none


def wire(what: str, source: str, statuses: tuple[int | None, ...], build: Callable[[Scene], Request]) -> Case:
    """A case of this kind."""
    return Case("HTTP", what, source, statuses, build)


def at(target: str, method: str = "POST") -> Callable[[Scene], Request]:
    """A genuine notification, sent there."""
    return lambda scene: scene.post(target=target, method=method)


def smuggled(*lines: str) -> Callable[[Scene], Request]:
    """A request without a token, its head written by hand, with a genuine one behind it."""

    def build(scene: Scene) -> Request:
        head = "\r\n".join((f"POST {TARGET} HTTP/1.1", "Host: HOST", "Connection: close", *lines, "", ""))
        hidden = scene.post().wire("127.0.0.1")
        return Request(body=b"0\r\n\r\n" + hidden, raw_head=head.encode("latin-1"))

    return build


def cases() -> Iterator[Case]:
    """All of them."""
    for target in (
        "/api/notifications/a-tag",
        "/api/notifications/../calls",
        "/api/notifications/%2e%2e/calls",
        "/api/notifications%2f",
        "/api/notifications%00",
        "/api/notifications;v=1",
        "/api/notifications.json",
        "/api/./notificationsx",
        "/api/../notifications",
        "/notifications",
        "/api%2Fnotifications/x",
        "/api/notifications\\..\\health",
        "/runtime/webhooks/notifications",
    ):
        yield wire(f"POST {target}", ADDRESSES, (400, 404), at(target))
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NOTIFY", "post"):
        yield wire(f"{method} {TARGET}", METHODS, (400, 404, 405), at(TARGET, method))
    both = smuggled("Content-Length: 5", "Transfer-Encoding: chunked")
    yield wire("a length and chunks", SMUGGLING, BROKEN, both)
    for coding in ("xchunked", "chunked, identity", "\x0bchunked", "chunked\x00", "gzip, chunked"):
        coded = smuggled(f"Transfer-Encoding: {coding}", "Content-Length: 5")
        yield wire(f"Transfer-Encoding: {coding!r}", SMUGGLING, BROKEN, coded)
    for what, lines in {
        "two lengths": ("Content-Length: 5", "Content-Length: 0"),
        "two lengths in one line": ("Content-Length: 5, 0",),
        "a length below zero": ("Content-Length: -1",),
        "a length with a sign": ("Content-Length: +5",),
        "a length in hexadecimal": ("Content-Length: 0x5",),
        "a space before the colon": ("Content-Length : 5", "Content-Length: 5"),
        "a folded line": ("X-Folded: one", " Transfer-Encoding: chunked", "Content-Length: 5"),
        "a name with a space": ("X Y: z", "Content-Length: 5"),
        "a bare line feed": ("X-One: 1\nTransfer-Encoding: chunked", "Content-Length: 5"),
        "NUL in a value": ("X-One: a\x00b", "Content-Length: 5"),
        "two hosts": ("Host: another.example", "Content-Length: 5"),
        "no length, and a body": (),
    }.items():
        yield wire(what, SMUGGLING, BROKEN, smuggled(*lines))
    chunks = {
        "a chunk larger than any": b"F" * 40 + b"\r\nx\r\n0\r\n\r\n",
        "a chunk below zero": b"-1\r\nx\r\n0\r\n\r\n",
    }
    for what, body in chunks.items():
        yield wire(what, SMUGGLING, BROKEN, _chunked(body))
    yield wire("64 KiB of one header", "CWE-400", (400, 401, 431, None), _wide)
    yield wire("HTTP/0.9", SMUGGLING, BROKEN, _by_hand(b"POST /api/notifications\r\n\r\n"))
    future = _by_hand(b"POST /api/notifications HTTP/9.9\r\nHost: HOST\r\nConnection: close\r\n\r\n")
    yield wire("HTTP/9.9", SMUGGLING, (*BROKEN, 505), future)
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n"
    yield wire("TLS where there is none", "CWE-20", BROKEN, _by_hand(tls))
    yield wire(
        "HTTP/2 with prior knowledge",
        "RFC 9113 section 3.3",
        (*BROKEN, 505),
        _by_hand(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    )
    yield wire("an upgrade to a WebSocket", "CWE-1385", (400, 401, 404, 426), _upgrade)


def _chunked(body: bytes) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(None, body, ("Transfer-Encoding", "chunked"))


def _wide(scene: Scene) -> Request:
    return scene.unsigned(("X-Wide", "x" * 65_536))


def _by_hand(head: bytes) -> Callable[[Scene], Request]:
    return lambda _: Request(raw_head=head)


def _upgrade(scene: Scene) -> Request:
    return scene.unsigned(("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "eA=="))
