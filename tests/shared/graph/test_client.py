"""The client of Graph's calls API over real HTTP: the requests, and the meaning of each answer."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from aiohttp import web

from shared import errors
from shared.domain.notifications import ResultInfo
from shared.errors import GraphError, InvalidRequest, TokenUnavailable
from shared.graph.client import GraphCall
from shared.graph.error_mapping import _MAX_MESSAGE_LENGTH, parse_retry_after
from shared.http_client import MAX_RESPONSE_BODY
from tests.shared.graph.graph_answers import (
    CALL,
    DEFAULTS,
    MARK,
    NOW,
    TENANT,
    Connect,
    Serve,
    Tokens,
    answering,
    done,
    found,
    graph_error,
)


async def test_keep_alive_is_a_post_without_a_body(serve: Serve, connect: Connect, tokens: Tokens) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(done, seen=seen)))

    await graph.keep_alive(CALL, TENANT)

    (request,) = seen
    assert (request.method, request.raw_path) == ("POST", f"/v1.0/communications/calls/{CALL}/keepAlive")
    assert request.headers["authorization"] == "Bearer first-token"
    assert len(request.headers["client-request-id"]) == 36
    assert await request.read() == b""
    assert "content-type" not in request.headers
    assert tokens.asked == [(TENANT, False)]


async def test_hanging_up_is_a_delete(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(lambda: web.Response(status=204, headers=MARK), seen=seen)))

    await graph.hang_up(CALL, TENANT)

    assert (seen[0].method, seen[0].raw_path) == ("DELETE", f"/v1.0/communications/calls/{CALL}")


async def test_each_question_is_asked_with_a_token_of_the_calls_app(
    serve: Serve, connect: Connect, tokens: Tokens
) -> None:
    graph = connect(await serve(answering(found({"state": "established", "id": CALL}))))

    await graph.keep_alive(CALL, TENANT, "app-b")
    await graph.hang_up(CALL, TENANT, "app-b")
    await graph.get(CALL, TENANT, "app-b")
    await graph.record(CALL, TENANT, DEFAULTS, "app-b")
    await graph.keep_alive(CALL, TENANT)

    assert tokens.apps == ["app-b"] * 4 + [None]


async def test_ids_are_quoted(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(done, seen=seen)))

    await graph.hang_up("19:a@b é&c", TENANT)

    assert seen[0].path == "/v1.0/communications/calls/19:a@b é&c"
    assert "%20" in seen[0].raw_path


@pytest.mark.parametrize("call_id", [".", ".."])
async def test_an_id_that_would_climb_the_path_is_never_sent(connect: Connect, call_id: str) -> None:
    with pytest.raises(InvalidRequest):
        await connect("http://127.0.0.1:9").hang_up(call_id, TENANT)


async def test_a_base_url_may_have_a_path(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(done, seen=seen)) + "/graph/")

    await graph.keep_alive(CALL, TENANT)

    assert seen[0].raw_path == f"/graph/v1.0/communications/calls/{CALL}/keepAlive"


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_renews(serve: Serve, connect: Connect, status: int) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=status, headers=MARK))))

    await graph.keep_alive(CALL, TENANT)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nrequest-id: r-1\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nrequest-id: r-1\r\ncontent-length: 9999999\r\n\r\n" + b"x" * MAX_RESPONSE_BODY * 2,
    ],
    ids=["broken off", "huge"],
)
async def test_a_renewal_needs_no_body(serve_bytes: Serve, connect: Connect, answer: bytes) -> None:
    await connect(await serve_bytes(answer)).keep_alive(CALL, TENANT)


async def test_a_call_is_looked_up(serve: Serve, connect: Connect) -> None:
    body = {"id": CALL, "state": "terminated", "resultInfo": {"code": "200", "subCode": 5001, "message": "over"}}
    graph = connect(await serve(answering(found(body))))

    assert await graph.get(CALL, TENANT) == GraphCall("terminated", ResultInfo(200, 5001, message="over"))


async def test_a_live_call_has_no_result(serve: Serve, connect: Connect) -> None:
    graph = connect(await serve(answering(found({"state": "established", "resultInfo": None}))))

    assert await graph.get(CALL, TENANT) == GraphCall("established")


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"state": 5}', '{"state": "terminated", "id": "another"}', "[" * 100_000]
)
async def test_a_lookup_without_a_call_is_no_answer(serve: Serve, connect: Connect, body: str) -> None:
    graph = connect(await serve(answering(lambda: web.Response(text=body, headers=MARK))))

    with pytest.raises(errors.GraphUnavailable, match="not a call"):
        await graph.get(CALL, TENANT)


@pytest.mark.parametrize(
    ("answer", "kind", "subcode"),
    [
        (graph_error(404, "8522", "Call not found."), errors.GraphCallNotFound, 8522),
        (lambda: web.Response(status=404, headers=MARK), errors.GraphCallNotFound, None),
        (graph_error(400, "8528", "Call terminated."), errors.GraphCallNotFound, 8528),
        (graph_error(400, "8501", "Call is not established."), errors.GraphRejected, 8501),
        (lambda: web.Response(status=400, headers=MARK), errors.GraphRejected, None),
        (graph_error(401, "InvalidAuthenticationToken"), errors.GraphRejected, None),
        (graph_error(403, "7504", "Insufficient permissions."), errors.GraphForbidden, 7504),
        (graph_error(403, 7505, "Tenant mismatch."), errors.GraphForbidden, 7505),
        (graph_error(403, "Forbidden", "Source identity invalid. 7507"), errors.GraphForbidden, 7507),
        (graph_error(409, "8519", "Conflict."), errors.GraphRejected, 8519),
        (graph_error(429, "8516", "Throttled."), errors.GraphThrottled, 8516),
        (graph_error(500, "UnknownError", "DiagCode: 500#1005.@"), errors.GraphUnavailable, 1005),
        (graph_error(503, "8500"), errors.GraphUnavailable, 8500),
        (lambda: web.Response(status=502, text="<html>"), errors.GraphUnavailable, None),
        (lambda: web.Response(status=304), errors.GraphNotReached, None),
    ],
    ids=[
        *("404 8522", "404 without a body", "400 8528", "400 8501", "400 without a body", "401", "403 7504"),
        *("403 7505", "403 7507 in the message", "409 8519", "429 8516", "500 1005 in the message", "503 8500"),
        *("502 of a proxy", "304 of a proxy"),
    ],
)
async def test_each_answer_has_one_meaning(
    serve: Serve, connect: Connect, answer: Callable[[], web.Response], kind: type[GraphError], subcode: int | None
) -> None:
    graph = connect(await serve(answering(answer)))

    with pytest.raises(GraphError) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert type(caught.value) is kind
    assert caught.value.subcode == subcode
    assert caught.value.status == answer().status
    assert caught.value.request_id == answer().headers.get("request-id")


@pytest.mark.parametrize(
    "error",
    [
        {"code": "Forbidden", "innerError": {"code": "7505"}},
        {"code": "Forbidden", "innererror": {"innerError": {"subCode": 7505}}},
        {"code": "403", "subcode": "7505"},
        {"code": "Forbidden", "message": "Tenant mismatch. DiagCode: 403#7505.@"},
        {"code": "Forbidden#7505"},
        {"code": "Forbidden", "message": "Refused with error code 7505, see the page."},
        {"code": "Forbidden", "message": "Refused (7505) by 127.0.0.1:8080."},
        {"code": "Forbidden", "message": '{"errorCode":"7505","message":"Mismatch","instanceAnnotations":[]}'},
        {"code": "Forbidden", "message": '{"error":{"code":7505,"message":"Mismatch"}}'},
        {"code": "Forbidden", "message": "7505: request 7900-8001 at 2026-08-01T07:50:05 by app-8000 refused"},
    ],
    ids=[
        *("innerError", "innererror, twice", "subcode", "DiagCode", "after #", "after the words error code"),
        *("in brackets", "JSON in the message", "JSON with an error in the message", "at the start of the message"),
    ],
)
async def test_the_subcode_is_found_where_graph_puts_it(serve: Serve, connect: Connect, error: object) -> None:
    graph = connect(await serve(answering(lambda: web.json_response({"error": error}, status=403, headers=MARK))))

    with pytest.raises(errors.GraphForbidden) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.subcode == 7505


@pytest.mark.parametrize(
    "message",
    ["No route to 127.0.0.1:8080", "Port 8080 is shut", "At 8001 ms", "{8080", '{"message": "to host:8080"}', "[8080]"],
)
async def test_a_number_that_is_no_code_is_no_subcode(serve: Serve, connect: Connect, message: str) -> None:
    graph = connect(await serve(answering(graph_error(403, "Forbidden", message))))

    with pytest.raises(errors.GraphForbidden) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.subcode is None


@pytest.mark.parametrize("code", ["+8528", "8528.0", 8528.0, True])
async def test_only_an_integer_is_a_subcode_that_ends_a_call(serve: Serve, connect: Connect, code: object) -> None:
    error = {"code": code, "message": "Call terminated."}
    graph = connect(await serve(answering(lambda: web.json_response({"error": error}, status=400, headers=MARK))))

    with pytest.raises(errors.GraphRejected) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.subcode is None


@pytest.mark.parametrize("body", ["[]", '"x"', '{"error": "x"}', '{"error": {"code": true, "message": 7}}', "\0"])
async def test_a_strange_error_body_does_no_harm(serve: Serve, connect: Connect, body: str) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=403, text=body, headers=MARK))))

    with pytest.raises(errors.GraphForbidden) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.subcode is None


async def test_a_refused_token_is_renewed_once(serve: Serve, connect: Connect, tokens: Tokens) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(lambda: web.Response(status=401, headers=MARK), done, seen=seen)))

    await graph.keep_alive(CALL, TENANT)

    assert [request.headers["authorization"] for request in seen] == ["Bearer first-token", "Bearer second-token"]
    assert tokens.asked == [(TENANT, False), (TENANT, True)]


async def test_a_second_refusal_is_final(serve: Serve, connect: Connect, tokens: Tokens) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(lambda: web.Response(status=401, headers=MARK), seen=seen)))

    with pytest.raises(errors.GraphRejected) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.status == 401
    assert len(seen) == 2
    assert len(tokens.asked) == 2


async def test_without_a_token_nothing_is_sent(
    serve: Serve, connect: Connect, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(tenant_id: str, _app_id: str | None, *, refresh: bool = False) -> str:
        raise TokenUnavailable(f"No Graph token for tenant {tenant_id} ({refresh}).")

    seen: list[web.Request] = []
    graph = connect(await serve(answering(done, seen=seen)))
    monkeypatch.setattr(tokens, "get", none)

    with pytest.raises(TokenUnavailable):
        await graph.keep_alive(CALL, TENANT)

    assert seen == []


async def test_messages_hold_no_secret_and_stay_short(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    message = f"Bad\r\nprompt https://cdn.example/a.wav?sig=abc and {'s3cret' * 20} " + "word " * 100
    graph = connect(await serve(answering(graph_error(400, "BadRequest", message))))

    with pytest.raises(errors.GraphRejected) as caught:
        await graph.keep_alive(CALL, TENANT)

    message = str(caught.value)
    assert "Bad prompt … and … word" in message
    assert len(message) < 100 + _MAX_MESSAGE_LENGTH  # words of our own, then Graph's
    assert "first-token" not in message + caplog.text


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("2.128", 2.128),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("900.5", 900.0),
        ("1000000000", 900.0),
        *(
            (text, None)
            for text in ("-5", "+5", "1e9", "inf", "-inf", "Infinity", "nan", "0x10", "1_0", "५", "1.", ".5")
        ),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 13:00:30 +0100", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2099 11:00:00 GMT", 900.0),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


async def test_throttling_says_how_long_to_wait(serve: Serve, connect: Connect) -> None:
    graph = connect(await serve(answering(graph_error(429, "8516", **{"retry-after": "2.128"}))))

    with pytest.raises(errors.GraphThrottled) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.retry_after == 2.128


async def test_requests_of_all_kinds_together_keep_to_the_set_pace(serve: Serve, connect: Connect) -> None:
    now = asyncio.get_running_loop().time
    came: list[float] = []

    async def note(_: web.Request) -> web.Response:
        came.append(now())
        return done()

    graph = connect(await serve(note), GRAPH_REQUESTS_PER_SECOND="2")
    began = now()
    await asyncio.gather(graph.keep_alive(CALL, TENANT), graph.keep_alive(CALL, TENANT), graph.hang_up(CALL, TENANT))

    assert max(came) - began >= 1
