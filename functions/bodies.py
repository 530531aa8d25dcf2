"""What a request says of its body, before anybody reads it."""

import re

import azure.functions as func

from shared.errors import UnsupportedBody

# What Graph and those who pass its notifications on say of JSON. A form or a page is neither's.
_JSON = re.compile(r"(?:application|text)/json|application/[a-z0-9.-]+\+json|text/plain|application/octet-stream|")
STRICTLY_JSON = re.compile("application/json|")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]*)")
_UTF_8 = {"utf-8", "utf8", "us-ascii", "ascii"}


def check_is_plain_json(req: func.HttpRequest, kinds: re.Pattern[str] = _JSON) -> None:
    """Whether the headers speak of JSON in UTF-8, not compressed, or of nothing at all.

    Raises
    ------
    UnsupportedBody
        They speak of something else. What is compressed may grow a thousandfold, and Graph compresses nothing.
    """
    encoding = req.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedBody("The body is compressed. Send it uncompressed, without Content-Encoding.")
    kind = req.headers.get("Content-Type", "").strip().lower()
    if not kinds.fullmatch(kind.partition(";")[0].strip()):
        raise UnsupportedBody(
            "The body is not JSON by its Content-Type. Send JSON, with Content-Type: application/json."
        )
    charset = _CHARSET.search(kind)
    if charset and charset[1] not in _UTF_8:
        raise UnsupportedBody(
            "The body is not UTF-8 by its Content-Type. Send UTF-8, with Content-Type: application/json; charset=utf-8."
        )
