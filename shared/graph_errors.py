"""From Graph's answers to our errors. Lenient: the calls API puts its subcode in several places."""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.errors import (
    GraphCallNotFound,
    GraphError,
    GraphForbidden,
    GraphRejected,
    GraphThrottled,
    GraphUnavailable,
)
from shared.http_client import Answer, NoAnswer

LONGEST_RETRY_AFTER = 15 * 60.0  # seconds: a longer wait would cost calls their lease
_LONGEST_MESSAGE = 200
_SERVICE_CODE = re.compile(r"(?<![\w-])([78]\d{3})(?![\w-])")  # 7500-8999: those of the calling service
_DIAG_CODE = re.compile(r"DiagCode: *\d+#(\d+)")
_SECRET_LIKE = re.compile(r"\w+://\S+|[\w.~+/=-]{41,}")
_FORBIDDEN = {
    7504: "the app lacks an application permission such as Calls.Initiate.All, or consent in this tenant",
    7505: "the token is of another tenant than the call: correct the call's tenantId",
    7507: "the app may not act for this call: only the app that created or answered it can",
}


def error_of(answer: Answer, now: datetime) -> GraphError:
    """What an answer that is no success means.

    A 404 that is a web page is not Graph's word about a call, but that of something on the way (a gateway, a wrong
    GRAPH_BASE_URL): taking it for the end would end all calls.
    """
    status, error = answer.status, members(members(answer.json()).get("error"))
    subcode = _subcode(error)
    kind, what = _meaning(answer, subcode)
    said = _message(error)
    return kind(
        f"Graph answered {status}{f'/{subcode}' if subcode else ''}: {what}{f' ({said})' if said else ''}.",
        status=status,
        subcode=subcode,
        request_id=answer.headers.get("request-id"),
        retry_after=retry_after(answer.headers.get("retry-after"), now),
    )


def unreachable(error: NoAnswer) -> GraphUnavailable:
    """What it means that no answer came."""
    return GraphUnavailable(
        f"Graph gave {error}.",
        status=error.head.status if error.head else None,
        request_id=error.head.headers.get("request-id") if error.head else None,
    )


def retry_after(value: str | None, now: datetime) -> float | None:
    """The seconds of a `Retry-After`: a number, which Graph also writes with a fraction, or an HTTP date.

    0 to 900; None where there is none, or none that can be read.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value, now)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def members(value: object) -> Mapping[str, object]:
    """The members of a JSON object; none, where it is something else."""
    return value if isinstance(value, dict) else {}


def as_integer(value: object) -> int | None:
    """An integer that Graph wrote as a number or as text."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,10}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _meaning(answer: Answer, subcode: int | None) -> tuple[type[GraphError], str]:
    match answer.status, subcode:
        case 404, _ if not _is_graphs(answer):
            found: tuple[type[GraphError], str] = (
                GraphUnavailable,
                "not an answer of the calls API, but of something on the way; check GRAPH_BASE_URL",
            )
        case (404, _) | (400, 8528):  # 8528 call terminated: Azure Communication Services, call automation codes
            found = GraphCallNotFound, "the call is gone"
        case 401, _:
            found = GraphRejected, "a fresh token was refused too; check the app's credential and consent"
        case 403, _:
            found = GraphForbidden, _FORBIDDEN.get(subcode or 0, "the app may not do this")
        case 429, _:
            found = GraphThrottled, "too many requests"
        case status, _ if 400 <= status < 500:  # noqa: PLR2004 the 4xx
            found = GraphRejected, "the request was refused"
        case status, _ if 300 <= status < 400:  # noqa: PLR2004 the 3xx
            found = GraphUnavailable, "a redirect, which is not followed; check GRAPH_BASE_URL"
        case _:
            found = GraphUnavailable, "the service has trouble"
    return found


def _is_graphs(answer: Answer) -> bool:
    """Whether a 404 is Graph's own: empty, with its request id, or in its form. A proxy's would end all calls."""
    if "html" in answer.headers.get("content-type", ""):
        return False
    return not answer.body or "request-id" in answer.headers or bool(members(members(answer.json()).get("error")))


def _subcode(error: Mapping[str, object]) -> int | None:
    """The first of: a code as a number at any depth, the DiagCode of the message, a service code in its text."""
    for code in _codes(error):
        number = as_integer(code)
        if number is not None and number >= 1000:  # noqa: PLR2004 below are HTTP statuses
            return number
    message = str(error.get("message") or "")
    found = _DIAG_CODE.search(message) or _SERVICE_CODE.search(message) or _SERVICE_CODE.search(str(error.get("code")))
    return int(found[1]) if found else None


def _codes(error: Mapping[str, object]) -> Iterator[object]:
    layer, depth = error, 0
    while layer and depth < 5:  # noqa: PLR2004 deeper than any answer seen
        yield from (layer.get(name) for name in ("subcode", "subCode", "code"))
        layer, depth = members(layer.get("innerError") or layer.get("innererror")), depth + 1


def _message(error: Mapping[str, object]) -> str:
    """Graph's own words, short, in one line, without anything that could be an address or a token."""
    message = error.get("message")
    text = " ".join(message.split()) if isinstance(message, str) else ""
    return _SECRET_LIKE.sub("…", "".join(filter(str.isprintable, text)))[:_LONGEST_MESSAGE].rstrip(".")


def _until(date: str, now: datetime) -> float:
    try:
        parsed = parsedate_to_datetime(date)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, OverflowError):
        return math.nan
