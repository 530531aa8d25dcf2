"""Fixtures of a deployed app, for the tests of `release.publish`."""

import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from release.azure import App
from release.http_requests import REDIRECTS
from tests.release.fake_azure import Az, Site, SteppedClock
from tests.support.http_server import Quiet, serving


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = found.answer(self.command, self.path, body, self.headers)
            if status:
                self.send_response(status)
                if status in REDIRECTS:
                    self.send_header("Location", text)
                self.end_headers()
                self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815 - the names that http.server calls

    with serving(Handler) as address:
        found = Site(App("app", "group", address, address))
        yield found


@pytest.fixture
def stepped() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Az:
    made = Az(tmp_path)
    monkeypatch.setenv("PATH", made.install())
    return made


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "call-keeper.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(".python_packages/lib/site-packages/httpx/__init__.py", "")
    return path
