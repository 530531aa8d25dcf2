"""The transport under the client: timeouts, broken answers, TLS, proxies, redirects and cookies."""

import asyncio
import gzip
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from shared import errors
from shared.http_client import HttpClient, make_http_client
from tests.shared.graph.graph_answers import CALL, DEFAULTS, MARK, TENANT, Connect, Serve, answering, done


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


async def test_as_many_requests_run_at_once_as_are_set(serve: Serve, connect: Connect) -> None:
    waiting = asyncio.Barrier(256)

    async def together(_: web.Request) -> web.Response:
        await waiting.wait()
        return done()

    graph = connect(await serve(together), KEEP_ALIVE_CONCURRENCY="256", GRAPH_TIMEOUT="PT20S")

    await asyncio.gather(*(graph.keep_alive(CALL, TENANT) for _ in range(256)))


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
