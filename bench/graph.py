"""A Graph that only counts: `python -m bench.graph`. It answers each keepAlive with 200.

`/counts/N` returns what it was asked, and the busiest second. After `/outage` each keepAlive gets 503, until `/reset`.
With a PEM file as second argument it serves https, as Entra does.

It is a minimal server over a plain asyncio protocol, so that it does not slow down the programs that are measured. It
also issues the tokens of a managed identity (App Service's endpoint), and serves the OpenID metadata and keys for
notification tokens.
"""

import asyncio
import json
import ssl
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterable

from bench.workload import call_ids

ISSUER = "https://api.botframework.com"  # of notification tokens
_HEAD_END = b"\r\n\r\n"
_RENEWED = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncache-control: private\r\nstrict-transport-security: max-age=31536000\r\n"
    b"request-id: 8a3c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11\r\nclient-request-id: 8a3c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11\r\n"
    b"date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\r\n"
)
_HUNG_UP = b"HTTP/1.1 204 No Content\r\nrequest-id: 8a3c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11\r\n\r\n"
_OUTAGE_BODY = b'{"error":{"code":"serviceUnavailable","message":"The service is away."}}'
_OUTAGE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n" + (
    b"request-id: 8a3c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11\r\ncontent-length: %d\r\n\r\n%b"
    % (len(_OUTAGE_BODY), _OUTAGE_BODY)
)
_SECOND = 1.0


class Counts:
    """The requests so far: how often each call was renewed, at which times, and the number of tokens."""

    def __init__(self) -> None:
        self.calls: Counter[bytes] = Counter()
        self.times = array("d")
        self.tokens = 0
        self.answer = _RENEWED

    def count(self, call_id: bytes) -> None:
        """Count a keepAlive of a call."""
        self.calls[call_id] += 1
        self.times.append(time.monotonic())

    def summary(self, expected: int) -> dict[str, int]:
        """Compare the requests so far with the first `expected` ids of `call_ids`."""
        wanted = {call_id.encode() for call_id in call_ids(expected)}
        return {
            "asked": self.calls.total(),
            "missing": len(wanted - self.calls.keys()),
            "strange": len(self.calls.keys() - wanted),
            "repeated": self.calls.total() - len(self.calls),
            "peak_per_second": busiest(self.times),
            "tokens": self.tokens,
        }


def busiest(times: Iterable[float], window: float = _SECOND) -> int:
    """Return the largest number of these times, in ascending order, within any window of `window` seconds."""
    within: deque[float] = deque()
    largest = 0
    for at in times:
        within.append(at)
        while within[0] <= at - window:
            within.popleft()
        largest = max(largest, len(within))
    return largest


class _Connection(asyncio.Protocol):
    def __init__(self, counts: Counts, keys: str, token_life: int = 24 * 3600) -> None:
        self._counts = counts
        self._keys = keys
        self._token_life = token_life
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (what create_server gives)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(_HEAD_END)) >= 0:
            head = self._buffer[:end]
            whole = end + len(_HEAD_END) + _content_length(head)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            method, target, _ = head.split(b" ", 2)
            self._answer(method, target)

    def _answer(self, method: bytes, target: bytes) -> None:
        if method == b"POST" and target.endswith(b"/keepAlive"):
            self._counts.count(target.rsplit(b"/", 2)[1])
            self._transport.write(self._counts.answer)
            return
        if method == b"DELETE":
            self._counts.times.append(time.monotonic())
            self._transport.write(_HUNG_UP)
            return
        path = target.partition(b"?")[0].decode()
        self._transport.write(_json_answer(self._content(path)))

    def _content(self, path: str) -> object:
        base = "http://{}:{}".format(*self._transport.get_extra_info("sockname")[:2])
        match path.strip("/").split("/"):
            case ["counts", expected]:
                return self._counts.summary(int(expected))
            case ["reset"]:
                self._counts.__init__()  # type: ignore[misc] # resets every count
                return {}
            case ["outage"]:
                self._counts.__init__()  # type: ignore[misc] # as above
                self._counts.answer = _OUTAGE
                return {}
            case ["openid"]:
                return {"issuer": ISSUER, "jwks_uri": f"{base}/keys"}
            case ["keys"]:
                return json.loads(self._keys)
            case _:
                self._counts.tokens += 1
                expires = int(time.time()) + self._token_life
                return {"access_token": "a" * 1500, "expires_on": str(expires), "token_type": "Bearer", "resource": ""}


def _content_length(head: bytes) -> int:
    found = head.lower().partition(b"\r\ncontent-length:")[2]
    return int(found.partition(b"\r\n")[0]) if found else 0


def _json_answer(content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def serve(keys: str, identity: str | None = None) -> None:
    """Serve on a free port of 127.0.0.1 until the process ends.

    Parameters
    ----------
    keys
        The JSON Web Key Set of notification tokens, as JSON.
    identity
        The path of a PEM file with key and certificate chain. With it the server speaks https.
    """
    counts, context = Counts(), None
    if identity:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(identity)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(counts, keys), "127.0.0.1", 0, ssl=context)
    scheme = "https" if identity else "http"
    print(f"graph ready: {scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*(sys.argv[1:] or ["{}"])))
