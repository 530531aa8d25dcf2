"""The one HTTP client of the app, and one careful way to ask with it.

httpx over aiohttp's connections: httpx's own pool slows down as the requests in flight grow.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING

import httpx

from shared.settings import Settings

if TYPE_CHECKING:
    import ssl

    import aiohttp

MAX_BODY = 256 * 1024  # bytes: Graph's answers about a call have a few thousand
_BESIDE_THE_SWEEP = 32  # connections left for hang-ups, recordings and signing keys while a sweep runs
_IDLE = 60.0  # seconds that a connection is kept for the next request


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is empty where nobody wanted it."""

    status: int
    headers: httpx.Headers
    body: bytes = b""

    @property
    def succeeded(self) -> bool:
        """Whether it is any 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 that is what a 2xx is

    def json(self) -> object:
        """The body's JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class NoAnswer(Exception):
    """There was no whole answer. `head` is what came of it, `args[0]` the reason in words without secrets."""

    def __init__(self, reason: str, head: Answer | None = None) -> None:
        super().__init__(reason)
        self.head = head


def make_http_client(settings: Settings) -> httpx.AsyncClient:
    """The client that all of the app shares. It opens nothing before its first request, in that request's loop.

    Certificates are those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's. Proxies are not used.
    """
    from httpx_aiohttp import AiohttpTransport  # noqa: PLC0415 aiohttp is slow to import

    for name in ("httpx", "httpcore", "azure", "aiohttp", "msal"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log a line a request, some with headers
    context = httpx.create_ssl_context()
    connections = settings.keep_alive_concurrency + _BESIDE_THE_SWEEP
    transport = AiohttpTransport(verify=context, client=lambda: _session(context, connections))
    client = httpx.AsyncClient(
        transport=transport,
        timeout=None,  # noqa: S113 `ask` limits the whole of a request, where httpx knows of single steps only
        follow_redirects=False,
        trust_env=False,
        headers={"accept-encoding": "identity", "user-agent": "call-keeper"},
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


async def ask(
    client: httpx.AsyncClient,
    request: httpx.Request,
    timeout: timedelta,  # noqa: ASYNC109 it covers connecting, the head and the body together
    *,
    wants_body: Callable[[Answer], bool] = lambda _head: True,
) -> Answer:
    """Send the request and read the answer, all within `timeout`.

    The body is read, up to 256 KiB, if `wants_body` says so for the head.

    Raises
    ------
    NoAnswer
        Time-out, no or a broken connection, or something that is not HTTP or too large.
    """
    import aiohttp  # noqa: PLC0415 loaded with the client

    head: Answer | None = None
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            response = await client.send(request, stream=True)
            try:
                head = Answer(response.status_code, response.headers)
                return Answer(head.status, head.headers, await _body(response)) if wants_body(head) else head
            finally:
                await response.aclose()
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout.total_seconds():g} s", head) from None
    except _TooLarge:
        raise NoAnswer(f"an answer of more than {MAX_BODY} bytes", head) from None
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
        raise NoAnswer(f"no usable answer ({type(error.__cause__ or error).__name__})", head) from error


class _TooLarge(Exception):
    """The body is larger than MAX_BODY."""


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            raise _TooLarge
    return bytes(body)


def _session(context: "ssl.SSLContext", connections: int) -> "aiohttp.ClientSession":
    import aiohttp  # noqa: PLC0415 loaded with the client

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context, keepalive_timeout=_IDLE),
        skip_auto_headers=("content-type",),  # aiohttp would name one for an empty body
        cookie_jar=aiohttp.DummyCookieJar(),  # one tenant's answers must not mark another's requests
    )
