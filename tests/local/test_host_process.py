"""The local host: what it prints, what it refuses, and how it ends."""

import json
import signal
import socket
import time
from pathlib import Path
from threading import Thread

import httpx
import pytest

from local.stack.processes import ProcessError
from tests.local.host_app import FUNCTION_KEY, REPOSITORY, running, started, write_app

HTTP = """
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("hello/{id}", methods=["GET"])
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("hello")
"""
TWIN = HTTP[HTTP.index("@") :].replace("def hello", "def twin")


def test_the_functions_are_listed_as_json_whatever_the_app_prints(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        f"""
print("noise")
{HTTP}
bp = func.Blueprint()

@bp.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False)
async def tick(timer: func.TimerRequest) -> None: ...

app.register_functions(bp)
""",
    )
    ended = started(tmp_path, "--list")
    hello, tick = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert (hello["name"], hello["trigger"], hello["methods"]) == ("hello", "httpTrigger", ["GET"])
    assert (hello["route"], hello["authLevel"]) == ("hello/{id}", "anonymous")
    assert tick["bindings"] == [
        {
            "type": "timerTrigger",
            "name": "timer",
            "direction": "IN",
            "schedule": "%SCHEDULE%",
            "runOnStartup": False,
        }
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package' (function_app.py, line 4)"),
        ("def broken(:", "SyntaxError: invalid syntax (function_app.py, line 4)"),
        ("raise SystemExit(3)", "function_app.py ended the process while it was imported"),
        (
            "nap = asyncio.sleep(0)\ntry: asyncio.run(nap)\nfinally: nap.close()",
            "asyncio.run() cannot be called from a running event loop",
        ),
        ("x = 1", "Could not find top level function app instances in function_app.py"),
        ("app = func.FunctionApp()", "0 functions found: the app in function_app.py registers none"),
        (f"{HTTP}\nother = app", "More than one FunctionApp or other top level function app instances are defined"),
        (f"{HTTP}\nanother = func.FunctionApp()", "More than one FunctionApp"),
        (
            """
            app = func.FunctionApp()

            @app.queue_trigger(arg_name="message", queue_name="in", connection="AzureWebJobsStorage")
            @app.queue_output(arg_name="out", queue_name="out", connection="AzureWebJobsStorage")
            async def work(message: func.QueueMessage, out: func.Out[list[str]]) -> None: ...
            """,
            "cannot load the work function: binding out has invalid non-type annotation",
        ),
        (
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
            async def tick(clock: func.TimerRequest) -> None: ...
            """,
            "cannot load the tick function: the following parameters are declared in Python but not in the function",
        ),
    ],
)
def test_an_app_that_azure_would_not_load_is_refused_in_one_line(tmp_path: Path, code: str, said: str) -> None:
    write_app(tmp_path, code)
    for arguments in (["--list"], ["--port", "0"]):
        ended = started(tmp_path, *arguments)
        lines = [line for line in ended.stderr.splitlines() if "warning root" not in line]
        assert ended.returncode == 1
        assert len(lines) == 1
        assert lines[0].startswith("host: ")
        assert said in lines[0]
        assert "host ready" not in ended.stdout


def test_the_traceback_is_shown_to_those_who_ask(tmp_path: Path) -> None:
    write_app(tmp_path, "import no_such_package")
    ended = started(tmp_path, "--list", "--verbose")
    assert "Traceback (most recent call last)" in ended.stderr
    assert "import no_such_package" in ended.stderr


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (HTTP.replace("hello/{id}", "admin-area"), "function hello: its route must not begin with admin or runtime"),
        (HTTP.replace("{id}", "{id:phone}"), "function hello: the local host does not know this constraint"),
        (HTTP.replace("{id}", "a{id}"), "function hello: the local host does not know this part of its route: a{id}"),
        (
            HTTP + HTTP[HTTP.index("@") :].replace("def hello", "def twin"),
            "functions hello and twin have the same route",
        ),
        (
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="%SCHEDULE_OF_THE_TEST%")
            async def tick(timer: func.TimerRequest) -> None: ...
            """,
            "function tick needs the setting SCHEDULE_OF_THE_TEST: set it in the environment or in local.settings.json",
        ),
        (
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="every minute")
            async def tick(timer: func.TimerRequest) -> None: ...
            """,
            "function tick: 'every minute' is no NCRONTAB expression",
        ),
        (
            """
            app = func.FunctionApp()

            @app.blob_trigger(arg_name="blob", path="in/{name}", connection="AzureWebJobsStorage")
            async def read(blob: func.InputStream) -> None: ...
            """,
            "function read: the local host has no binding blobTrigger",
        ),
    ],
)
def test_a_binding_that_cannot_work_stops_the_host_with_one_line(tmp_path: Path, code: str, said: str) -> None:
    write_app(tmp_path, code)
    ended = started(tmp_path, "--port", "0", "--quiet")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1].startswith(f"host: {said}")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("host.json", None, "no host.json in"),
        ("host.json", "{", "host.json cannot be read"),
        ("host.json", '{"version": "1.0"}', "host.json: version: Input should be '2.0'"),
        (
            "host.json",
            '{"version": "2.0", "extensions": {"queues": {"batchSize": 99}}}',
            "host.json: extensions.queues.batchSize: Input should be less than or equal to 32",
        ),
        ("host.json", '{"version": "2.0", "functionTimeout": "5m"}', "host.json: functionTimeout: Value error, '5m'"),
        (
            "local.settings.json",
            '{"Values": {"A": 1}}',
            "local.settings.json: Values.A: Input should be a valid str",
        ),
        ("local.settings.json", '{"IsEncrypted": true}', "local.settings.json: IsEncrypted: Input should be False"),
        ("function_app.py", None, "no function_app.py in"),
    ],
)
def test_a_file_that_is_missing_or_wrong_is_named(tmp_path: Path, file: str, content: str | None, said: str) -> None:
    write_app(tmp_path, HTTP)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    ended = started(tmp_path, "--port", "0")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"host: {said}")
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    write_app(tmp_path, HTTP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(tmp_path, "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"host: port {port} is in use")


def test_the_environment_wins_over_local_settings_and_the_app_sees_both(tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        import os
        app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
        SEEN = " ".join(os.environ[name] for name in ("ONE", "TWO", "AZURE_FUNCTIONS_ENVIRONMENT"))

        @app.route("seen")
        async def seen(req: func.HttpRequest) -> func.HttpResponse:
            return func.HttpResponse(SEEN)
        """,
        '{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}',
    )
    (tmp_path / "local.settings.json").write_text('{"Values": {"ONE": "file", "TWO": "file"}}')
    with running(tmp_path, env={"ONE": "environment"}) as host:
        assert host.client.get("/seen").text == "environment file Development"


def test_the_app_comes_last_on_the_path_as_in_azure(tmp_path: Path) -> None:
    """So that a package that shadows one of the app's own shows here, too."""
    write_app(tmp_path, f"import sys\nassert sys.path[-1] == {str(tmp_path)!r}\nassert '' not in sys.path\n{HTTP}")
    assert started(tmp_path, "--list").returncode == 0


def test_made_up_keys_are_printed_unless_it_is_told_to_be_quiet(tmp_path: Path) -> None:
    write_app(tmp_path, HTTP.replace("ANONYMOUS", "FUNCTION"))
    with running(tmp_path, env={"LOCAL_FUNCTION_KEY": ""}) as host:
        key = host.child.wait_for(r"^LOCAL_FUNCTION_KEY=(\S{20,})$")[1]
        assert host.client.get("/api/hello/1", headers={"x-functions-key": key}).text == "hello"
        assert "LOCAL_MASTER_KEY" not in host.child.output
    with running(tmp_path, "--quiet", env={"LOCAL_FUNCTION_KEY": ""}) as host:
        assert host.client.get("/api/hello/1", headers={"x-functions-key": FUNCTION_KEY}).status_code == 401
        assert len(host.child.output.splitlines()) == 1


SLOW = """
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("slow")
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    logging.info("slow has begun")
    await asyncio.sleep(float(req.params["seconds"]))
    return func.HttpResponse("done")

@app.route("stuck")
def stuck(req: func.HttpRequest) -> func.HttpResponse:
    logging.info("stuck has begun")
    time.sleep(60)

@app.timer_trigger(arg_name="timer", schedule="* * * * * *", run_on_startup=True)
async def tick(timer: func.TimerRequest) -> None:
    logging.info("tick")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_runs_finish_and_starts_nothing_new(tmp_path: Path, number: signal.Signals) -> None:
    write_app(tmp_path, SLOW)
    answers: list[str] = []
    with running(tmp_path) as host:
        url = f"{host.client.base_url}/api/slow?seconds=2"
        request = Thread(target=lambda: answers.append(httpx.get(url).text))
        request.start()
        host.child.wait_for("slow has begun")
        host.child.send(number)
        assert host.child.wait(10) == 0
        request.join()
        _, after = host.child.output.split("host.stopping")
    assert answers == ["done"]
    assert "root tick" not in after
    assert "Traceback" not in after


CLIENT = """
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
clients = []

@app.route("client")
async def client(req: func.HttpRequest) -> func.HttpResponse:
    import aiohttp
    clients.append(aiohttp.ClientSession())
    return func.HttpResponse("made")
"""


def test_clients_that_live_as_long_as_the_process_are_not_lamented_at_its_end(tmp_path: Path) -> None:
    write_app(tmp_path, CLIENT)
    with running(tmp_path) as host:
        assert host.client.get("/api/client").text == "made"
        host.child.send(signal.SIGINT)
        assert host.child.wait(10) == 0
        assert host.child.output.splitlines()[-1].endswith("host.stopping")


def test_a_function_that_does_not_end_does_not_hold_up_the_host(tmp_path: Path) -> None:
    write_app(tmp_path, SLOW)
    with running(tmp_path) as host:
        request = Thread(target=_ignored, args=(f"{host.client.base_url}/api/stuck",))
        request.start()
        host.child.wait_for("stuck has begun")
        host.child.send(signal.SIGTERM)
        assert host.child.wait(15) == 0
        request.join()


def test_a_second_signal_ends_the_host_at_once(tmp_path: Path) -> None:
    write_app(tmp_path, SLOW)
    with running(tmp_path) as host:
        request = Thread(target=_ignored, args=(f"{host.client.base_url}/api/slow?seconds=60",))
        request.start()
        host.child.wait_for("slow has begun")
        host.child.send(signal.SIGTERM)
        host.child.wait_for("host.stopping")
        before = time.monotonic()
        host.child.send(signal.SIGTERM)
        assert host.child.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - before < 2
        request.join()


def test_a_killed_host_can_be_started_again_on_its_port(tmp_path: Path) -> None:
    write_app(tmp_path, HTTP)
    with running(tmp_path) as host:
        port = str(host.client.base_url.port)
        assert host.client.get("/api/hello/1").text == "hello"
        assert host.child.kill() == -signal.SIGKILL
        with pytest.raises(httpx.ConnectError):
            host.client.get("/api/hello/1")
    with running(tmp_path, "--port", port) as host:
        assert host.client.get("/api/hello/1").text == "hello"


def test_it_imports_nothing_of_the_app_it_runs() -> None:
    """Else it would agree with the app's mistakes."""
    for module in (REPOSITORY / "local" / "host").glob("*.py"):
        assert not any(
            line.strip().startswith(("import shared", "from shared", "import functions", "from functions"))
            for line in module.read_text().splitlines()
        )


def test_a_host_that_is_not_there_is_an_error_with_its_words(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessError, match=r"host ended \(1\) before .*\n(?s:.*)host: no host\.json"),
        running(tmp_path),
    ):
        pass


def _ignored(url: str) -> None:
    try:
        httpx.get(url, timeout=30)
    except httpx.HTTPError:
        return
