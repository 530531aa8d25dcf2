"""The webhook through host and storage, beside a host with an empty handler and storage's own rate of writing."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bench.contest import ROOT, Json, figures_of, graph, middle, module, progress, ratio, run, told
from bench.environment import app_settings
from bench.graph import ISSUER
from bench.load import IN_FLIGHT, TENANT
from bench.measure import Figures, cpu_seconds_of
from bench.notifications import EACH
from bench.rounds import GO
from local.stack import azurite
from local.stack.processes import Child, Children
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
    """Measure the three, round by round, each on a new storage."""
    hosts: list[Figures] = []
    empty: list[Figures] = []
    bound: list[Figures] = []
    with _graph() as (url, key), _empty_app() as folder:
        for number in range(rounds):
            progress(f"notifications of {calls} calls, round {number + 1} of {rounds}")
            with _storage(url) as (storage, env), _host(env) as (host, address):
                hosts.append(_loaded(calls, [host, storage], _notify(address, calls, _token(key, env))))
            with _storage(url) as (storage, env):
                bound.append(_loaded(calls, [storage], module("direct", calls), env))
                with _host(env, folder) as (host, address):  # which asks nothing of it
                    empty.append(_loaded(calls, [host, storage], _notify(address, calls, "none")))
    return {
        "host": middle(hosts),
        "empty_host": middle(empty),
        "bound": middle(bound),
        "ratio_to_bound": ratio(hosts, bound, "per_second"),
        "ratio_to_empty_host": ratio(hosts, empty, "per_second"),
    }


def looked_into(calls: int) -> tuple[dict[str, float], dict[str, int]]:
    """What a host asks of storage for a notification, by kind, and where its CPU time goes, by samples."""
    few = IN_FLIGHT
    with _graph() as (url, key), _storage(url) as (_, env), _host(env, program="bench.host") as (host, address):
        token = _token(key, env)
        host.send(GO)
        run(_notify(address, few, token))
        host.send(GO)
        run(_notify(address, calls, token, 2 * few))
        host.send(GO)
        found = json.loads(host.wait_for(r"^{.*}$")[0])
    sent = 2 * few * EACH  # with those that open the connections
    return {kind: count / sent for kind, count in sorted(found["requests"].items())}, found["samples"]


class _Process(Protocol):
    @property
    def pid(self) -> int: ...


def _loaded(
    calls: int, watched: Sequence[_Process], command: Sequence[str], env: Mapping[str, str] | None = None
) -> Figures:
    """Run what sends the load; with the CPU milliseconds a notification of the processes that bear it, storage last."""
    before = [cpu_seconds_of(process.pid) for process in watched]
    figures = figures_of(told(run(command, env)))
    sent = (calls + IN_FLIGHT) * EACH  # with those that open the connections
    used = [1000 * (cpu_seconds_of(process.pid) - began) / sent for process, began in zip(watched, before, strict=True)]
    return {**figures, "host_cpu_ms": sum(used[:-1]), "storage_cpu_ms": used[-1]}


def _notify(address: str, calls: int, token: str, first: int = 0) -> list[str]:
    return module("notify", f"{address}/api/notifications", calls, token, first)


@contextmanager
def _graph() -> Iterator[tuple[str, SigningKey]]:
    key = SigningKey("notifications")
    with Children() as children, graph(children, json.dumps({"keys": [key.jwk()]})) as url:
        yield url, key


@contextmanager
def _storage(url: str) -> Iterator[tuple[azurite.Server, dict[str, str]]]:
    with azurite.serving(azurite.Azurite(0, 0, 0)) as server:
        yield server, app_settings(server.storage.connection_string, url)


@contextmanager
def _host(env: Mapping[str, str], root: Path = ROOT, program: str = "local.host") -> Iterator[tuple[Child, str]]:
    with Children() as children:
        command = [sys.executable, "-m", program, "--port", "0", "--root", str(root)]
        host = children.start("host", command, env={**env, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        yield host, host.wait_for(r"host ready: (http://127\.0\.0\.1:\d+)", _PATIENCE)[1]
        host.check()


@contextmanager
def _empty_app() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="call-keeper-bench-") as folder:
        Path(folder, "function_app.py").write_text(_EMPTY, encoding="utf-8")
        Path(folder, "host.json").write_text((ROOT / "host.json").read_text(encoding="utf-8"), encoding="utf-8")
        yield Path(folder)


def _token(key: SigningKey, env: Mapping[str, str]) -> str:
    now = int(time.time())
    return key.sign({"iss": ISSUER, "aud": env["GRAPH_APP_ID"], "tid": TENANT, "nbf": now - 60, "exp": now + LIFE})
