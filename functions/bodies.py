"""Checks of what a request's headers declare about its body, before the body is read."""

import re

import azure.functions as func

from shared.errors import UnsupportedBody

# What Graph, and proxies that forward its notifications, declare for JSON. Neither sends a form or a page.
_JSON = re.compile(r"(?:application|text)/json|application/[a-z0-9.-]+\+json|text/plain|application/octet-stream|")
STRICTLY_JSON = re.compile("application/json|")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)")
_UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}


def check_is_plain_json(req: func.HttpRequest, kinds: re.Pattern[str] = _JSON) -> None:
    """Accept headers that declare uncompressed JSON in UTF-8, or nothing.

    Parameters
    ----------
    req
        The request. Only its headers are read.
    kinds
        Matches the accepted media types, in lower case and without parameters. It matches empty text too: no header.

    Raises
    ------
    UnsupportedBody
        The headers declare something else. A compressed body is refused, because it may grow a thousandfold when it
        is decompressed, and Graph does not compress.
    """
    encoding = req.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedBody("The body is compressed. Send it uncompressed, without Content-Encoding.")
    kind = req.headers.get("Content-Type", "").strip().lower()
    if not kinds.fullmatch(kind.partition(";")[0].strip()):
        raise UnsupportedBody("The Content-Type is not JSON. Send JSON, with Content-Type: application/json.")
    charset = _CHARSET.search(kind)
    if charset and charset[1] not in _UTF_8:
        raise UnsupportedBody(
            "The Content-Type is not UTF-8. Send UTF-8, with Content-Type: application/json; charset=utf-8."
        )
