"""The resolver of the relay's connections: it refuses names that lead to addresses that are not allowed."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from shared.addresses import is_allowed

type Resolve = Callable[[str], Awaitable[Sequence[str]]]

_THIS_MACHINE = ("127.0.0.1", "::1")  # `localhost` (RFC 6761, 6.3): it is not looked up, so that nothing can change it
_IS_ADDRESS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV  # nothing looks the address up again


class AddressRefused(Exception):
    """A name leads to an address that is not allowed."""


class JudgingResolver(AbstractResolver):
    """Resolves names for aiohttp, which then connects to exactly the addresses that were judged here.

    So a name that changes between the check and the connection (DNS rebinding) has no effect.
    """

    def __init__(self, resolve: Resolve | None, *, allow_private: bool) -> None:
        self._resolve = resolve or resolve_by_system
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name, of both families.

        Raises
        ------
        AddressRefused
            One of them is not allowed. The others are not used either: such a name is wrong or hostile.
        OSError
            The name has no address.
        """
        del family  # the connector lets the system choose
        is_this_machine = host == "localhost"
        addresses = list(map(ip_address, _THIS_MACHINE if is_this_machine else await self._resolve(host)))
        if not addresses:
            raise OSError("the name has no address")
        if not (is_this_machine or all(is_allowed(each, allow_private=self._allow_private) for each in addresses)):
            raise AddressRefused
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,  # noqa: PLR2004 IPv4
                proto=0,
                flags=_IS_ADDRESS,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Do nothing: nothing is open."""


async def resolve_by_system(host: str) -> list[str]:
    """Return the addresses of a name by the system's resolver.

    Raises
    ------
    OSError
        The name has no address.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for _, _, _, _, address in found]
