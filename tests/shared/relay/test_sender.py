"""HTTP to bots over real connections: what is sent, which addresses are refused, and what became of a request."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from shared.http_client import MAX_RESPONSE_BODY
from shared.relay.sender import Answer, NotSent, RelaySender

type Serve = Callable[..., Awaitable[str]]
type MakeSender = Callable[..., RelaySender]

SOON = timedelta(seconds=5)
HEADERS = {
    "Authorization": "Bearer hush-hush",
    "Content-Type": "application/json; charset=utf-8",
    "Scenario-Id": "s-1",
    "webhook-id": "00-1-a",
}
BODY = b'{"value": [ ]}\r\n\xff'
PUBLIC = "93.184.216.34"  # nothing here connects to it


@pytest.fixture
async def make_sender() -> AsyncIterator[MakeSender]:
    senders = []

    def make(*, allow_private: bool = False, connections: int = 8, **more: object) -> RelaySender:
        senders.append(RelaySender(allow_private=allow_private, connections=connections, **more))  # type: ignore[arg-type]  # of `resolve` alone
        return senders[-1]

    yield make
    for sender in senders:
        await sender.close()


@pytest.fixture
def trusted(tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the TLS context of a server for 127.0.0.1 and bot.example, whose certificate is trusted."""
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    return tls[0]


class Names:
    """A resolver whose answers change: each lookup gets the next one, and the last one again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.left = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


class RawServer:
    """A server that keeps the bytes of each connection, and answers each request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.open = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received.append(b"")
        self.open += 1
        try:
            while found := await reader.read(65_536):
                self.received[-1] += found
                if self.received[-1].endswith(BODY):
                    writer.write(self.answer)
                    await writer.drain()
        except OSError:
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def raw() -> AsyncIterator[Callable[[bytes], Awaitable[tuple[RawServer, str]]]]:
    servers = []

    async def start(answer: bytes) -> tuple[RawServer, str]:
        server = RawServer(answer)
        servers.append(await asyncio.start_server(server.connected, "127.0.0.1", 0))
        return server, f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        server.close_clients()


async def error_of(sending: Awaitable[Answer]) -> str:
    with pytest.raises(NotSent) as caught:
        await sending
    assert str(caught.value) == caught.value.error
    return caught.value.error


async def accept(_: web.Request) -> web.Response:
    return web.Response(status=202)


async def test_exactly_these_headers_and_bytes_are_sent(
    make_sender: MakeSender, raw: Callable[[bytes], Awaitable[tuple[RawServer, str]]]
) -> None:
    server, url = await raw(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    answer = await make_sender().post(f"{url}/a%2Fb/~x", HEADERS, BODY, SOON)

    assert (answer.status, answer.body) == (202, b"")
    head, _, body = server.received[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /a%2Fb/~x HTTP/1.1"
    assert body == BODY
    assert sorted(lines, key=str.lower) == [
        "accept-encoding: identity",
        "Authorization: Bearer hush-hush",
        f"Content-Length: {len(BODY)}",
        "Content-Type: application/json; charset=utf-8",
        f"Host: {url.removeprefix('http://')}",
        "Scenario-Id: s-1",
        "user-agent: call-keeper",
        "webhook-id: 00-1-a",
    ]


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1, 4 * 2**20], ids=["empty", "one byte", "over 1 MiB", "4 MiB"])
async def test_a_body_of_any_size_arrives_unchanged_and_without_a_type_of_ours(
    serve: Serve, make_sender: MakeSender, size: int
) -> None:
    sent = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    seen: list[tuple[bytes, bool, str | None]] = []

    async def keep(request: web.Request) -> web.Response:
        seen.append(
            (await request.content.read(), "content-type" in request.headers, request.headers["content-length"])
        )
        return web.Response()

    await make_sender().post(await serve(keep), {}, sent, SOON)

    assert seen == [(sent, False, str(size))]


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 308, 401, 410, 429, 500, 503])
async def test_any_status_is_an_answer_and_no_redirect_is_followed(
    serve: Serve, make_sender: MakeSender, status: int
) -> None:
    asked: list[str] = []

    async def note(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"location": "/elsewhere", "retry-after": "7"})

    answer = await make_sender().post(f"{await serve(note)}/here", HEADERS, BODY, SOON)

    assert (answer.status, answer.headers["Retry-After"], answer.headers["retry-after"]) == (status, "7", "7")
    assert asked == ["/here"]


async def test_cookies_are_neither_kept_nor_sent(serve: Serve, make_sender: MakeSender) -> None:
    seen: list[bool] = []

    async def bake(request: web.Request) -> web.Response:
        seen.append("cookie" in request.headers)
        return web.Response(headers={"set-cookie": "tenant=other; Path=/"})

    sender, url = make_sender(), await serve(bake)
    await sender.post(url, HEADERS, BODY, SOON)
    await sender.post(url, HEADERS, BODY, SOON)

    assert seen == [False, False]


async def test_a_proxy_of_the_environment_is_not_used(
    serve: Serve, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    assert (await make_sender().post(await serve(accept), HEADERS, BODY, SOON)).status == 202


@pytest.mark.parametrize("size", [0, 5, MAX_RESPONSE_BODY], ids=["empty", "five bytes", "256 KiB"])
async def test_a_body_is_read_on_demand(serve: Serve, make_sender: MakeSender, size: int) -> None:
    async def talk(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * size, content_type="application/json")

    sender, url = make_sender(), await serve(talk)
    read = await sender.post(url, HEADERS, BODY, SOON, read_body=True)

    assert (read.body, read.headers["content-type"]) == (b"x" * size, "application/json")
    assert (await sender.post(url, HEADERS, BODY, SOON)).body == b""


async def test_a_packed_body_is_not_unpacked(serve: Serve, make_sender: MakeSender) -> None:
    async def pack(_: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"{}"), headers={"content-encoding": "gzip"})

    read = await make_sender().post(await serve(pack), HEADERS, BODY, SOON, read_body=True)

    assert gzip.decompress(read.body) == b"{}"


async def test_a_body_that_is_too_large_is_an_error_only_if_it_is_read(serve: Serve, make_sender: MakeSender) -> None:
    async def talk(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (MAX_RESPONSE_BODY + 1))

    sender, url = make_sender(), await serve(talk)

    assert await error_of(sender.post(url, HEADERS, BODY, SOON, read_body=True)) == "bodyTooLarge"
    assert (await sender.post(url, HEADERS, BODY, SOON)).status == 200


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        (b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 1),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\nhalf", 3),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", 3),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 3),
    ],
    ids=["no body", "body arrived", "body to come", "chunks to come", "closed by the bot"],
)
async def test_a_connection_is_used_again_unless_something_is_still_to_come(
    make_sender: MakeSender,
    raw: Callable[[bytes], Awaitable[tuple[RawServer, str]]],
    answer: bytes,
    connections: int,
) -> None:
    server, url = await raw(answer)
    sender = make_sender()
    for _ in range(3):
        await sender.post(url, HEADERS, BODY, SOON)

    assert len(server.received) == connections
    assert b"".join(server.received).count(b"POST /") == 3


async def test_an_answer_before_the_whole_body_was_sent_is_taken(serve: Serve, make_sender: MakeSender) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=413)

    answer = await make_sender().post(await serve(refuse), HEADERS, b"x" * 4 * 2**20, SOON)

    assert answer.status == 413


async def silent(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def never(_: str) -> Sequence[str]:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("handler", [silent, drip], ids=["no answer", "a body that drips"])
async def test_the_timeout_covers_the_whole_answer(
    serve: Serve, make_sender: MakeSender, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> None:
    sending = make_sender().post(await serve(handler), HEADERS, BODY, timedelta(seconds=0.3), read_body=True)

    assert await error_of(sending) == "timeout"


async def test_the_timeout_covers_the_lookup_and_the_wait_for_a_connection(
    serve: Serve, make_sender: MakeSender
) -> None:
    short = timedelta(seconds=0.2)
    assert await error_of(make_sender(resolve=never).post("https://bot.example", HEADERS, BODY, short)) == "timeout"

    sender, url = make_sender(connections=2), await serve(silent)
    waiting = [error_of(sender.post(url, HEADERS, BODY, short)) for _ in range(3)]
    assert await asyncio.gather(*waiting) == ["timeout"] * 3


async def test_a_host_that_hangs_leaves_connections_to_others(serve: Serve, make_sender: MakeSender) -> None:
    sender, hanging, healthy = make_sender(connections=4), await serve(silent), await serve(accept)
    stuck = [asyncio.create_task(error_of(sender.post(hanging, HEADERS, BODY, SOON / 5))) for _ in range(9)]
    await asyncio.sleep(0)

    assert (await sender.post(healthy, HEADERS, BODY, SOON)).status == 202
    assert not any(task.done() for task in stuck)
    assert await asyncio.gather(*stuck) == ["timeout"] * 9


async def test_no_connection_is_refused(make_sender: MakeSender) -> None:
    async def unknown(_: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def empty(_: str) -> Sequence[str]:
        return []

    assert await error_of(make_sender().post("http://127.0.0.1:9", HEADERS, BODY, SOON)) == "refused"
    for resolve in (unknown, empty):
        sending = make_sender(resolve=resolve).post("https://bot.example", HEADERS, BODY, SOON)
        assert await error_of(sending) == "refused"


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno chunk",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 600 More\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["reset", "closed", "not HTTP", "no status", "broken off", "no chunks", "not final", "no such status"],
)
async def test_what_is_no_whole_answer_is_broken(
    serve_bytes: Serve, make_sender: MakeSender, answer: bytes | None
) -> None:
    sending = make_sender().post(await serve_bytes(answer), HEADERS, BODY, SOON, read_body=True)

    assert await error_of(sending) == "broken"


async def test_a_header_that_would_be_two_is_not_sent(serve: Serve, make_sender: MakeSender) -> None:
    sending = make_sender().post(await serve(accept), {"Scenario-Id": "a\r\nHost: b"}, BODY, SOON)

    assert await error_of(sending) == "broken"


async def test_tls_is_checked_for_the_name_and_against_the_certificates_of_the_app(
    serve: Serve, make_sender: MakeSender, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await serve(accept, trusted)
    port = url.rpartition(":")[2]
    to_here = Names(["127.0.0.1"])
    named = make_sender(allow_private=True, resolve=to_here)

    assert (await make_sender().post(url, HEADERS, BODY, SOON)).status == 202
    assert (await named.post(f"https://bot.example:{port}", HEADERS, BODY, SOON)).status == 202
    assert await error_of(named.post(f"https://other.example:{port}", HEADERS, BODY, SOON)) == "tls"
    assert await error_of(named.post(f"https://localhost:{port}", HEADERS, BODY, SOON)) == "tls"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert await error_of(make_sender().post(url, HEADERS, BODY, SOON)) == "tls"


async def test_a_server_without_tls_is_a_fault_of_tls(serve: Serve, make_sender: MakeSender) -> None:
    url = (await serve(accept)).replace("http://", "https://")

    assert await error_of(make_sender().post(url, HEADERS, BODY, SOON)) == "tls"


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["0.0.0.0"],
        ["100.64.0.1"],
        ["169.254.169.254"],
        ["168.63.129.16"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%eth0"],
        [PUBLIC, "10.0.0.1"],
    ],
    ids=str,
)
async def test_a_name_that_leads_to_a_wrong_address_is_refused(make_sender: MakeSender, addresses: list[str]) -> None:
    names = Names(addresses)
    sender = make_sender(resolve=names)

    sending = [error_of(sender.post("https://bot.example/x", HEADERS, BODY, SOON)) for _ in range(3)]

    assert set(await asyncio.gather(*sending)) == {"addressRefused"}
    assert set(names.asked) == {"bot.example"}


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "fe80::1", "::ffff:169.254.1.1"])
async def test_a_link_local_address_is_refused_even_if_private_ones_are_allowed(
    make_sender: MakeSender, address: str
) -> None:
    sender = make_sender(allow_private=True, resolve=Names(["127.0.0.1", address]))

    assert await error_of(sender.post("https://bot.example", HEADERS, BODY, SOON)) == "addressRefused"


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://127.0.0.2/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://169.254.169.254/",
        "https://[fe80::1]/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://1.2.3.4.5/",
        "http://bot.example/",
        f"http://{PUBLIC}/",
        "http://LOCALHOST/",
        "http://127.1/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
async def test_an_address_that_settings_refuse_is_refused_here_too(make_sender: MakeSender, url: str) -> None:
    names = Names([PUBLIC])

    assert await error_of(make_sender(resolve=names).post(url, HEADERS, BODY, SOON)) == "addressRefused"
    assert names.asked == []


async def test_this_machine_is_reached_by_its_exact_names_and_without_a_lookup(
    serve: Serve, make_sender: MakeSender
) -> None:
    url = await serve(accept)
    names = Names([PUBLIC])
    sender = make_sender(resolve=names)

    for name in ("127.0.0.1", "localhost"):
        assert (await sender.post(url.replace("127.0.0.1", name), HEADERS, BODY, SOON)).status == 202
    assert names.asked == []


async def test_a_name_that_changes_after_the_check_changes_nothing(
    make_sender: MakeSender, trusted: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first lookup gives an address that is allowed, each further one the address of a victim."""
    reached: list[str] = []

    async def serve_at(address: str, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reached.append(address)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        return await asyncio.start_server(connected, address, port, ssl=trusted)

    looked_up: list[str] = []
    system = socket.getaddrinfo

    def lie(host: str, *args: object, **kwargs: object) -> object:
        looked_up.append(host)
        return system("127.0.0.2" if host == "bot.example" else host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with await serve_at("127.0.0.1", 0) as good:
        port = good.sockets[0].getsockname()[1]
        async with await serve_at("127.0.0.2", port):
            url = f"https://bot.example:{port}/x"
            first = make_sender(allow_private=True, resolve=names)
            assert (await first.post(url, HEADERS, BODY, SOON)).status == 202
            assert names.asked == ["bot.example"]
            assert (await first.post(url, HEADERS, BODY, SOON)).status == 202  # the judged address, for ten seconds
            second = make_sender(allow_private=True, resolve=names)
            assert await error_of(second.post(url, HEADERS, BODY, SOON)) == "addressRefused"

    assert reached == ["127.0.0.1", "127.0.0.1"]
    assert "bot.example" not in looked_up


async def test_the_systems_resolver_is_asked_and_judged(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lookup(host: str, *_: object, **__: object) -> object:
        assert host == "bot.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)

    assert await error_of(make_sender().post("https://bot.example", HEADERS, BODY, SOON)) == "addressRefused"


async def test_a_cancelled_request_leaves_the_sender_usable(serve: Serve, make_sender: MakeSender) -> None:
    started = asyncio.Event()

    async def slow_first(_: web.Request) -> web.Response:
        if not started.is_set():
            started.set()
            await asyncio.Event().wait()
        return web.Response(status=202)

    sender, url = make_sender(), await serve(slow_first)
    request = asyncio.create_task(sender.post(url, HEADERS, BODY, SOON))
    await started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request

    assert (await sender.post(url, HEADERS, BODY, SOON)).status == 202


def test_the_sender_is_made_outside_a_loop_and_shows_no_answer() -> None:
    assert RelaySender(allow_private=False, connections=1) is not None
    assert "hush" not in repr(Answer(200, {}, b"hush"))
