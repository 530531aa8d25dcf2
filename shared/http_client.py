"""The HTTP client of the app: httpx over aiohttp's connections.

A keepAlive bypasses httpx: it has no body in either direction and is sent very often, and aiohttp alone costs less
than half (docs/decisions/0018).
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp
    import httpx

MAX_RESPONSE_BODY = 256 * 1024  # bytes; Graph's answers about a call have a few thousand
_CONNECTIONS_BESIDE_SWEEPS = 32  # connections left for hang-ups, recordings and signing keys while a sweep runs
_IDLE_TIMEOUT = timedelta(seconds=60)  # an unused connection is kept so long for the next request
_CHUNK_BYTES = 16 * 1024  # bytes
_HEADERS = {"accept-encoding": "identity", "user-agent": "call-keeper"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `content` is sent as JSON. With `via_aiohttp` it bypasses httpx, and must have no content."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, object] | None = None
    via_aiohttp: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `body` is empty if it was not read. Headers are found in any case of their names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def succeeded(self) -> bool:
        """True for any 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 the 2xx

    def json(self) -> object:
        """Return the parsed body, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


type _RawResponse = httpx.Response | aiohttp.ClientResponse


class TransportError(Exception):
    """There was no complete response. `head` is what arrived; the text is the reason, without secrets."""

    def __init__(self, reason: str, head: Response | None = None) -> None:
        super().__init__(reason)
        self.head = head


class HttpClient:
    """Sends the app's own requests. It opens nothing before the first request, in whose event loop it then stays.

    It trusts the certificates of SSL_CERT_FILE or SSL_CERT_DIR, else those of certifi. It uses no proxy, follows no
    redirect and keeps no cookie.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections

    async def send(
        self,
        request: Request,
        timeout: timedelta,  # noqa: ASYNC109 it covers connecting, the head and the body together
        *,
        wants_body: Callable[[Response], bool] = lambda _head: True,
    ) -> Response:
        """Send the request and read the response, all within `timeout`.

        The body is read, up to 256 KiB, if `wants_body` is true for the head.

        Raises
        ------
        TransportError
            Timeout, no connection or a broken one, an answer that is not HTTP, or a body that is too large.
        """
        head: Response | None = None
        opening = self._open(request)  # the first time this reads the certificates, which must not count
        try:
            async with asyncio.timeout(timeout.total_seconds()), opening as response:
                head = Response(_status(response), response.headers)
                return Response(head.status, head.headers, await whole_body(response)) if wants_body(head) else head
        except TimeoutError:
            raise TransportError(f"no answer within {timeout.total_seconds():g} s", head) from None
        except BodyTooLarge:
            raise TransportError(f"an answer of more than {MAX_RESPONSE_BODY} bytes", head) from None
        except _transport_errors() as error:
            raise TransportError(f"no usable answer ({_cause_name(error)})", head) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    @cached_property
    def _session(self) -> "aiohttp.ClientSession":
        return open_session(self._connections, self._certificates)

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        return load_certificates()

    @cached_property
    def _client(self) -> "httpx.AsyncClient":
        import httpx  # noqa: PLC0415 slow to import
        from httpx_aiohttp import AiohttpTransport  # noqa: PLC0415 slow to import

        client = httpx.AsyncClient(
            transport=AiohttpTransport(client=self._session, verify=self._certificates),
            timeout=None,  # noqa: S113 `send` limits the whole request; httpx could limit only single steps
            follow_redirects=False,
            trust_env=False,
            headers=_HEADERS,
        )
        client.cookies.jar.set_policy(
            DefaultCookiePolicy(allowed_domains=())
        )  # no cookie of one tenant goes to another
        return client

    def _open(self, request: Request) -> "AbstractAsyncContextManager[_RawResponse]":
        headers = dict(request.headers)
        if request.via_aiohttp:
            from yarl import URL  # noqa: PLC0415 comes with aiohttp, which is slow to import

            url = URL(request.url, encoded=True)  # unchanged: the check for characters to quote is slow
            return self._session.request(request.method, url, headers=headers, allow_redirects=False)
        return self._client.stream(request.method, request.url, headers=headers, json=request.content)


def make_http_client(sweep_concurrency: int) -> HttpClient:
    """Return a client with a connection for each concurrent request of a sweep, and 32 for all other requests."""
    return HttpClient(sweep_concurrency + _CONNECTIONS_BESIDE_SWEEPS)


def open_session(
    connections: int,
    certificates: ssl.SSLContext,
    *,
    per_host: int = 0,
    idle_timeout: timedelta = _IDLE_TIMEOUT,
    resolver: "aiohttp.abc.AbstractResolver | None" = None,
) -> "aiohttp.ClientSession":
    """Return a session of aiohttp in the running event loop. It uses no proxy and keeps no cookie.

    Parameters
    ----------
    connections
        How many connections may be open at a time.
    certificates
        The authorities that it trusts.
    per_host
        How many of the connections may go to one host and port. 0: all.
    idle_timeout
        How long an unused connection is kept for the next request.
    resolver
        Finds the addresses of names. None: the system does.
    """
    import aiohttp  # noqa: PLC0415 slow to import

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections,
            limit_per_host=per_host,
            ssl=certificates,
            keepalive_timeout=idle_timeout.total_seconds(),
            resolver=resolver,
        ),
        headers=_HEADERS,
        skip_auto_headers=("content-type",),  # aiohttp would send one for an empty body
        timeout=aiohttp.ClientTimeout(total=None),  # callers limit the whole request and the wait for a connection
        cookie_jar=aiohttp.DummyCookieJar(),  # no cookie of one tenant goes to another
        auto_decompress=False,  # a small answer may be very large after decompression
        trust_env=False,  # proxies
    )


def load_certificates() -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates of SSL_CERT_FILE or SSL_CERT_DIR, else those of certifi."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file, capath=folder)
    import certifi  # noqa: PLC0415 not needed if the environment names certificates

    return ssl.create_default_context(cafile=certifi.where())


class BodyTooLarge(Exception):
    """The body is larger than MAX_RESPONSE_BODY."""


async def whole_body(response: "_RawResponse") -> bytes:
    """Return the body of a response.

    Raises
    ------
    BodyTooLarge
        It has more than MAX_RESPONSE_BODY bytes.
    """
    body = bytearray()
    async for chunk in _chunks(response):
        body += chunk
        if len(body) > MAX_RESPONSE_BODY:
            raise BodyTooLarge
    return bytes(body)


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a request. Imported only on an error, so that a sweep does not wait for httpx."""
    import aiohttp  # noqa: PLC0415 slow to import
    import httpx  # noqa: PLC0415 slow to import

    return httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError


def _cause_name(error: Exception) -> str:
    """Return the class name of the cause: httpx wraps the errors of aiohttp in its own."""
    import httpx  # noqa: PLC0415 slow to import

    return type(error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error).__name__


def _status(response: "_RawResponse") -> int:
    import aiohttp  # noqa: PLC0415 slow to import

    return response.status if isinstance(response, aiohttp.ClientResponse) else response.status_code


def _chunks(response: "_RawResponse") -> AsyncIterator[bytes]:
    import aiohttp  # noqa: PLC0415 slow to import

    if isinstance(response, aiohttp.ClientResponse):
        return response.content.iter_chunked(_CHUNK_BYTES)
    return response.aiter_raw()
