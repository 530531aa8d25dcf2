"""`docs/deploy.md`, A first call: its commands run against a fake `az`, and a server in place of Entra and the app."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.release.test_deploy_document import DEPLOY, shell
from tests.support.http_server import Quiet, serving

BOT, TENANT = "11111111-0000-4000-8000-000000000001", "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
SECRET = 'a+b/c~=&% d"e\\'
AZ = """#!/usr/bin/env bash
echo "az $*" >>"$SEEN"
case "$*" in
  "ad app credential reset --id BOT --append "*) printf '%s\\n' "$THE_SECRET" ;;
  "functionapp keys list --resource-group rg-call-keeper --name func-trial "*) echo the-key ;;
  *) exit 1 ;;
esac
""".replace("BOT", BOT)


@dataclass
class Served:
    """The requests to Entra and to the app."""

    url: str = ""
    form: dict[str, list[str]] = field(default_factory=dict)
    put: tuple[str, str | None, str | None] | None = None


@pytest.fixture
def served() -> Iterator[Served]:
    seen = Served()

    class Handler(Quiet, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.form = parse_qs(self._body().decode(), strict_parsing=True)
            self._answer({"token_type": "Bearer", "expires_in": 3599, "access_token": f"of{self.path}"})

        def do_PUT(self) -> None:
            seen.put = (self.path, self.headers["x-functions-key"], self.headers["Authorization"])
            self._answer(json.loads(self._body()))

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _answer(self, content: object) -> None:
            payload = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    with serving(Handler) as address:
        seen.url = address
        yield seen


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(0o755)


def test_a_first_call_is_made_as_the_page_says(served: Served, tmp_path: Path) -> None:
    block = shell(DEPLOY, "A first call")
    for placeholder, value in {
        "<app>": "func-trial",
        "<API>": f"{served.url}/api",
        "<client id of the bot>": BOT,
        "<the bot's tenant>": TENANT,
        "<see below>": BOT,
        "https://login.microsoftonline.com": served.url,
    }.items():
        assert placeholder in block
        block = block.replace(placeholder, value)
    curl = shutil.which("curl")
    assert curl is not None, "the page uses curl"
    program(tmp_path, "az", AZ)
    program(tmp_path, "curl", f'#!/usr/bin/env bash\necho "curl $*" >>"$SEEN"\nexec {curl} "$@"\n')
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "SEEN": str(tmp_path / "seen"), "THE_SECRET": SECRET}
    done = subprocess.run(["bash", "-eu"], input=block, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert served.form == {
        "grant_type": ["client_credentials"],
        "scope": [f"{BOT}/.default"],
        "client_id": [BOT],
        "client_secret": [SECRET],
    }
    call = "/api/calls/2f1a7c64-9b0e-4d53-8a21-6e0f3b7c9d15"
    assert served.put == (call, "the-key", f"Bearer of/{TENANT}/oauth2/v2.0/token")
    assert json.loads(done.stdout) == {"tenantId": "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"}
    seen = (tmp_path / "seen").read_text(encoding="utf-8")
    assert seen.count("curl ") == 2
    assert SECRET not in seen, "other users of the machine may read arguments"
    assert "--append" in seen, "without it az deletes the other credentials of the bot"
