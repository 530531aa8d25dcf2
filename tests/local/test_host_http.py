"""The local host's HTTP triggers, over real HTTP."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.host.run import Options, _listening_socket
from tests.local.host_app import FUNCTION_KEY, MASTER_KEY, RunningHost, running, write_app

CODE = """
    import json
    app = func.FunctionApp()
    OPEN = func.AuthLevel.ANONYMOUS
    met = asyncio.Event()

    def seen(req, context):
        return func.HttpResponse(mimetype="application/json", body=json.dumps({
            "function": context.function_name, "method": req.method, "url": req.url, "headers": dict(req.headers),
            "params": dict(req.params), "route": dict(req.route_params), "body": req.get_body().hex(),
            "traceparent": context.trace_context.trace_parent, "tracestate": context.trace_context.trace_state,
            "invocation": context.invocation_id}))

    @app.route("things/{id}", methods=["GET", "PUT"], auth_level=OPEN)
    async def by_id(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return seen(req, context)

    @app.route("things/{id:guid}", methods=["GET"], auth_level=OPEN)
    async def by_guid(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return seen(req, context)

    @app.route("things/all", methods=["GET"], auth_level=OPEN)
    def all_things(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return seen(req, context)

    @app.route("files/{*rest}", auth_level=OPEN)
    async def files(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return seen(req, context)

    @app.route("page/{number:int?}", auth_level=OPEN)
    async def page(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        return seen(req, context)

    @app.route("locked")
    async def locked(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("in")

    @app.route("vault", auth_level=func.AuthLevel.ADMIN)
    async def vault(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("in")

    @app.route("bytes", auth_level=OPEN)
    async def data(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(req.get_body()[::-1], status_code=201, mimetype="application/octet-stream")

    @app.route("cookies", auth_level=OPEN)
    async def cookies(req: func.HttpRequest) -> func.HttpResponse:
        answer = func.HttpResponse(status_code=204, headers={"Location": "/there", "Set-Cookie": "a=1; Path=/"})
        answer.headers.add("Set-Cookie", "b=2; HttpOnly")
        return answer

    @app.route("text", auth_level=OPEN)
    async def text(req: func.HttpRequest) -> str:
        return "plain words"

    @app.route("broken", auth_level=OPEN)
    async def broken(req: func.HttpRequest) -> func.HttpResponse:
        raise ValueError("this went wrong")

    @app.route("nothing", auth_level=OPEN)
    async def nothing(req: func.HttpRequest) -> func.HttpResponse:
        return None

    @app.route("slow", auth_level=OPEN)
    async def slow(req: func.HttpRequest) -> func.HttpResponse:
        await asyncio.sleep(60)

    @app.route("wait", auth_level=OPEN)
    async def wait(req: func.HttpRequest) -> func.HttpResponse:
        await met.wait()
        return func.HttpResponse("met")

    @app.route("meet", auth_level=OPEN)
    async def meet(req: func.HttpRequest) -> func.HttpResponse:
        met.set()
        return func.HttpResponse("met")

    @app.route("off", auth_level=OPEN)
    async def off(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("on")

    @app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
    async def yearly(timer: func.TimerRequest) -> None:
        logging.getLogger("year").info("by hand")
"""
GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    folder = write_app(tmp_path_factory.mktemp("app"), CODE, '{"version": "2.0", "functionTimeout": "00:00:01"}')
    with running(folder, env={"AzureWebJobs.off.Disabled": "true"}) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "function", "route"),
    [
        pytest.param("/api/things/7", "by_id", {"id": "7"}, id="parameter"),
        pytest.param(f"/api/things/{GUID}", "by_guid", {"id": GUID}, id="constraint before plain parameter"),
        pytest.param("/api/things/all", "all_things", {}, id="literal before parameter"),
        pytest.param("/API/Things/ALL/", "all_things", {}, id="upper case and final slash"),
        pytest.param("/api/things/caf%C3%A9%20au%2Flait", "by_id", {"id": "café au%2Flait"}, id="encoded slash"),
        pytest.param("/api/files", "files", {}, id="empty catch-all"),
        pytest.param("/api/files/a/b.txt", "files", {"rest": "a/b.txt"}, id="catch-all"),
        pytest.param("/api/page", "page", {}, id="optional parameter absent"),
        pytest.param("/api/page/3", "page", {"number": "3"}, id="optional parameter present"),
    ],
)
def test_the_most_specific_route_is_called_with_its_parameters(
    host: RunningHost, path: str, function: str, route: dict[str, str]
) -> None:
    seen = host.client.get(path).json()
    assert (seen["function"], seen["route"]) == (function, route)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param("GET", "/api/none", id="unknown path"),
        pytest.param("GET", "/", id="root"),
        pytest.param("GET", "/apithings/7", id="prefix without slash"),
        pytest.param("GET", "/things/7", id="no prefix"),
        pytest.param("GET", "/api/things/7/8", id="one segment too many"),
        pytest.param("GET", "/api/page/three", id="violated constraint"),
        pytest.param("DELETE", "/api/things/7", id="wrong method DELETE"),
        pytest.param("HEAD", "/api/things/7", id="wrong method HEAD"),
        pytest.param("GET", "/api/off", id="disabled function"),
    ],
)
def test_a_request_without_a_function_is_404_without_a_body(host: RunningHost, method: str, path: str) -> None:
    response = host.client.request(method, path)
    assert (response.status_code, response.content) == (404, b"")


def test_the_function_gets_the_request_as_azures_host_sends_it(host: RunningHost) -> None:
    response = host.client.put(
        "/api/things/7?x=1&x=2&empty=&code=abc",
        content=b"\x00\xff",
        headers=[("X-Tag", "a"), ("x-tag", "b"), ("Content-Type", "application/x")],
    )
    seen = response.json()
    assert seen["method"] == "PUT"
    assert seen["url"] == f"{host.client.base_url}/api/things/7?x=1&x=2&empty=&code=abc".replace("//api", "/api")
    assert seen["params"] == {"x": "1,2", "code": "abc"}
    assert seen["headers"]["x-tag"] == "a,b"
    assert seen["headers"]["content-type"] == "application/x"
    assert seen["body"] == "00ff"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("/api/locked", {}, 401, id="no key"),
        pytest.param("/api/locked", {"x-functions-key": "wrong"}, 401, id="wrong key"),
        pytest.param("/api/locked?code=schl%C3%BCssel", {}, 401, id="wrong key that is not ASCII"),
        pytest.param("/api/locked", {"x-functions-key": FUNCTION_KEY}, 200, id="function key"),
        pytest.param("/api/locked", {"x-functions-key": MASTER_KEY}, 200, id="master key"),
        pytest.param(f"/api/locked?code={FUNCTION_KEY}", {}, 200, id="function key in the query"),
        pytest.param("/api/vault", {"x-functions-key": FUNCTION_KEY}, 401, id="function key for level admin"),
        pytest.param(f"/api/vault?code={MASTER_KEY}", {}, 200, id="master key for level admin"),
        pytest.param("/admin/host/status", {"x-functions-key": FUNCTION_KEY}, 401, id="function key for admin API"),
        pytest.param("/admin/host/status", {"x-functions-key": MASTER_KEY}, 200, id="master key for admin API"),
    ],
)
def test_a_function_requires_a_key_of_its_level(
    host: RunningHost, path: str, headers: dict[str, str], status: int
) -> None:
    response = host.client.get(path, headers=headers)
    assert response.status_code == status
    if status == 401:
        assert response.content == b""


def test_bytes_are_passed_unchanged(host: RunningHost) -> None:
    response = host.client.post("/api/bytes", content=bytes(range(256)))
    assert (response.status_code, response.content) == (201, bytes(range(256))[::-1])
    assert response.headers["content-type"] == "application/octet-stream"


def test_headers_and_all_cookies_of_the_response_are_sent(host: RunningHost) -> None:
    response = host.client.get("/api/cookies")
    assert (response.status_code, response.headers["location"]) == (204, "/there")
    assert response.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; HttpOnly"]


def test_a_function_may_return_plain_text(host: RunningHost) -> None:
    response = host.client.get("/api/text")
    assert (response.status_code, response.text) == (200, "plain words")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        pytest.param("/api/broken", "this went wrong", id="exception"),
        pytest.param("/api/nothing", "unable to encode", id="no return value"),
        pytest.param("/api/slow", "functionTimeout", id="timeout"),
    ],
)
def test_a_failed_invocation_is_500_without_a_body_and_its_error_is_logged(
    host: RunningHost, path: str, error: str
) -> None:
    response = host.client.get(path)
    assert (response.status_code, response.content) == (500, b"")
    host.child.wait_for(rf"invocation.finished function={path.removeprefix('/api/')} result=failed .*error=.*{error}")


def test_requests_run_concurrently(host: RunningHost) -> None:
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(host.client.get, "/api/wait")
        assert host.client.get("/api/meet").text == "met"
        assert waiting.result(10).text == "met"


def test_the_callers_trace_continues_and_each_invocation_has_its_own_id(host: RunningHost) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    first = host.client.get("/api/things/1", headers={"traceparent": parent, "tracestate": "a=b"}).json()
    second = host.client.get("/api/things/1", headers={"traceparent": "nonsense"}).json()
    assert (first["traceparent"], first["tracestate"]) == (parent, "a=b")
    assert second["traceparent"].startswith("00-")
    assert first["invocation"] != second["invocation"]
    host.child.wait_for(rf"info local.host invocation.finished .*duration_ms=\d+ invocation_id={first['invocation']}")


def test_an_operator_lists_the_functions_and_runs_one_by_hand(host: RunningHost) -> None:
    key = {"x-functions-key": MASTER_KEY}
    listed = host.client.get("/admin/functions", headers=key).json()
    assert {"by_id", "yearly", "off"} <= {function["name"] for function in listed}
    assert host.client.post("/admin/functions/yearly", headers=key, json={}).status_code == 202
    host.child.wait_for("info year by hand")
    assert host.client.post("/admin/functions/nobody", headers=key, json={}).status_code == 404
    assert host.client.post("/admin/functions/yearly", headers=key, content=b"[").status_code == 400
    assert host.client.post("/admin/functions/yearly", json={}).status_code == 401


@pytest.mark.parametrize("address", [pytest.param("127.0.0.1", id="IPv4"), pytest.param("::1", id="IPv6")])
def test_a_connection_sends_data_at_once(address: str, tmp_path: Path) -> None:
    """Without TCP_NODELAY each body waits for the ACK of its head: 40 ms on a kept connection."""
    listening = _listening_socket(Options(tmp_path, address=address, port=0))
    with listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
