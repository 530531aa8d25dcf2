"""Judgement of IP addresses: which are public, and every spelling of an address that programs accept."""

import re
import unicodedata
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import unquote

type Address = IPv4Address | IPv6Address

# The addresses that serve only the machine's own platform. Nothing that receives a notification has one of them.
_PLATFORM_V4 = (
    IPv4Network("169.254.0.0/16"),  # link-local; 169.254.169.254 gives tokens of the machine's identity
    IPv4Network("168.63.129.16/32"),  # Azure's platform (Microsoft, "What is IP address 168.63.129.16?")
)
_PLATFORM_V6 = (
    IPv6Network("fe80::/10"),  # link-local
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of a single network (RFC 8215): what is behind it cannot be seen
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # IANA assigns public IPv6 addresses from this range alone
_DOCUMENTATION = IPv6Network("3fff::/20")  # RFC 9637; `ipaddress` does not know it yet
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_LOW_IPV4 = (  # the last 32 bits are an IPv4 address: IPv4-compatible (RFC 4291), IPv4-translated (RFC 2765)
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0:0/96"),
)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|\d+")
_DOTS = str.maketrans("\u3002\uff61", "..")  # IDNA (RFC 3490, 3.1) takes them for dots; NFKC changes U+FF0E already
_MAX_PARTS = 4  # of an IPv4 address


class Reach(IntEnum):
    """The networks that an address belongs to. PLATFORM: link-local addresses, and Azure's platform."""

    PUBLIC = 0
    PRIVATE = 1
    PLATFORM = 2


def reach_of(address: Address) -> Reach:
    """Return the reach of an address. An IPv6 address that carries an IPv4 address is at most as public as that."""
    if isinstance(address, IPv4Address):
        return _own_reach(address, is_platform=any(address in network for network in _PLATFORM_V4))
    if address in _MAPPED or address in _NAT64:
        return reach_of(_low_ipv4(address))
    own = _own_reach(address, is_platform=any(address in network for network in _PLATFORM_V6))
    is_routed = address in _GLOBAL_UNICAST and address not in _DOCUMENTATION
    return max(own, Reach.PUBLIC if is_routed else Reach.PRIVATE, *map(reach_of, _carried_ipv4(address)))


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """True if a request may go to the address: it is public, or private and allowed. Link-local is never allowed."""
    return reach_of(address) <= (Reach.PRIVATE if allow_private else Reach.PUBLIC)


def literal_address(host: str) -> Address | None:
    """Return the address that a host spells, or None if it is a name.

    Some programs accept more than `127.0.0.1` and `::1`: decimal, octal and hexadecimal numbers, fewer than four parts,
    final dots (`inet_aton`), percent-encoding, full-width digits (IDNA). All of these are read as addresses here.

    Parameters
    ----------
    host
        A host of a URL, with or without the brackets of IPv6.

    Raises
    ------
    ValueError
        The host is neither: it has a colon, or ends with a number, and is no address (WHATWG URL, "ends in a number").
    """
    text = unicodedata.normalize("NFKC", unquote(host)).translate(_DOTS).removeprefix("[").removesuffix("]").rstrip(".")
    if ":" in text:
        return IPv6Address(text.partition("%")[0])
    parts = text.split(".")
    return _parse_ipv4(parts) if _NUMBER.fullmatch(parts[-1]) else None


def is_usual_form(host: str) -> bool:
    """True if the text is an address in its usual form: four decimal numbers, or IPv6 without a zone and brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _own_reach(address: Address, *, is_platform: bool) -> Reach:
    if is_platform:
        return Reach.PLATFORM
    return Reach.PUBLIC if address.is_global and not address.is_multicast else Reach.PRIVATE


def _low_ipv4(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFF_FFFF)


def _carried_ipv4(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that a tunnel would use: of 6to4, of Teredo (server and client), and older forms."""
    if any(address in network for network in _LOW_IPV4):
        return (_low_ipv4(address),)
    return (address.sixtofour,) if address.sixtofour else (address.teredo or ())


def _parse_ipv4(parts: list[str]) -> IPv4Address:
    """Parse the parts of an address as `inet_aton` does: the last part fills all bytes that are left."""
    if len(parts) > _MAX_PARTS:
        raise ValueError("an IPv4 address has at most four parts")
    *first, last = map(_parse_number, parts)
    if any(number > 0xFF for number in first) or last >= 256 ** (_MAX_PARTS - len(first)):  # noqa: PLR2004 a byte
        raise ValueError("a part of an IPv4 address is too large")
    return IPv4Address(sum(number << 8 * (3 - place) for place, number in enumerate(first)) + last)


def _parse_number(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)
