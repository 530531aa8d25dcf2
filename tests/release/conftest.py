"""A deployed app for the tests of `release.publish`."""

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from release.azure import App
from release.http_requests import REDIRECTS
from tests.release.fake_azure import Az, Site, Steps


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, text = found.answer(self.command, self.path, body, self.headers)
            if status:
                self.send_response(status)
                if status in REDIRECTS:
                    self.send_header("Location", text)
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


@pytest.fixture
def steps() -> Steps:
    return Steps()


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
