"""A short check that a Functions host runs the package: `make smoke`, or `make smoke HOST=func` for Core Tools.

It starts Azurite, the simulator and the host. The host must find the functions of the package, report good health,
and register a call. Continuous integration uses Core Tools, which contain Azure's host. The app and its libraries come
from the package, if this machine can load them.
"""

import argparse
import secrets
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx

from local.demo.__main__ import TENANT
from local.host.keys import MASTER_KEY
from local.stack.azurite import AzuriteError
from local.stack.folders import temporary_folder
from local.stack.processes import ProcessError
from local.stack.stack import Options, Stack, running
from local.up import CALL
from release.libraries import LIBRARIES_FOLDER
from release.package_check import runs_here
from release.proof import RELAY_FUNCTIONS

EXPECTED = "dist/call-keeper.functions.txt"
MAX_START_TIME = timedelta(minutes=3)  # Core Tools download the extension bundle at their first start
POLL = timedelta(milliseconds=500)
RELAY_TARGETS = '[{"name": "bot", "url": "http://127.0.0.1:9/calls", "format": "graph"}]'  # nothing is sent there


class SmokeError(Exception):
    """The host does not work. The message says how."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start all processes, check the host, stop them, and return the exit code."""
    args = _parser().parse_args(arguments)
    master = secrets.token_urlsafe(24)
    settings = {MASTER_KEY: master, "RELAY_TARGETS": RELAY_TARGETS if args.relay else ""}
    options = Options(
        speed=1, schedule="0 0 0 1 1 *", core_tools=args.host == "func", echo=args.echo, settings=settings
    )
    try:
        expected = {*Path(args.expected).read_text(encoding="utf-8").split(), *(RELAY_FUNCTIONS if args.relay else ())}
        with (
            _package_options(options, args.package) as unpacked,
            running(unpacked) as stack,
            httpx.Client(base_url=stack.address, timeout=30) as client,
        ):
            count = _check_host(stack, client, sorted(expected), master)
    except (AzuriteError, ProcessError, SmokeError, OSError, zipfile.BadZipFile) as error:
        print(f"smoke: failed: {error}", file=sys.stderr)
        return 1
    print(f"smoke: ok: {count} functions, health is good, and a call was registered")
    return 0


@contextmanager
def _package_options(options: Options, package: str | None) -> Iterator[Options]:
    """Yield options that run the app of a package with its libraries; without a package, the app of the repository."""
    if package is None:
        yield options
        return
    with zipfile.ZipFile(package) as archive, temporary_folder() as folder:
        app = folder / "app"
        archive.extractall(app)
        yield replace(options, app=app, libraries=app / LIBRARIES_FOLDER if runs_here() else None)


def _check_host(stack: Stack, client: httpx.Client, expected: list[str], master: str) -> int:
    """Return the number of functions, or raise `SmokeError`. `master` is the master key of the host."""
    health = _await_health(stack, client)
    listed = client.get("/admin/functions", headers={"x-functions-key": master}).json()
    found = sorted(function["name"] for function in listed)
    if found != expected:
        raise SmokeError(f"functions {', '.join(found) or 'none'}; expected {', '.join(expected)}")
    key = {"x-functions-key": stack.function_key}
    registered = client.put(f"/api/calls/{CALL}", json={"tenantId": TENANT}, headers=key)
    read = client.get(f"/api/calls/{CALL}", headers=key)
    if (registered.status_code, read.status_code) != (httpx.codes.CREATED, httpx.codes.OK):
        raise SmokeError(
            f"PUT answered {registered.status_code}, GET {read.status_code}: {registered.text} {read.text}"
        )
    print(f"smoke: health {health}")
    return len(found)


def _await_health(stack: Stack, client: httpx.Client) -> str:
    deadline = time.monotonic() + MAX_START_TIME.total_seconds()
    last = "no answer"
    while time.monotonic() < deadline:
        stack.check()
        try:
            answer = client.get("/api/health")
        except httpx.TransportError as error:
            last = str(error)
        else:
            if answer.status_code == httpx.codes.OK:
                return answer.text
            last = f"{answer.status_code} {answer.text}"
        time.sleep(POLL.total_seconds())
    raise SmokeError(f"/api/health did not report good health in {MAX_START_TIME.total_seconds():g} s: {last}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release.smoke", description="Check that a host runs the app.")
    parser.add_argument("--host", choices=("local", "func"), default="local", help="func: Azure Functions Core Tools")
    parser.add_argument("--package", metavar="ZIP", help="the package to run (default: the repository's app)")
    parser.add_argument(
        "--expected", default=EXPECTED, metavar="FILE", help="names of the functions, one a line (default: %(default)s)"
    )
    parser.add_argument("--relay", action="store_true", help="set RELAY_TARGETS, and expect the relay's functions too")
    parser.add_argument("--echo", action="store_true", help="show the output of the host")
    return parser


if __name__ == "__main__":
    sys.exit(main())
