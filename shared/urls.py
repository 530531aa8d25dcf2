"""Which addresses are good enough to send a secret to, or to take keys from."""

import re
from urllib.parse import urlsplit

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def trusted_url(text: str) -> str:
    """The URL, without a slash at its end, if it is https, or http on this machine (a simulator).

    Raises
    ------
    ValueError
        It is something else, or has a user, a query or a fragment.
    """
    try:
        parts = urlsplit(text)
    except ValueError:  # its words would repeat the address
        raise ValueError("must be a URL such as https://host/path") from None
    if not text.isprintable() or " " in text or not _HOST.fullmatch(parts.netloc) or not parts.hostname:
        raise ValueError("must be a URL such as https://host/path, without a user")
    if parts.query or parts.fragment:
        raise ValueError("must be a URL without a query and a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("must begin with https:// (http:// is for 127.0.0.1, ::1 and localhost alone)")
    return text.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL is of this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
