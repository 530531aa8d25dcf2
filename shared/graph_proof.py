"""What proves that Graph itself answered: decided here, once, for each verb and status.

A proxy, a gateway, a sign-in page or a wrong GRAPH_BASE_URL answers in HTTP too. Only Graph's own word renews, hangs
up or ends a call. Everything else is unavailability: the call is failing, and tried again.

Graph's mark is `request-id`, in the headers of each of its answers, or in the `innerError` of its errors. A web page
never is Graph's, whatever its headers say. Sources: Graph's errors page (`request-id`, the error object); an observed
success of keepAlive (microsoft-graph-docs#9186); the pages call-keepAlive, call-delete, call-get, call-record.

| answer | keepAlive | hang up | look-up | record |
|---|---|---|---|---|
| 200, 201, 202, 204 | renewed, with the mark | done, with the mark | only 200: a call, with the mark | an operation |
| 404, 400/8528 with the mark, empty or an error | ended | gone already | ended | gone |
| another 4xx with the mark | refused | refused | refused | refused |
| 429, also from a proxy: to wait ends nothing | wait | wait | wait | wait |
| 408, 5xx, also from a proxy | trouble | may be done | trouble | may have begun |
| another 2xx, or one without what is asked for above | trouble | may be done | trouble | may have begun |
| a web page below 500, 3xx, a 4xx without the mark | a stranger's | not done | a stranger's | not begun |

An operation needs no mark: nothing on the way could have made one up, and a recording that began must be on record.
"""

from collections.abc import Mapping
from enum import Enum, auto

from shared.http_client import Answer

REQUEST_ID = "request-id"


class Verb(Enum):
    """What Graph is asked to do."""

    KEEP_ALIVE = auto()
    HANG_UP = auto()
    LOOK_UP = auto()
    RECORD = auto()


class Word(Enum):
    """What an answer is worth."""

    DONE = auto()  # Graph did it; a look-up and a record need a body besides, see `graph`
    REFUSED = auto()  # Graph did not do it, and says why
    STRANGER = auto()  # something on the way answered in Graph's place: Graph did not do it
    UNCLEAR = auto()  # Graph may have done it


_DONE = frozenset({200, 201, 202, 204})
_SUCCESSES = {Verb.KEEP_ALIVE: _DONE, Verb.HANG_UP: _DONE, Verb.LOOK_UP: frozenset({200}), Verb.RECORD: _DONE}
_TIMED_OUT, _TOO_MANY, _NOT_FOUND = 408, 429, 404
_ABOUT_THE_PATH = "resource not found for the segment"  # Graph's word about a URL that is none of its own


def word_of(verb: Verb, answer: Answer) -> Word:
    """What an answer is worth, by the table above."""
    status = answer.status
    if status >= 500 or status == _TIMED_OUT:  # noqa: PLR2004 the 5xx
        return Word.UNCLEAR
    if status == _TOO_MANY:
        return Word.REFUSED
    if _is_page(answer):
        return Word.STRANGER
    if answer.succeeded:
        proved = verb is Verb.RECORD or request_id(answer) is not None
        return Word.DONE if proved and status in _SUCCESSES[verb] else Word.UNCLEAR
    if status >= 400 and request_id(answer) is not None and _is_about_the_call(answer):  # noqa: PLR2004 the 4xx
        return Word.REFUSED
    return Word.STRANGER


def request_id(answer: Answer) -> str | None:
    """Graph's id of the request, from the headers, else from the error in the body."""
    if found := answer.headers.get(REQUEST_ID):
        return found
    error = error_in(answer)
    inner = members(error.get("innerError") or error.get("innererror"))
    text = inner.get(REQUEST_ID)
    return text if isinstance(text, str) and text else None


def error_in(answer: Answer) -> Mapping[str, object]:
    """The `error` object of an answer; empty if there is none. An older part of Graph sends its members bare."""
    body = members(answer.json())
    return body if "errorCode" in body else members(body.get("error"))


def members(value: object) -> Mapping[str, object]:
    """The members of a JSON object; none if it is something else."""
    return value if isinstance(value, dict) else {}


def _is_page(answer: Answer) -> bool:
    return "html" in answer.headers.get("content-type", "").lower()


def _is_about_the_call(answer: Answer) -> bool:
    """Whether a 404 can be about a call: it is empty, or an error, and no complaint about the path of the URL."""
    if answer.status != _NOT_FOUND or not answer.body:
        return True
    error = error_in(answer)
    return bool(error) and _ABOUT_THE_PATH not in str(error.get("message")).lower()
