"""Deploying a package and proving it, against a site that answers as Azure's do, and an `az` that is a script."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local import azure, publish
from local.azure import App, AzureError
from local.publish import Pace

NAMES = ["health", "keep_alive_timer", "list_calls"]
AZ = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "asked.txt").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
if (here / "refusal.txt").exists():
    sys.exit((here / "refusal.txt").read_text())
if sys.argv[1] == "account":
    print(json.dumps(["a-token"]))
elif "/functions?" in " ".join(sys.argv):
    answers = json.loads((here / "functions.json").read_text())
    print(json.dumps(answers[0]))
    (here / "functions.json").write_text(json.dumps(answers[1:] or answers))
else:
    print(json.dumps(["app.azurewebsites.net", "app.scm.azurewebsites.net"]))
"""


@dataclass
class Site:
    """Both sites of an app. Each list of answers is used up but for its last, which stays."""

    app: App
    health: list[int] = field(default_factory=lambda: [200])
    publishing: tuple[int, str] = (202, json.dumps("d-1"))
    builds: list[object] = field(default_factory=lambda: [{"status": 4}])
    asked: list[str] = field(default_factory=list)
    uploaded: bytes = b""
    authorization: str = ""

    def answer(self, method: str, path: str, body: bytes, authorization: str) -> tuple[int, str]:
        self.asked.append(f"{method} {path}")
        self.authorization = authorization or self.authorization
        if method == "POST":
            self.uploaded = body
            return self.publishing
        if path == "/api/health":
            return self.health.pop(0) if len(self.health) > 1 else self.health[0], '{"status": "degraded"}'
        build = self.builds.pop(0) if len(self.builds) > 1 else self.builds[0]
        return (build, "not yet") if isinstance(build, int) else (200, json.dumps(build))


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = found.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815 - the names that http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        root = f"http://127.0.0.1:{server.server_address[1]}"
        found = Site(App("app", "group", root, root))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()


@dataclass
class Steps:
    """A clock that sleeping moves."""

    seconds: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def pace(self) -> Pace:
        return Pace(lambda: self.seconds, self.sleep)


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put an `az` on the path that finds these functions, one list a question."""

    def made(*functions: list[str]) -> Path:
        script = tmp_path / "az"
        script.write_text(AZ.format(python=sys.executable), encoding="utf-8")
        script.chmod(0o755)
        (tmp_path / "functions.json").write_text(json.dumps(functions or [NAMES]), encoding="utf-8")
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return tmp_path

    return made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "call-keeper.zip"
    path.write_bytes(b"PK and so on")
    return path


def test_an_app_is_found_by_name_with_both_addresses(az: Callable[..., Path]) -> None:
    folder = az()
    assert azure.find("app", "group") == App(
        "app", "group", "https://app.azurewebsites.net", "https://app.scm.azurewebsites.net"
    )
    asked = (folder / "asked.txt").read_text(encoding="utf-8")
    assert "/subscriptions/{subscriptionId}/resourceGroups/group/providers/Microsoft.Web/sites/app?" in asked
    assert azure.token() == "a-token"


def test_what_az_complains_of_is_told(az: Callable[..., Path]) -> None:
    (az() / "refusal.txt").write_text("ERROR: Please run\n'az login'", encoding="utf-8")
    with pytest.raises(AzureError, match="az rest failed: ERROR: Please run 'az login'"):
        azure.find("app", "group")


def test_without_az_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AzureError, match="az is not installed: see https://"):
        azure.token()


def test_a_package_is_uploaded_and_its_build_awaited(site: Site, package: Path) -> None:
    site.builds = [404, 503, {"status": 0}, {"status": 1}, {"status": 4}]
    publish.push(site.app, package, "a-token", Steps().pace)
    assert site.uploaded == b"PK and so on"
    assert site.authorization == "Bearer a-token"
    assert site.asked[0] == "POST /api/publish?RemoteBuild=true&Deployer=call-keeper"
    assert site.asked[1:] == ["GET /api/deployments/d-1"] * 5


def test_a_build_that_is_not_told_by_id_is_the_latest(site: Site, package: Path) -> None:
    site.publishing = (202, "")
    publish.push(site.app, package, "a-token", Steps().pace)
    assert site.asked[-1] == "GET /api/deployments/latest"


@pytest.mark.parametrize(
    ("publishing", "builds", "message"),
    [
        ((403, "Ip Forbidden"), [{}], r"app refused the package: 403: .*Website Contributor.* Ip Forbidden"),
        ((409, ""), [{}], "another deployment is running"),
        ((202, '"d"'), [{"status": 3, "status_text": "pip failed"}], r"the deployment failed: .*pip failed"),
        ((202, '"d"'), [{"status": 5}], "was overtaken by another deployment"),
        ((202, '"d"'), [{"status": 6}], "succeeded only in part"),
        ((202, '"d"'), [{"status": 1}], "did not end in 15 minutes"),
        ((202, '"d"'), [502], "did not end in 15 minutes: 502"),
        ((202, '"d"'), [["nonsense"]], "did not end in 15 minutes"),
    ],
)
def test_a_deployment_that_fails_says_why(
    site: Site, package: Path, publishing: tuple[int, str], builds: list[object], message: str
) -> None:
    site.publishing, site.builds = publishing, builds
    with pytest.raises(AzureError, match=message) as caught:
        publish.push(site.app, package, "a-token", Steps().pace)
    assert "a-token" not in str(caught.value)


def test_an_app_is_proved_by_its_functions_and_a_minute_of_health(site: Site, az: Callable[..., Path]) -> None:
    az([], ["health"], NAMES)
    steps = Steps()
    publish.prove(site.app, reversed(NAMES), pace=steps.pace)  # type: ignore[arg-type] # any order
    assert steps.seconds >= 2 * publish.EVERY + publish.STEADY
    assert site.asked == ["GET /api/health"] * 13


def test_one_bad_answer_begins_the_minute_anew(site: Site, az: Callable[..., Path]) -> None:
    az()
    site.health = [200] * 10 + [503] + [200]
    steps = Steps()
    publish.prove(site.app, NAMES, pace=steps.pace)
    assert steps.seconds >= 11 * publish.EVERY + publish.STEADY


@pytest.mark.parametrize("status", [404, 500, 503])
def test_health_that_never_lasts_fails_the_proof(site: Site, az: Callable[..., Path], status: int) -> None:
    az()
    site.health = [200, status] * 500
    with pytest.raises(AzureError, match="was not well for 60 s on end"):
        publish.prove(site.app, NAMES, pace=Steps().pace)


def test_an_app_that_cannot_be_reached_fails_the_proof(az: Callable[..., Path]) -> None:
    az()
    with pytest.raises(AzureError, match="it cannot be reached"):
        publish.prove(App("app", "group", "http://127.0.0.1:9", ""), NAMES, pace=Steps().pace)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "0 functions found: the code does not load in Azure"),
        (["health", "list_calls", "old_one"], "missing keep_alive_timer; strange old_one"),
    ],
)
def test_other_functions_than_expected_fail_the_proof(
    site: Site, az: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, found: list[str], message: str
) -> None:
    az(found)
    monkeypatch.setattr(publish, "SYNC", 2 * publish.EVERY)  # each question is a process
    with pytest.raises(AzureError, match=message):
        publish.prove(site.app, NAMES, pace=Steps().pace)
    assert site.asked == []


def test_the_commands_work_from_end_to_end(
    site: Site, az: Callable[..., Path], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    az()
    monkeypatch.setattr(azure, "find", lambda _name, _group: site.app)  # what it finds is https, and this site is not
    expected = package.with_suffix(".functions.txt")
    expected.write_text("\n".join(NAMES), encoding="utf-8")
    app = ["--app", "app", "--group", "group"]
    assert publish.main(["push", *app, "--package", str(package)]) == 0
    assert publish.main(["prove", *app, "--expected", str(expected), "--steady", "0"]) == 0
    assert publish.main(["push", *app, "--package", str(package.with_name("none.zip"))]) == 1


def test_the_workflows_can_run_it_without_any_package(tmp_path: Path) -> None:
    """The job that may deploy installs nothing from an index: Python alone must do."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import local.publish"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
