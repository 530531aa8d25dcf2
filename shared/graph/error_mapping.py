"""Mapping of Graph's answers to our errors. It is lenient: the calls API puts its subcode in several places."""

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from shared.errors import (
    GraphCallNotFound,
    GraphError,
    GraphForbidden,
    GraphNotReached,
    GraphRejected,
    GraphThrottled,
    GraphUnavailable,
)
from shared.graph.verdict import REQUEST_ID, GraphAction, Verdict, as_object, error_object, request_id, verdict_of
from shared.http_client import Response, TransportError
from shared.untrusted_json import Json, JsonObject

MAX_RETRY_AFTER = timedelta(minutes=15)  # after a longer wait leases would lapse
_MAX_MESSAGE_LENGTH = 200
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10})?", re.ASCII)
# A code of the calling service. It stands at the start, after a sentence, after # or the word code, or in brackets.
# In other places a number of this size is a port, a time or a part of an id.
_SERVICE_CODE = re.compile(
    r"(?:^|[.;] |#|\(|\b(?:sub|error)?code\b\W{1,3})([78]\d{3})(?=$|[\s:;,)]|\.(?:\W|$))", re.IGNORECASE
)
_DIAG_CODE = re.compile(r"DiagCode: *\d+#(\d+)")
_INTEGER = re.compile(r"-?[0-9]{1,10}")
_SECRET_LIKE = re.compile(r"\w+://\S+|[\w.~+/=-]{41,}")
_REDIRECT = "a redirect, which is not followed; check GRAPH_BASE_URL"
_NOT_GRAPH = "this is not an answer of Graph's calls API; check GRAPH_BASE_URL and every proxy"
_NOT_PROVED = "nothing proves that this is Graph's answer; check GRAPH_BASE_URL and every proxy"
_FORBIDDEN = {
    7503: "the bot is not registered for calling: add the Teams channel to its Azure Bot and enable calling there",
    7504: "the app lacks an application permission such as Calls.Initiate.All, or consent in this tenant",
    7505: "the token is for another tenant than the call: correct the call's tenantId",
    7507: "the app may not act for this call: only the app that created or answered it may",
}


def error_from_response(response: Response, now: datetime, action: GraphAction = GraphAction.KEEP_ALIVE) -> GraphError:
    """Return the error for an answer that is not a success. `verdict` decides if Graph sent it."""
    error = _unpack_error(error_object(response))
    subcode = _subcode(error)
    kind, summary = _classify(verdict_of(action, response), response.status, subcode)
    message = _message(error)
    code, quoted = f"/{subcode}" if subcode else "", f" ({message})" if message else ""
    return kind(
        f"Graph answered {response.status}{code}: {summary}{quoted}.",
        status=response.status,
        subcode=subcode,
        request_id=request_id(response),
        retry_after=parse_retry_after(response.headers.get("retry-after"), now),
    )


def error_from_transport(error: TransportError) -> GraphUnavailable:
    """Return the error for a missing answer. Without a connection nothing was sent, so Graph did nothing."""
    kind = GraphNotReached if error.head is None and _failed_to_connect(error) else GraphUnavailable
    return kind(
        f"Graph gave {error}.",
        status=error.head.status if error.head else None,
        request_id=error.head.headers.get(REQUEST_ID) if error.head else None,
    )


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After`, 0 to 900: a number (Graph sends fractions too), or an HTTP date.

    None if there is no such header, or if its value is neither of these.
    """
    if value is None:
        return None
    text = value.strip()
    seconds = float(text) if _SECONDS.fullmatch(text) else _seconds_until(text, now)
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER.total_seconds())


def _failed_to_connect(error: BaseException | None) -> bool:
    """True if the connection failed: unknown host, closed port, or a certificate that is not trusted."""
    from aiohttp import ClientConnectorError  # noqa: PLC0415 slow to import

    while error is not None and not isinstance(error, ClientConnectorError):
        error = error.__cause__
    return error is not None


def _classify(verdict: Verdict, status: int, subcode: int | None) -> tuple[type[GraphError], str]:
    if verdict is Verdict.REFUSED:
        return _classify_refusal(status, subcode)
    if verdict is Verdict.NOT_GRAPH:
        return GraphNotReached, _REDIRECT if 300 <= status < 400 else _NOT_GRAPH  # noqa: PLR2004 the 3xx
    return GraphUnavailable, _NOT_PROVED if 200 <= status < 300 else "the service failed"  # noqa: PLR2004 the 2xx


def _classify_refusal(status: int, subcode: int | None) -> tuple[type[GraphError], str]:
    match status, subcode:
        case (404, _) | (400, 8528):  # 8528 call terminated: Azure Communication Services, call automation codes
            return GraphCallNotFound, "the call is over"
        case 401, _:
            return GraphRejected, "a new token was refused too; check the app's credential and consent"
        case 403, _:
            return GraphForbidden, _FORBIDDEN.get(subcode or 0, "the app may not do this")
        case 429, _:
            return GraphThrottled, "too many requests"
        case _:
            return GraphRejected, "the request was refused"


def _unpack_error(error: JsonObject) -> JsonObject:
    """Return the error with the members that an older part of Graph writes as JSON text into the message.

    microsoft-graph-comms-samples#432: `{"errorCode":"7503","message":"Application is not registered in our store."}`.
    """
    inner = error if "errorCode" in error else _json_object(error.get("message"))
    inner = as_object(inner.get("error")) or inner
    code = inner.get("errorCode", inner.get("code"))
    if code is None:
        return error
    return {**error, "message": inner.get("message"), "subcode": code}


def _json_object(text: object) -> JsonObject:
    try:
        return as_object(json.loads(text)) if isinstance(text, str) and text.lstrip().startswith("{") else {}
    except (ValueError, RecursionError):
        return {}


def _subcode(error: JsonObject) -> int | None:
    """Return the first of: a code as a number at any depth, the DiagCode of the message, a code in its text."""
    for code in _codes(error):
        number = _parse_integer(code)
        if number is not None and number >= 1000:  # noqa: PLR2004 smaller codes are HTTP statuses
            return number
    message = str(error.get("message") or "")
    found = _DIAG_CODE.search(message) or _SERVICE_CODE.search(message) or _SERVICE_CODE.search(str(error.get("code")))
    return int(found[1]) if found else None


def _parse_integer(value: Json) -> int | None:
    """Return an integer that Graph wrote as a number or as its digits. A subcode can end a call, so this is strict."""
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _codes(error: JsonObject) -> Iterator[Json]:
    layer, depth = error, 0
    while layer and depth < 5:  # noqa: PLR2004 deeper than any answer seen
        yield from (layer.get(name) for name in ("subcode", "subCode", "code"))
        layer, depth = as_object(layer.get("innerError") or layer.get("innererror")), depth + 1


def _message(error: JsonObject) -> str:
    """Return Graph's message, short, in one line, without anything that could be an address or a token."""
    message = error.get("message")
    text = " ".join(message.split()) if isinstance(message, str) else ""
    return _SECRET_LIKE.sub("…", "".join(filter(str.isprintable, text)))[:_MAX_MESSAGE_LENGTH].rstrip(".")


def _seconds_until(date: str, now: datetime) -> float:
    try:
        parsed = parsedate_to_datetime(date)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() - now.timestamp()
    except (ValueError, OverflowError):
        return math.nan
