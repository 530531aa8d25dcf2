"""The local host as a process: its output, the apps that it refuses, and its end."""

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
MAX_SECOND_SIGNAL_SECONDS = 2  # well below the 5 s of grace after the first signal
TWIN = HTTP[HTTP.index("@") :].replace("def hello", "def twin")


def test_functions_are_listed_as_json_even_if_the_app_prints(tmp_path: Path) -> None:
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
    ("code", "message"),
    [
        pytest.param(
            "import no_such_package",
            "ModuleNotFoundError: No module named 'no_such_package' (function_app.py, line 4)",
            id="missing package",
        ),
        pytest.param("def broken(:", "SyntaxError: invalid syntax (function_app.py, line 4)", id="syntax error"),
        pytest.param("raise SystemExit(3)", "function_app.py ended the process while it was imported", id="exit"),
        pytest.param(
            "nap = asyncio.sleep(0)\ntry: asyncio.run(nap)\nfinally: nap.close()",
            "asyncio.run() cannot be called from a running event loop",
            id="asyncio.run at import",
        ),
        pytest.param("x = 1", "Could not find top level function app instances in function_app.py", id="no app"),
        pytest.param(
            "app = func.FunctionApp()", "0 functions found: the app in function_app.py registers none", id="empty app"
        ),
        pytest.param(
            f"{HTTP}\nother = app",
            "More than one FunctionApp or other top level function app instances are defined",
            id="two names for one app",
        ),
        pytest.param(f"{HTTP}\nanother = func.FunctionApp()", "More than one FunctionApp", id="two apps"),
        pytest.param(
            """
            app = func.FunctionApp()

            @app.queue_trigger(arg_name="message", queue_name="in", connection="AzureWebJobsStorage")
            @app.queue_output(arg_name="out", queue_name="out", connection="AzureWebJobsStorage")
            async def work(message: func.QueueMessage, out: func.Out[list[str]]) -> None: ...
            """,
            "cannot load the work function: binding out has invalid non-type annotation",
            id="invalid annotation",
        ),
        pytest.param(
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="* * * * * *")
            async def tick(clock: func.TimerRequest) -> None: ...
            """,
            "cannot load the tick function: the following parameters are declared in Python but not in the function",
            id="parameter without binding",
        ),
    ],
)
def test_an_app_that_azure_would_not_load_is_refused_in_one_line(tmp_path: Path, code: str, message: str) -> None:
    write_app(tmp_path, code)
    for arguments in (["--list"], ["--port", "0"]):
        ended = started(tmp_path, *arguments)
        lines = [line for line in ended.stderr.splitlines() if "warning root" not in line]
        assert ended.returncode == 1
        assert len(lines) == 1
        assert lines[0].startswith("host: ")
        assert message in lines[0]
        assert "host ready" not in ended.stdout


def test_verbose_prints_the_traceback(tmp_path: Path) -> None:
    write_app(tmp_path, "import no_such_package")
    ended = started(tmp_path, "--list", "--verbose")
    assert "Traceback (most recent call last)" in ended.stderr
    assert "import no_such_package" in ended.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(
            HTTP.replace("hello/{id}", "admin-area"),
            "function hello: its route must not begin with admin or runtime",
            id="reserved route",
        ),
        pytest.param(
            HTTP.replace("{id}", "{id:phone}"),
            "function hello: the local host does not support this constraint",
            id="unknown constraint",
        ),
        pytest.param(
            HTTP.replace("{id}", "a{id}"),
            "function hello: the local host does not support this part of its route: a{id}",
            id="prefix before a parameter",
        ),
        pytest.param(HTTP + TWIN, "functions hello and twin have the same route", id="one route twice"),
        pytest.param(
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="%SCHEDULE_OF_THE_TEST%")
            async def tick(timer: func.TimerRequest) -> None: ...
            """,
            "function tick needs the setting SCHEDULE_OF_THE_TEST: set it in the environment or in local.settings.json",
            id="missing setting",
        ),
        pytest.param(
            """
            app = func.FunctionApp()

            @app.timer_trigger(arg_name="timer", schedule="every minute")
            async def tick(timer: func.TimerRequest) -> None: ...
            """,
            "function tick: 'every minute' is not an NCRONTAB expression",
            id="wrong schedule",
        ),
        pytest.param(
            """
            app = func.FunctionApp()

            @app.blob_trigger(arg_name="blob", path="in/{name}", connection="AzureWebJobsStorage")
            async def read(blob: func.InputStream) -> None: ...
            """,
            "function read: the local host does not support the binding blobTrigger",
            id="unsupported trigger",
        ),
    ],
)
def test_a_binding_that_cannot_work_stops_the_host_with_one_line(tmp_path: Path, code: str, message: str) -> None:
    write_app(tmp_path, code)
    ended = started(tmp_path, "--port", "0", "--quiet")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1].startswith(f"host: {message}")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("host.json", None, "no host.json in", id="no host.json"),
        pytest.param("host.json", "{", "host.json cannot be read", id="incomplete host.json"),
        pytest.param(
            "host.json", '{"version": "1.0"}', "host.json: version: Input should be '2.0'", id="host.json 1.0"
        ),
        pytest.param(
            "host.json",
            '{"version": "2.0", "extensions": {"queues": {"batchSize": 99}}}',
            "host.json: extensions.queues.batchSize: Input should be less than or equal to 32",
            id="batchSize too large",
        ),
        pytest.param(
            "host.json",
            '{"version": "2.0", "functionTimeout": "5m"}',
            "host.json: functionTimeout: Value error, '5m'",
            id="wrong duration",
        ),
        pytest.param(
            "local.settings.json",
            '{"Values": {"A": 1}}',
            "local.settings.json: Values.A: Input should be a valid str",
            id="number as a setting",
        ),
        pytest.param(
            "local.settings.json",
            '{"IsEncrypted": true}',
            "local.settings.json: IsEncrypted: Input should be False",
            id="encrypted settings",
        ),
        pytest.param("function_app.py", None, "no function_app.py in", id="no function_app.py"),
    ],
)
def test_a_missing_or_wrong_file_is_named(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    write_app(tmp_path, HTTP)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    ended = started(tmp_path, "--port", "0")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"host: {message}")
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    write_app(tmp_path, HTTP)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(tmp_path, "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"host: port {port} is in use")


def test_the_environment_overrides_local_settings_and_the_app_has_both(tmp_path: Path) -> None:
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


def test_the_apps_folder_is_last_on_the_path_as_in_azure(tmp_path: Path) -> None:
    """Otherwise a package that shadows a module of the app would fail in Azure only."""
    write_app(tmp_path, f"import sys\nassert sys.path[-1] == {str(tmp_path)!r}\nassert '' not in sys.path\n{HTTP}")
    assert started(tmp_path, "--list").returncode == 0


def test_random_keys_are_printed_unless_quiet(tmp_path: Path) -> None:
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
    logging.info("slow has started")
    await asyncio.sleep(float(req.params["seconds"]))
    return func.HttpResponse("done")

@app.route("stuck")
def stuck(req: func.HttpRequest) -> func.HttpResponse:
    logging.info("stuck has started")
    time.sleep(60)

@app.timer_trigger(arg_name="timer", schedule="* * * * * *", run_on_startup=True)
async def tick(timer: func.TimerRequest) -> None:
    logging.info("tick")
"""


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, id="Ctrl-C")]
)
def test_a_signal_lets_running_invocations_finish_and_starts_no_others(tmp_path: Path, number: signal.Signals) -> None:
    write_app(tmp_path, SLOW)
    answers: list[str] = []
    with running(tmp_path) as host:
        url = f"{host.client.base_url}/api/slow?seconds=2"
        request = Thread(target=lambda: answers.append(httpx.get(url).text))
        request.start()
        host.child.wait_for("slow has started")
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


def test_clients_that_the_app_does_not_close_are_not_logged_at_the_end(tmp_path: Path) -> None:
    write_app(tmp_path, CLIENT)
    with running(tmp_path) as host:
        assert host.client.get("/api/client").text == "made"
        host.child.send(signal.SIGINT)
        assert host.child.wait(10) == 0
        assert host.child.output.splitlines()[-1].endswith("host.stopping")


def test_a_function_that_does_not_end_does_not_keep_the_host_running(tmp_path: Path) -> None:
    write_app(tmp_path, SLOW)
    with running(tmp_path) as host:
        request = Thread(target=_get_ignoring_errors, args=(f"{host.client.base_url}/api/stuck",))
        request.start()
        host.child.wait_for("stuck has started")
        host.child.send(signal.SIGTERM)
        assert host.child.wait(15) == 0
        request.join()


def test_a_second_signal_ends_the_host_at_once(tmp_path: Path) -> None:
    write_app(tmp_path, SLOW)
    with running(tmp_path) as host:
        request = Thread(target=_get_ignoring_errors, args=(f"{host.client.base_url}/api/slow?seconds=60",))
        request.start()
        host.child.wait_for("slow has started")
        host.child.send(signal.SIGTERM)
        host.child.wait_for("host.stopping")
        before = time.monotonic()
        host.child.send(signal.SIGTERM)
        assert host.child.wait(10) == 128 + signal.SIGTERM
        assert time.monotonic() - before < MAX_SECOND_SIGNAL_SECONDS
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


def test_the_host_imports_nothing_of_the_product() -> None:
    """A host that shared code with the app could share its mistakes."""
    for module in (REPOSITORY / "local" / "host").glob("*.py"):
        assert not any(
            line.strip().startswith(("import shared", "from shared", "import functions", "from functions"))
            for line in module.read_text().splitlines()
        )


def test_a_host_that_does_not_start_is_an_error_with_its_output(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessError, match=r"host ended \(1\) before .*\n(?s:.*)host: no host\.json"),
        running(tmp_path),
    ):
        pass


def _get_ignoring_errors(url: str) -> None:
    try:
        httpx.get(url, timeout=30)
    except httpx.HTTPError:
        return
