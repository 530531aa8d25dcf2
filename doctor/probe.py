"""One careful look at an address: its answer, or the kind of trouble there is in the way."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from enum import Enum, auto

import httpx

from shared.http_client import MAX_RESPONSE_BODY, Response

PATIENCE = 10.0  # seconds for one answer
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Trouble(Enum):
    """Why there is no answer."""

    NAME = auto()  # the host's name leads nowhere
    REFUSED = auto()  # nobody listens
    TLS = auto()
    SLOW = auto()
    OTHER = auto()


class NoWay(Exception):
    """There is no answer; `str()` says why in words, without the address."""

    def __init__(self, trouble: Trouble, why: str) -> None:
        super().__init__(why)
        self.trouble = trouble


def make_client() -> httpx.AsyncClient:
    """A client that trusts whom the app trusts (SSL_CERT_FILE, else certifi), and like it uses no proxy."""
    return httpx.AsyncClient(
        verify=httpx.create_ssl_context(),
        timeout=PATIENCE,
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": "call-keeper-doctor", "accept-encoding": "identity"},
    )


async def look(client: httpx.AsyncClient, url: str, *, method: str = "GET", token: str | None = None) -> Response:
    """The answer, up to 256 KiB of it.

    Raises
    ------
    NoWay
        There is none, within ten seconds.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        async with asyncio.timeout(PATIENCE), client.stream(method, url, headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE_BODY:
                    break
            return Response(response.status_code, response.headers, bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
        raise _no_way(error) from error


def proxy_hint() -> str:
    """A word about a proxy, where the environment names one."""
    named = next((name for name in _PROXIES if os.environ.get(name)), None)
    return f"; {named} is set, but the app uses no proxy" if named else ""


def _no_way(error: BaseException) -> NoWay:
    causes = list(_causes(error))
    known = next((found for cause in causes if (found := _known(cause))), None)
    return known or NoWay(Trouble.OTHER, f"no usable answer ({type(error).__name__})")


def _known(cause: BaseException) -> NoWay | None:
    match cause:
        case ssl.SSLCertVerificationError():
            found = NoWay(Trouble.TLS, f"its certificate is not trusted here: {cause.verify_message}")
        case ssl.SSLError():
            found = NoWay(Trouble.TLS, f"TLS cannot be agreed on ({cause.reason or 'no reason given'})")
        case socket.gaierror():
            found = NoWay(Trouble.NAME, "the host's name leads to no address")
        case ConnectionRefusedError():
            found = NoWay(Trouble.REFUSED, "nobody listens there: the connection was refused")
        case TimeoutError() | httpx.TimeoutException():
            found = NoWay(Trouble.SLOW, f"no answer within {PATIENCE:g} s")
        case OSError() if str(cause) == "All connection attempts failed":  # anyio's word, for several addresses
            found = NoWay(Trouble.REFUSED, "nobody listens there: no connection came about")
        case _:
            return None
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
