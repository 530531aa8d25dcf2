"""The webhook with host and storage, compared with a host whose handler is empty, and with storage writes alone."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from bench.environment import app_settings
from bench.figures import median_figures, median_ratio, numbers_of
from bench.graph import ISSUER
from bench.measure import Figures, cpu_seconds_of
from bench.notifications import NOTIFICATIONS_PER_CALL
from bench.processes import ROOT, Json, graph_server, module_command, parse_figures, print_progress, run_command
from bench.rounds import START_SIGNAL
from bench.workload import IN_FLIGHT, TENANT
from local.stack import azurite
from local.stack.processes import Child, Children
from simulator.signing import SigningKey

TOKEN_LIFETIME = timedelta(hours=1)  # longer than Graph's, so that one token lasts for a run
_MAX_START_TIME = timedelta(minutes=1)  # until a host is ready
_EMPTY_APP = """
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("notifications", methods=["POST"])
async def receive(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=202)
"""


def measure_webhook(calls: int, rounds: int) -> Json:
    """Measure our host, the empty host and the storage writes, round by round, each on a new storage."""
    hosts: list[Figures] = []
    empty: list[Figures] = []
    bound: list[Figures] = []
    with graph_with_key() as (url, key), _empty_app() as folder:
        for number in range(rounds):
            print_progress(f"notifications of {calls} calls, round {number + 1} of {rounds}")
            with running_storage(url) as (storage, env), running_host(env) as (host, address):
                hosts.append(_measure_load(calls, [host, storage], _send_command(address, calls, token_of(key, env))))
            with running_storage(url) as (storage, env):
                bound.append(_measure_load(calls, [storage], module_command("storage_writes", calls), env))
                with running_host(env, folder) as (host, address):  # it does not use this storage
                    empty.append(_measure_load(calls, [host, storage], _send_command(address, calls, "none")))
    return {
        "host": median_figures(hosts),
        "empty_host": median_figures(empty),
        "bound": median_figures(bound),
        "ratio_to_bound": median_ratio(hosts, bound, "per_second"),
        "ratio_to_empty_host": median_ratio(hosts, empty, "per_second"),
    }


def profile_host(calls: int) -> tuple[dict[str, float], dict[str, int]]:
    """Return the storage requests of a host for one notification, by kind, and samples of its CPU time, by group.

    First it sends the notifications of `IN_FLIGHT` calls to count requests, then those of `calls` calls to sample.
    """
    few = IN_FLIGHT
    with (
        graph_with_key() as (url, key),
        running_storage(url) as (_, env),
        running_host(env, program="bench.profiled_host") as (host, address),
    ):
        token = token_of(key, env)
        host.send(START_SIGNAL)
        run_command(_send_command(address, few, token))
        host.send(START_SIGNAL)
        run_command(_send_command(address, calls, token, 2 * few))
        host.send(START_SIGNAL)
        found = json.loads(host.wait_for(r"^{.*}$")[0])
    sent = 2 * few * NOTIFICATIONS_PER_CALL  # including those that open the connections
    return {kind: count / sent for kind, count in sorted(found["requests"].items())}, found["samples"]


class _Process(Protocol):
    @property
    def pid(self) -> int: ...


def _measure_load(
    calls: int, watched: Sequence[_Process], command: Sequence[str], env: Mapping[str, str] | None = None
) -> Figures:
    """Run a command that sends notifications, and return its figures.

    It adds the CPU milliseconds for each notification, of the host and of storage.

    Parameters
    ----------
    calls
        Number of calls that the notifications are about.
    watched
        The processes that handle the notifications, storage last.
    command, env
        The command line and its settings.
    """
    before = [cpu_seconds_of(process.pid) for process in watched]
    figures = numbers_of(parse_figures(run_command(command, env)))
    sent = (calls + IN_FLIGHT) * NOTIFICATIONS_PER_CALL  # including those that open the connections
    used = [1000 * (cpu_seconds_of(process.pid) - began) / sent for process, began in zip(watched, before, strict=True)]
    return {**figures, "host_cpu_ms": sum(used[:-1]), "storage_cpu_ms": used[-1]}


def _send_command(address: str, calls: int, token: str, first: int = 0) -> list[str]:
    return module_command("send_notifications", f"{address}/api/notifications", calls, token, first)


@contextmanager
def graph_with_key() -> Iterator[tuple[str, SigningKey]]:
    """Run the Graph that counts, and yield its address and the key of its notification tokens."""
    key = SigningKey("notifications")
    with Children() as children, graph_server(children, json.dumps({"keys": [key.jwk()]})) as url:
        yield url, key


@contextmanager
def running_storage(url: str) -> Iterator[tuple[azurite.Server, dict[str, str]]]:
    """Run a new Azurite, and yield it with the settings of an app that uses it and the Graph at `url`."""
    with azurite.serving(azurite.Azurite(0, 0, 0)) as server:
        yield server, app_settings(server.storage.connection_string, url)


@contextmanager
def running_host(env: Mapping[str, str], root: Path = ROOT, program: str = "local.host") -> Iterator[tuple[Child, str]]:
    """Run a host, and yield it with its address."""
    with Children() as children:
        command = [sys.executable, "-m", program, "--port", "0", "--root", str(root)]
        host = children.start("host", command, env={**env, "PYTHONPATH": str(ROOT)}, cwd=ROOT)
        yield host, host.wait_for(r"host ready: (http://127\.0\.0\.1:\d+)", _MAX_START_TIME.total_seconds())[1]
        host.check()


@contextmanager
def _empty_app() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="call-keeper-bench-") as folder:
        Path(folder, "function_app.py").write_text(_EMPTY_APP, encoding="utf-8")
        Path(folder, "host.json").write_text((ROOT / "host.json").read_text(encoding="utf-8"), encoding="utf-8")
        yield Path(folder)


def token_of(key: SigningKey, env: Mapping[str, str]) -> str:
    """Return a notification token for the app with these settings."""
    now = int(time.time())
    expires = now + int(TOKEN_LIFETIME.total_seconds())
    return key.sign({"iss": ISSUER, "aud": env["GRAPH_APP_ID"], "tid": TENANT, "nbf": now - 60, "exp": expires})
