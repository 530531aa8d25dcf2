"""Checks of URLs: which may receive a secret, and which may give keys."""

import re
from urllib.parse import urlsplit

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})  # the names of this machine


def trusted_url(text: str) -> str:
    """Return the URL without a final slash. It must be https, or http on this machine (a simulator).

    Raises
    ------
    ValueError
        It is something else, or has a user, a query or a fragment.
    """
    try:
        parts = urlsplit(text)
    except ValueError:  # the text of the error repeats the address
        raise ValueError("must be a URL such as https://host/path") from None
    if not text.isprintable() or " " in text or not _HOST.fullmatch(parts.netloc) or not parts.hostname:
        raise ValueError("must be a URL such as https://host/path, without a user")
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without a query and a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError("must begin with https:// (http:// is only for 127.0.0.1, ::1 and localhost)")
    return text.rstrip("/")


def is_loopback(url: str) -> bool:
    """True if a URL leads to this machine."""
    return urlsplit(url).hostname in LOOPBACK


def host_of(url: str) -> str:
    """Return the host of a URL as it is written, without its port and the brackets of IPv6."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def origin(url: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
