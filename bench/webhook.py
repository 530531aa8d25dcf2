"""The webhook through host and storage, beside a host with an empty handler and storage's own rate of writing."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.contest import ROOT, Json, graph, middle, ratio, run, without_texts
from bench.environment import app_settings
from bench.graph import ISSUER
from bench.load import TENANT
from bench.measure import Figures
from local import azurite
from local.processes import Children
from simulator.signing import SigningKey

LIFE = 3600  # seconds of the token: longer than Graph's, so that one does for a run
_PATIENCE = 60.0  # seconds for a host to be ready
_EMPTY = """
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("notifications", methods=["POST"])
async def receive(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=202)
"""


def webhook(calls: int, rounds: int) -> Json:
    """Measure the three, round by round, each on a storage of its own."""
    key = SigningKey("notifications")
    hosts: list[Figures] = []
    empty: list[Figures] = []
    bound: list[Figures] = []
    with Children() as children, graph(children, json.dumps({"keys": [key.published()]})) as url:
        for number in range(rounds):
            print(
                f"bench: notifications of {calls} calls, round {number + 1} of {rounds} …", file=sys.stderr, flush=True
            )
            with azurite.running() as storage:
                env = app_settings(storage.connection_string, url)
                hosts.append(_notify(ROOT, env, calls, _token(key, env["GRAPH_APP_ID"])))
            with azurite.running() as storage:
                env = app_settings(storage.connection_string, url)
                bound.append(without_texts(run([sys.executable, "-m", "bench.direct", str(calls)], env)))
            with azurite.running() as storage, _empty_app() as folder:
                empty.append(_notify(folder, app_settings(storage.connection_string, url), calls, "none"))
    return {
        "host": middle(hosts),
        "empty_host": middle(empty),
        "bound": middle(bound),
        "ratio_to_bound": ratio(hosts, bound, "per_second"),
        "ratio_to_empty_host": ratio(hosts, empty, "per_second"),
    }


def _notify(root: Path, env: Mapping[str, str], calls: int, token: str) -> Figures:
    with Children() as children:
        command = [sys.executable, "-m", "local.host", "--port", "0", "--root", str(root)]
        host = children.start("host", command, env={**env, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        address = host.wait_for(r"host ready: (http://127\.0\.0\.1:\d+)", _PATIENCE)[1]
        told = run([sys.executable, "-m", "bench.notify", f"{address}/api/notifications", str(calls), token])
        host.check()
    return without_texts(told)


@contextmanager
def _empty_app() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="call-keeper-bench-") as folder:
        Path(folder, "function_app.py").write_text(_EMPTY, encoding="utf-8")
        Path(folder, "host.json").write_text((ROOT / "host.json").read_text(encoding="utf-8"), encoding="utf-8")
        yield Path(folder)


def _token(key: SigningKey, audience: str) -> str:
    now = int(time.time())
    return key.sign({"iss": ISSUER, "aud": audience, "tid": TENANT, "nbf": now - 60, "exp": now + LIFE})
