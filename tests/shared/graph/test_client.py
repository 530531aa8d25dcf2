"""Graph's calls API over real HTTP: what is sent, and what each kind of answer means."""

import asyncio
import gzip
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from shared import errors
from shared.api.validation import read_json
from shared.config.settings import load_settings
from shared.domain.notifications import OperationNotification, ResultInfo
from shared.errors import GraphError, InvalidRequest, TokenUnavailable
from shared.graph.client import GraphCall, GraphCalls
from shared.graph.error_mapping import parse_retry_after
from shared.graph.recording import RecordRequest, caller_context
from shared.http_client import MAX_RESPONSE_BODY, HttpClient, make_http_client

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
type Serve = Callable[..., Awaitable[str]]
type Connect = Callable[..., GraphCalls]

CALL = "2e1a0b00-2db4-4022-9570-243709c565ab"
OPERATION = "0fe0623f-d628-42ed-b4bd-8ac290072cc5"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
DEFAULTS = RecordRequest()
MARK = {"request-id": "r-1"}  # Graph's, in each of its answers


class Tokens:
    """Gives `first`, then `second` once it was asked to refresh."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.apps: list[str | None] = []

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        self.asked.append((tenant_id, refresh))
        self.apps.append(app_id)
        return "second-token" if refresh else "first-token"


class StillClock:
    def now(self) -> datetime:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
async def connect(tokens: Tokens) -> AsyncIterator[Connect]:
    clients = []

    def connected(url: str, **env: str) -> GraphCalls:
        settings = load_settings(
            {
                "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
                "GRAPH_APP_ID": "aaaaaaaa-1111-2222-3333-444444444444",
                "CALLS_STORAGE": "UseDevelopmentStorage=true",
                "GRAPH_BASE_URL": url,
                "GRAPH_TIMEOUT": "PT5S",
                **env,
            }
        )
        clients.append(make_http_client(settings.keep_alive_concurrency))
        return GraphCalls(clients[-1], tokens, settings, StillClock())

    yield connected
    for client in clients:
        await client.close()


def answering(*answers: Callable[[], web.Response], seen: list[web.Request] | None = None) -> Handler:
    """Answers in turn; the last one again and again."""
    left = list(answers)

    async def handler(request: web.Request) -> web.Response:
        if seen is not None:
            await request.read()
            seen.append(request)
        return (left.pop(0) if len(left) > 1 else left[0])()

    return handler


def done() -> web.Response:
    """Graph's answer to a keepAlive (microsoft-graph-docs#9186)."""
    return web.Response(headers=MARK, content_type="text/plain")


def found(body: object) -> Callable[[], web.Response]:
    """Graph's answer with a body."""
    return lambda: web.json_response(body, headers=MARK)


def graph_error(status: int, code: object, message: str = "", **headers: str) -> Callable[[], web.Response]:
    body = {"error": {"code": code, "message": message, "innerError": {"request-id": "7"}}}
    return lambda: web.json_response(body, status=status, headers={"request-id": "r-1", **headers})


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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_token_follows_no_redirect(serve: Serve, connect: Connect, status: int) -> None:
    seen: list[web.Request] = []
    elsewhere = await serve(answering(done, seen=seen))
    graph = connect(await serve(answering(lambda: web.Response(status=status, headers={"location": elsewhere}))))

    for asked in (
        graph.keep_alive(CALL, TENANT),
        graph.hang_up(CALL, TENANT),
        graph.get(CALL, TENANT),
        graph.record(CALL, TENANT, DEFAULTS),
    ):
        with pytest.raises(errors.GraphUnavailable, match="redirect"):
            await asked

    assert seen == []


async def test_cookies_are_neither_kept_nor_sent(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(
        await serve(answering(lambda: web.Response(headers=MARK | {"set-cookie": "tenant=other; Path=/"}), seen=seen))
    )

    await graph.keep_alive(CALL, TENANT)
    await graph.keep_alive(CALL, TENANT)

    assert ["cookie" in request.headers for request in seen] == [False, False]


async def test_silence_ends_with_the_time_out(serve: Serve, connect: Connect) -> None:
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    graph = connect(await serve(silent), GRAPH_TIMEOUT="PT0.1S")

    with pytest.raises(errors.GraphUnavailable, match=r"no answer within 0\.1 s") as caught:
        await graph.keep_alive(CALL, TENANT)

    assert caught.value.status is None


async def test_a_body_that_drips_ends_with_the_same_time_out(serve: Serve, connect: Connect) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=500, headers={"request-id": "r-9"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    graph = connect(await serve(dripping), GRAPH_TIMEOUT="PT1S")

    with pytest.raises(errors.GraphUnavailable) as caught:
        await graph.keep_alive(CALL, TENANT)

    assert (caught.value.status, caught.value.request_id) == (500, "r-9")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk",
        b"HTTP/1.1 500 Trouble\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 500 Trouble\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain",
        b"HTTP/1.1 500 Trouble\r\ncontent-length: 999999\r\n\r\n" + b"x" * 999_999,
    ],
    ids=["reset", "closed", "not HTTP", "no status", "no chunks", "broken off", "404 broken off", "no gzip", "huge"],
)
async def test_what_is_no_whole_answer_is_unavailability(
    serve_bytes: Serve, connect: Connect, answer: bytes | None
) -> None:
    with pytest.raises(errors.GraphUnavailable):
        await connect(await serve_bytes(answer)).keep_alive(CALL, TENANT)


async def test_nobody_at_home_is_unavailability(connect: Connect) -> None:
    with pytest.raises(errors.GraphUnavailable, match=r"no usable answer \(ClientConnectorError\)"):
        await connect("http://127.0.0.1:9").keep_alive(CALL, TENANT)


async def test_messages_hold_no_secret_and_stay_short(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    message = f"Bad\r\nprompt https://cdn.example/a.wav?sig=abc and {'s3cret' * 20} " + "word " * 100
    graph = connect(await serve(answering(graph_error(400, "BadRequest", message))))

    with pytest.raises(errors.GraphRejected) as caught:
        await graph.keep_alive(CALL, TENANT)

    told = str(caught.value)
    assert "Bad prompt … and … word" in told
    assert len(told) < 300
    assert "first-token" not in told + caplog.text


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


def recording(client_context: str | None = None) -> OperationNotification:
    """Return a recording that Graph has started."""
    return OperationNotification(
        CALL, OPERATION, "recordOperation", deleted=False, status="running", client_context=client_context
    )


async def test_a_recording_is_asked_for_in_graphs_words(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    body = {
        "@odata.type": "#microsoft.graph.recordOperation",
        "id": OPERATION.upper().replace("-", ""),
        "status": "running",
        "resultInfo": None,
        "recordingLocation": None,
        "clientContext": "mine",
    }
    graph = connect(await serve(answering(lambda: web.json_response(body), seen=seen)))
    request = read_json(RecordRequest, b'{"playBeep": false, "stopTones": ["#"]}', context="recordResponse")

    assert await graph.record(CALL, TENANT, request) == recording(client_context="mine")
    assert seen[0].raw_path == f"/v1.0/communications/calls/{CALL}/recordResponse"
    sent = await seen[0].json()
    assert caller_context(sent.pop("clientContext")) is None
    assert sent == {"playBeep": False, "stopTones": ["#"]}


async def test_each_recording_has_a_client_context_of_the_caller_or_of_our_own(serve: Serve, connect: Connect) -> None:
    """Bots on Microsoft's SDK answer 400 to a whole notification body whose operation has none."""
    seen: list[web.Request] = []
    graph = connect(await serve(answering(found({"id": OPERATION}), seen=seen)))

    for body in (b"{}", b"{}", b'{"clientContext": null}', b'{"clientContext": ""}', b'{"clientContext": "mine"}'):
        await graph.record(CALL, TENANT, read_json(RecordRequest, body, context="recordResponse"))

    *own, mine = [(await request.json())["clientContext"] for request in seen]
    assert mine == caller_context(mine) == "mine"
    assert len(set(own)) == len(own) == 4
    assert all(context and caller_context(context) is None for context in own)


async def test_a_recording_may_be_over_at_once(serve: Serve, connect: Connect) -> None:
    body = {
        "id": OPERATION,
        "status": "failed",
        "resultInfo": {"code": "400", "subcode": "8508", "message": "Cancelled."},
        "recordResourceLocation": "https://file.example/1",
        "recordResourceAccessToken": "s3cret",
    }
    graph = connect(await serve(answering(found(body))))

    operation = await graph.record(CALL, TENANT, DEFAULTS)

    assert operation.status == "failed"
    assert operation.result == ResultInfo(400, 8508, message="Cancelled.")
    assert (operation.recording_location, operation.recording_access_token) == ("https://file.example/1", "s3cret")
    assert "s3cret" not in repr(operation)


async def test_the_old_action_is_in_beta(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(
        await serve(answering(lambda: web.json_response({"id": OPERATION}), seen=seen)), GRAPH_RECORD_API="record"
    )

    await graph.record(CALL, TENANT, read_json(RecordRequest, b'{"streamWhileRecording": true}', context="record"))

    assert seen[0].raw_path == f"/beta/communications/calls/{CALL}/record"
    sent = await seen[0].json()
    assert sent.pop("clientContext")
    assert sent == {"streamWhileRecording": True}


@pytest.mark.parametrize(
    "location",
    [
        f"https://graph.microsoft.com/beta/app/calls/{CALL}/operations/{OPERATION}",
        f"/communications/calls/{CALL}/operations/{OPERATION.upper().replace('-', '')}/",
        f"operations/{OPERATION}?x=1",
    ],
)
@pytest.mark.parametrize("body", ["", "{}", '{"id": "a/b"}', '{"id": 5}'])
async def test_the_location_names_the_operation_where_the_body_does_not(
    serve: Serve, connect: Connect, location: str, body: str
) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=202, headers={"location": location}, text=body))))

    assert await graph.record(CALL, TENANT, DEFAULTS) == recording()


async def test_the_location_counts_even_if_the_body_breaks_off(serve_bytes: Serve, connect: Connect) -> None:
    answer = f"HTTP/1.1 200 OK\r\nlocation: /x/operations/{OPERATION}\r\ncontent-length: 99\r\n\r\n{{".encode()

    operation = await connect(await serve_bytes(answer)).record(CALL, TENANT, DEFAULTS)

    assert operation.operation_id == OPERATION


@pytest.mark.parametrize("location", ["", f"/communications/calls/{CALL}", "/operations/", "http://["])
async def test_a_recording_without_an_operation_may_have_started(serve: Serve, connect: Connect, location: str) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=202, headers={"location": location}))))

    with pytest.raises(errors.GraphUnavailable, match="may have started"):
        await graph.record(CALL, TENANT, DEFAULTS)


async def test_a_recording_is_not_sent_again_after_an_error(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(lambda: web.Response(status=503), done, seen=seen)))

    with pytest.raises(errors.GraphUnavailable):
        await graph.record(CALL, TENANT, DEFAULTS)

    assert len(seen) == 1


async def test_as_many_requests_run_at_once_as_are_set(serve: Serve, connect: Connect) -> None:
    waiting = asyncio.Barrier(256)

    async def together(_: web.Request) -> web.Response:
        await waiting.wait()
        return done()

    graph = connect(await serve(together), KEEP_ALIVE_CONCURRENCY="256", GRAPH_TIMEOUT="PT20S")

    await asyncio.gather(*(graph.keep_alive(CALL, TENANT) for _ in range(256)))


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


async def test_tls_is_checked_against_the_certificates_of_the_environment(
    serve: Serve,
    connect: Connect,
    tls: tuple[ssl.SSLContext, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, certificate = tls
    url = await serve(answering(done), context)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(errors.GraphUnavailable):
        await connect(url).keep_alive(CALL, TENANT)

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    await connect(url).keep_alive(CALL, TENANT)


async def test_a_proxy_of_the_environment_is_not_used(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    await connect(await serve(answering(done))).keep_alive(CALL, TENANT)


async def test_a_body_is_not_asked_for_packed_and_would_not_be_unpacked(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    packed = gzip.compress(b'{"state": "established"}')
    headers = {"content-encoding": "gzip"}
    graph = connect(await serve(answering(lambda: web.Response(body=packed, headers=headers), seen=seen)))

    with pytest.raises(errors.GraphUnavailable):
        await graph.get(CALL, TENANT)

    assert seen[0].headers["accept-encoding"] == "identity"


async def test_a_cancelled_request_leaves_the_client_usable(serve: Serve, connect: Connect) -> None:
    async def slow_first(_: web.Request) -> web.Response:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        return done()

    started = asyncio.Event()
    graph = connect(await serve(slow_first))
    request = asyncio.create_task(graph.keep_alive(CALL, TENANT))
    await started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request

    await graph.keep_alive(CALL, TENANT)


def test_the_client_is_made_outside_a_loop() -> None:
    assert isinstance(make_http_client(32), HttpClient)
