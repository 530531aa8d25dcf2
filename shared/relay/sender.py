"""HTTP to bots: one request, and what became of it.

The addresses come from settings, but names may lead anywhere: each connection goes to an address that was judged.
"""

import asyncio
import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from shared.addresses import is_allowed, literal_address
from shared.http_client import BodyTooLarge, load_certificates, open_session, whole_body
from shared.urls import LOOPBACK, host_of

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from shared.relay.resolver import Resolve

type SendError = Literal["timeout", "refused", "addressRefused", "tls", "broken", "bodyTooLarge"]

# Node and uvicorn close an unused connection after 5 s. A POST on such a connection would fail, and is not repeated.
_IDLE_TIMEOUT = timedelta(seconds=4)
_FINAL_STATUSES = range(200, 600)  # RFC 9110, 15: one below is no final answer, and one above is invalid


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a bot. Headers are found in any case of their names. `body` is empty if it was not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)


class NotSent(Exception):
    """There was no answer. The bot may have received the request all the same.

    `error` is one of these words:

    timeout
        The bot did not answer in time.
    refused
        There was no connection, or the name has no address.
    addressRefused
        The name leads to an address that is not allowed.
    tls
        The bot's certificate is not valid for the address, or it speaks no TLS.
    broken
        The connection was lost, or the answer is not HTTP.
    bodyTooLarge
        The answer should be read and has more than 256 KiB.
    """

    def __init__(self, error: SendError) -> None:
        super().__init__(error)
        self.error: SendError = error


class RelaySender:
    """Sends requests to bots. It opens nothing before the first one, in whose event loop it then stays.

    It trusts the same certificates as the app's other requests, uses no proxy, follows no redirect and keeps no cookie.

    Parameters
    ----------
    allow_private
        True if names may lead to private addresses.
    connections
        How many connections may be open at a time. One host gets half of them, so that a bot that hangs leaves some to
        the others.
    resolve
        Returns the addresses of a name. None: the system's resolver.
    """

    def __init__(self, allow_private: bool, connections: int, resolve: "Resolve | None" = None) -> None:
        self._allow_private = allow_private
        self._connections = connections
        self._resolve = resolve

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: timedelta,  # noqa: ASYNC109 it covers connecting, sending and reading together
        *,
        read_body: bool = False,
    ) -> Answer:
        """Send a body, and return the bot's answer, with any status.

        Parameters
        ----------
        url
            Where to. https, or http to this machine.
        headers
            Sent as they are. Only `Host`, `Content-Length`, `User-Agent` and `Accept-Encoding: identity` are added.
        body
            Sent as it is.
        timeout
            Covers the wait for a free connection, connecting, sending and reading.
        read_body
            True if the body of the answer is read too, up to 256 KiB. Otherwise the connection is closed if more of
            the answer is still to come.

        Raises
        ------
        NotSent
            There was no answer, or a body that is too large.
        """
        if not self._may_connect(url):
            raise NotSent("addressRefused")
        session = self._session  # the first time this reads the certificates, which must not count
        try:
            async with asyncio.timeout(timeout.total_seconds()), self._open(session, url, headers, body) as response:
                if response.status not in _FINAL_STATUSES:
                    raise NotSent("broken")
                return Answer(response.status, response.headers, await whole_body(response) if read_body else b"")
        except _errors() as error:
            raise NotSent(_error_word(error)) from None  # the text of the cause has the address

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _may_connect(self, url: str) -> bool:
        """True unless the URL itself shows that it leads to a wrong address. Names are judged by the resolver.

        aiohttp does not ask a resolver for IP addresses.
        """
        host = host_of(url)
        if host in LOOPBACK:
            return True
        try:
            address = literal_address(host)
        except ValueError:
            return False
        is_right = address is None or is_allowed(address, allow_private=self._allow_private)
        return is_right and url.startswith("https://") and host.lower().rstrip(".") != "localhost"

    @staticmethod
    def _open(
        session: "aiohttp.ClientSession", url: str, headers: Mapping[str, str], body: bytes
    ) -> "AbstractAsyncContextManager[aiohttp.ClientResponse]":
        from yarl import URL  # noqa: PLC0415 comes with aiohttp, which is slow to import

        return session.post(
            URL(url, encoded=True),
            data=io.BytesIO(body),  # in parts: a large body at once would block the event loop
            headers=headers,
            skip_auto_headers=("accept",),
            allow_redirects=False,
        )

    @cached_property
    def _session(self) -> "aiohttp.ClientSession":
        from shared.relay.resolver import JudgingResolver  # noqa: PLC0415 aiohttp is slow to import

        return open_session(
            self._connections,
            load_certificates(),
            per_host=max(1, self._connections // 2),
            idle_timeout=_IDLE_TIMEOUT,
            resolver=JudgingResolver(self._resolve, allow_private=self._allow_private),
        )


def _errors() -> tuple[type[Exception], ...]:
    """Return the errors of a request. Imported only on an error: aiohttp is slow to import."""
    import aiohttp  # noqa: PLC0415 as above

    from shared.relay.resolver import AddressRefused  # noqa: PLC0415 as above

    return aiohttp.ClientError, OSError, ValueError, AddressRefused, BodyTooLarge


def _error_word(error: Exception) -> SendError:
    import aiohttp  # noqa: PLC0415 as above

    from shared.relay.resolver import AddressRefused  # noqa: PLC0415 as above

    match error:  # from special errors to general ones: one class inherits from another
        case TimeoutError():
            return "timeout"
        case AddressRefused():
            return "addressRefused"
        case BodyTooLarge():
            return "bodyTooLarge"
        case ssl.SSLError():
            return "tls"
        case aiohttp.ClientConnectorError():
            return "refused"
        case _:
            return "broken"
