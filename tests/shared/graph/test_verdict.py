"""The verdict on each answer to each verb: the table of `shared/graph/verdict.py` matches the code."""

import pytest
from multidict import CIMultiDict

from shared.errors import GraphCallNotFound, GraphForbidden, GraphNotReached, GraphRejected, GraphUnavailable
from shared.graph.error_mapping import error_from_response
from shared.graph.verdict import GraphAction, Verdict, verdict_of
from shared.http_client import Response
from tests.support.virtual import VirtualClock

MARK = {"request-id": "5d0b1a44-6c0f-4f0e-9d3c-2b8a7c1e6f90"}
HTML = {"content-type": "text/html; charset=utf-8"}
PAGE = b"<html>Sign in</html>"
GONE = b'{"error": {"code": "8522", "message": "Call not found."}}'
SIGNED = b'{"error": {"code": "8522", "innerError": {"request-id": "5d0b1a44"}}}'
KONG = b'{"message": "no Route matched with those values"}'
NO_SEGMENT = b'{"error": {"code": "BadRequest", "message": "Resource not found for the segment \'v1.0\'."}}'
DONE, REFUSED, STRANGER, UNCLEAR = Verdict.DONE, Verdict.REFUSED, Verdict.NOT_GRAPH, Verdict.UNCLEAR


def answer(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Response:
    return Response(status, CIMultiDict(headers or {}), body)


@pytest.mark.parametrize(
    ("given", "words"),
    [  # keepAlive, hang up, look-up, record
        *((answer(status, MARK), (DONE, DONE, UNCLEAR, DONE)) for status in (201, 202, 204)),
        (answer(200, MARK), (DONE, DONE, DONE, DONE)),
        (answer(200, MARK | {"content-type": "text/plain"}), (DONE, DONE, DONE, DONE)),
        (answer(200, {"Request-Id": "1"}), (DONE, DONE, DONE, DONE)),
        (answer(200), (UNCLEAR, UNCLEAR, UNCLEAR, DONE)),  # of a recording the operation is the proof: see `graph`
        (answer(203, MARK), (UNCLEAR,) * 4),
        (answer(206, MARK), (UNCLEAR,) * 4),
        *((answer(status, MARK | HTML, PAGE), (STRANGER,) * 4) for status in (200, 204, 302, 401, 403, 404, 407)),
        *((answer(status, HTML, PAGE), (STRANGER,) * 4) for status in (200, 202, 400, 401, 403, 404)),
        *((answer(status, MARK), (STRANGER,) * 4) for status in (301, 302, 303, 304, 307, 308)),
        *((answer(status), (STRANGER,) * 4) for status in (400, 401, 403, 404, 407, 409, 410)),
        *((answer(status, {}, KONG), (STRANGER,) * 4) for status in (401, 403, 404)),
        (answer(404, {}, GONE), (STRANGER,) * 4),
        (answer(404, MARK), (REFUSED,) * 4),
        (answer(404, MARK, GONE), (REFUSED,) * 4),
        (answer(404, {}, SIGNED), (REFUSED,) * 4),
        (answer(404, MARK, KONG), (STRANGER,) * 4),
        (answer(404, MARK, NO_SEGMENT), (STRANGER,) * 4),
        *((answer(status, MARK), (REFUSED,) * 4) for status in (400, 401, 403, 409, 410, 423)),
        (answer(429), (REFUSED,) * 4),
        (answer(429, HTML, PAGE), (REFUSED,) * 4),
        *((answer(status, MARK), (UNCLEAR,) * 4) for status in (408, 500, 502, 503, 504)),
        *((answer(status, HTML, PAGE), (UNCLEAR,) * 4) for status in (500, 502, 503, 504)),
    ],
    ids=lambda value: (
        f"{value.status} {dict(value.headers)} {value.body[:30]!r}" if isinstance(value, Response) else ""
    ),
)
def test_each_answer_is_worth_what_the_table_says(given: Response, words: tuple[Verdict, ...]) -> None:
    assert tuple(verdict_of(verb, given) for verb in GraphAction) == words


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (answer(404, MARK, GONE), GraphCallNotFound),
        (answer(404), GraphNotReached),
        (answer(404, MARK | HTML, PAGE), GraphNotReached),
        (answer(404, MARK, NO_SEGMENT), GraphNotReached),
        (answer(400, MARK, b'{"error": {"code": "8528"}}'), GraphCallNotFound),
        (answer(400, {}, b'{"error": {"code": "8528"}}'), GraphNotReached),
        (answer(403, MARK), GraphForbidden),
        (answer(403, HTML, PAGE), GraphNotReached),
        (answer(401, HTML, PAGE), GraphNotReached),
        (answer(408, MARK), GraphUnavailable),
        (answer(410, MARK), GraphRejected),
        (answer(200, HTML, PAGE), GraphNotReached),
        (answer(200), GraphUnavailable),
    ],
    ids=lambda value: f"{value.status} {dict(value.headers)}" if isinstance(value, Response) else value.__name__,
)
def test_each_answer_becomes_one_error(given: Response, kind: type[Exception]) -> None:
    assert type(error_from_response(given, VirtualClock().now())) is kind
