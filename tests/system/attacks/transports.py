"""Requests that are odd as HTTP: addresses, methods, and what proxies read in another way than servers do.

A refusal by the server itself has no problem body, and may be a closed connection. In Azure, this server is the
platform's front end. Here it is the server of the local host.
"""

from collections.abc import Iterator, Mapping

from tests.system.attacks.cases import Case
from tests.system.attacks.raw_http import TARGET, Request
from tests.system.attacks.request_builders import Build, RequestBuilder, at_target

SMUGGLING = "RFC 9112 section 11.2; CWE-444"
ADDRESSES = "CWE-22, CWE-647; OWASP API8"
METHODS = "OWASP API5: a function that nobody meant to open"
# The server's own answer, the app's answer to a request without a token that the server let in, or none at all.
BROKEN = (400, 401, 404, None)

TARGETS = (
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
)
OTHER_METHODS = ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NOTIFY", "post")
CODINGS = ("xchunked", "chunked, identity", "\x0bchunked", "chunked\x00", "gzip, chunked")
HEADER_LINES = {  # of a request without a token, with a genuine request behind it
    "a length and chunks": ("Content-Length: 5", "Transfer-Encoding: chunked"),
    **{f"Transfer-Encoding: {it!r}": (f"Transfer-Encoding: {it}", "Content-Length: 5") for it in CODINGS},
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
}
CHUNKS = {
    "a chunk larger than any": b"F" * 40 + b"\r\nx\r\n0\r\n\r\n",
    "a chunk below zero": b"-1\r\nx\r\n0\r\n\r\n",
}
UPGRADE = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "eA=="))
HTTP_9 = b"POST /api/notifications HTTP/9.9\r\nHost: HOST\r\nConnection: close\r\n\r\n"
HTTP_2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n"


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _cases(ADDRESSES, (400, 404), {f"POST {target}": at_target(target) for target in TARGETS})
    methods = {f"{method} {TARGET}": at_target(TARGET, method) for method in OTHER_METHODS}
    yield from _cases(METHODS, (400, 404, 405), methods)
    yield from _cases(SMUGGLING, BROKEN, {what: _smuggled(*lines) for what, lines in HEADER_LINES.items()})
    yield from _cases(SMUGGLING, BROKEN, {what: _in_chunks(body) for what, body in CHUNKS.items()})
    yield from _other_protocols()


def _other_protocols() -> Iterator[Case]:
    wide: Build = lambda builder: builder.unsigned(("X-Wide", "x" * 65_536))  # noqa: E731 (one line of a table)
    yield Case("HTTP", "64 KiB of one header", "CWE-400", (400, 401, 431, None), wide)
    yield Case("HTTP", "HTTP/0.9", SMUGGLING, BROKEN, _raw(b"POST /api/notifications\r\n\r\n"))
    yield Case("HTTP", "HTTP/9.9", SMUGGLING, (*BROKEN, 505), _raw(HTTP_9))
    yield Case("HTTP", "TLS where there is none", "CWE-20", BROKEN, _raw(TLS_CLIENT_HELLO))
    preface = _raw(HTTP_2_PREFACE)
    yield Case("HTTP", "HTTP/2 with prior knowledge", "RFC 9113 section 3.3", (*BROKEN, 505), preface)
    upgrade: Build = lambda builder: builder.unsigned(*UPGRADE)  # noqa: E731 (one line of a table)
    yield Case("HTTP", "an upgrade to a WebSocket", "CWE-1385", (400, 401, 404, 426), upgrade)


def _cases(source: str, statuses: tuple[int | None, ...], builds: Mapping[str, Build]) -> Iterator[Case]:
    for what, build in builds.items():
        yield Case("HTTP", what, source, statuses, build)


def _smuggled(*lines: str) -> Build:
    """Build a request without a token, its head written by hand, with a genuine request behind it."""

    def build(builder: RequestBuilder) -> Request:
        head = "\r\n".join((f"POST {TARGET} HTTP/1.1", "Host: HOST", "Connection: close", *lines, "", ""))
        hidden = builder.post().wire("127.0.0.1")
        return Request(body=b"0\r\n\r\n" + hidden, raw_head=head.encode("latin-1"))

    return build


def _in_chunks(body: bytes) -> Build:
    return lambda builder: builder.post(None, body, ("Transfer-Encoding", "chunked"))


def _raw(head: bytes) -> Build:
    return lambda _: Request(raw_head=head)
