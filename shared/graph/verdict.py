"""The proof that Graph itself sent an answer, for each action and status.

A proxy, a gateway, a sign-in page or a wrong GRAPH_BASE_URL answers in HTTP too. Only an answer of Graph renews, hangs
up or ends a call. After any other answer the call is failing, and the request is tried again.

Graph's mark is `request-id`, in the headers of each of its answers, or in the `innerError` of its errors. An HTML page
is never Graph's, even with this header. Sources: Graph's errors page (`request-id`, the error object); an observed
success of keepAlive (microsoft-graph-docs#9186); the pages call-keepAlive, call-delete, call-get, call-record.

| answer | keepAlive | hang up | look-up | record |
|---|---|---|---|---|
| 200, 201, 202, 204 | renewed, with the mark | done, with the mark | only 200: a call, with the mark | an operation |
| 404, 400/8528 with the mark, empty or an error | ended | already over | ended | over |
| another 4xx with the mark | refused | refused | refused | refused |
| 429, also from a proxy: waiting does no harm | wait | wait | wait | wait |
| 408, 5xx, also from a proxy | failed | may be done | failed | may have begun |
| another 2xx, or one that lacks what the first row needs | failed | may be done | failed | may have begun |
| an HTML page below 500, 3xx, a 4xx without the mark | not Graph's | not done | not Graph's | not begun |

An operation needs no mark: nothing on the way would invent one, and a recording that began must be on record.
"""

from enum import Enum, auto

from shared.http_client import Response
from shared.untrusted_json import JsonObject

REQUEST_ID = "request-id"


class GraphAction(Enum):
    """The kinds of requests to Graph."""

    KEEP_ALIVE = auto()
    HANG_UP = auto()
    LOOK_UP = auto()
    RECORD = auto()


class Verdict(Enum):
    """The meaning of an answer."""

    DONE = auto()  # Graph did it; a look-up and a record also need a body, see `client`
    REFUSED = auto()  # Graph did not do it, and gives the reason
    NOT_GRAPH = auto()  # something on the way answered in Graph's place: Graph did not do it
    UNCLEAR = auto()  # Graph may have done it


_DONE_STATUSES = frozenset({200, 201, 202, 204})
_SUCCESS_STATUSES = {
    GraphAction.KEEP_ALIVE: _DONE_STATUSES,
    GraphAction.HANG_UP: _DONE_STATUSES,
    GraphAction.LOOK_UP: frozenset({200}),
    GraphAction.RECORD: _DONE_STATUSES,
}
_TIMED_OUT, _TOO_MANY, _NOT_FOUND = 408, 429, 404
_PATH_COMPLAINT = "resource not found for the segment"  # Graph's message about a URL that it does not know


def verdict_of(action: GraphAction, response: Response) -> Verdict:
    """Return the meaning of an answer, by the table above."""
    status = response.status
    if status >= 500 or status == _TIMED_OUT:  # noqa: PLR2004 the 5xx
        return Verdict.UNCLEAR
    if status == _TOO_MANY:
        return Verdict.REFUSED
    if _is_html(response):
        return Verdict.NOT_GRAPH
    if response.succeeded:
        is_proved = action is GraphAction.RECORD or request_id(response) is not None
        return Verdict.DONE if is_proved and status in _SUCCESS_STATUSES[action] else Verdict.UNCLEAR
    if status >= 400 and request_id(response) is not None and _is_about_the_call(response):  # noqa: PLR2004 the 4xx
        return Verdict.REFUSED
    return Verdict.NOT_GRAPH


def request_id(response: Response) -> str | None:
    """Return Graph's id of the request, from the headers, else from the error in the body."""
    if found := response.headers.get(REQUEST_ID):
        return found
    error = error_object(response)
    inner = as_object(error.get("innerError") or error.get("innererror"))
    text = inner.get(REQUEST_ID)
    return text if isinstance(text, str) and text else None


def error_object(response: Response) -> JsonObject:
    """Return the `error` object of an answer, or an empty one. An older part of Graph sends its members at the top."""
    body = as_object(response.json())
    return body if "errorCode" in body else as_object(body.get("error"))


def as_object(value: object) -> JsonObject:
    """Return the members of a JSON object. Empty if the value is something else."""
    return value if isinstance(value, dict) else {}


def _is_html(response: Response) -> bool:
    return "html" in response.headers.get("content-type", "").lower()


def _is_about_the_call(response: Response) -> bool:
    """True if a 404 can be about a call: it is empty, or an error that does not concern the path of the URL."""
    if response.status != _NOT_FOUND or not response.body:
        return True
    error = error_object(response)
    return bool(error) and _PATH_COMPLAINT not in str(error.get("message")).lower()
