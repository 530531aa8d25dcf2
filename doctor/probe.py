"""One HTTP request to an address: its response, or the kind of failure that prevented one."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from ipaddress import ip_address

import httpx

from shared.addresses import Address
from shared.http_client import MAX_RESPONSE_BODY, Response

TIMEOUT = timedelta(seconds=10)  # for one response
_PROXY_SETTINGS = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class FailureKind(Enum):
    """Why there is no response."""

    DNS = auto()
    REFUSED = auto()
    TLS = auto()
    TIMEOUT = auto()
    OTHER = auto()


class ConnectionFailed(Exception):
    """There is no response. The message gives the reason, without the address."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def make_client() -> httpx.AsyncClient:
    """Return a client that trusts the same authorities as the app (SSL_CERT_FILE, else certifi) and uses no proxy."""
    return httpx.AsyncClient(
        verify=httpx.create_ssl_context(),
        timeout=TIMEOUT.total_seconds(),
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": "call-keeper-doctor", "accept-encoding": "identity"},
    )


async def fetch(
    client: httpx.AsyncClient, url: str, *, method: str = "GET", token: str | None = None, body: bytes | None = None
) -> Response:
    """Send one request and return the response, with at most about 256 KiB of its body. A body that is sent is JSON.

    Raises
    ------
    ConnectionFailed
        There is no response within 10 seconds.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= {"content-type": "application/json"} if body else {}
    try:
        async with (
            asyncio.timeout(TIMEOUT.total_seconds()),
            client.stream(method, url, headers=headers, content=body) as response,
        ):
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > MAX_RESPONSE_BODY:
                    break
            return Response(response.status_code, response.headers, bytes(received))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
        raise _connection_failed(error) from error


async def resolve(host: str) -> tuple[Address, ...]:
    """Return the addresses of a name, or the one that it spells. Raises `ConnectionFailed` if it has none."""
    from shared.relay.resolver import resolve_by_system  # noqa: PLC0415 slow to import

    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            return tuple(map(ip_address, await resolve_by_system(host)))
    except (OSError, UnicodeError) as error:
        raise _connection_failed(error) from error


async def certificate_expiry(host: str, port: int) -> datetime:
    """Return the end of the validity of a server's certificate.

    Raises
    ------
    ConnectionFailed
        There is no connection within 10 seconds, or the certificate is not trusted.
    """
    try:
        async with asyncio.timeout(TIMEOUT.total_seconds()):
            _, writer = await asyncio.open_connection(host, port, ssl=httpx.create_ssl_context())
    except OSError as error:
        raise _connection_failed(error) from error
    certificate: Mapping[str, object] = writer.get_extra_info("peercert")
    writer.close()
    with suppress(OSError):  # the server may have closed it first
        await writer.wait_closed()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def proxy_hint() -> str:
    """Return a hint if the environment sets a proxy, else an empty text."""
    name = next((name for name in _PROXY_SETTINGS if os.environ.get(name)), None)
    return f"; {name} is set, but the app uses no proxy" if name else ""


def _connection_failed(error: BaseException) -> ConnectionFailed:
    classified = (_classify(cause) for cause in _causes(error))
    known = next(filter(None, classified), None)
    return known or ConnectionFailed(FailureKind.OTHER, f"no usable response ({type(error).__name__})")


def _classify(cause: BaseException) -> ConnectionFailed | None:
    match cause:
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted on this machine: {cause.verify_message}"
            failure = ConnectionFailed(FailureKind.TLS, reason)
        case ssl.SSLError():
            failure = ConnectionFailed(
                FailureKind.TLS, f"the TLS handshake failed ({cause.reason or 'no reason given'})"
            )
        case socket.gaierror():
            failure = ConnectionFailed(FailureKind.DNS, "the host name has no address in DNS")
        case ConnectionRefusedError():
            failure = ConnectionFailed(FailureKind.REFUSED, "the connection was refused: nothing listens there")
        case TimeoutError() | httpx.TimeoutException():
            failure = ConnectionFailed(FailureKind.TIMEOUT, f"no response within {TIMEOUT.total_seconds():g} s")
        case OSError() if (
            str(cause) == "All connection attempts failed"
        ):  # anyio's text if a name has several addresses
            failure = ConnectionFailed(FailureKind.REFUSED, "no connection could be made: nothing listens there")
        case _:
            return None
    return failure


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__
