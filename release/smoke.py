"""A short proof that a Functions host runs the package: `make smoke`, or `make smoke HOST=func` for Core Tools.

Azurite, the simulator and the host are started; the host must find the functions of the package, be well, and take a
call. Continuous integration does it with Core Tools, the host that Azure has. The app and its libraries are those of
the package, if this machine can load them.
"""

import argparse
import secrets
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from local.demo.__main__ import TENANT
from local.host.keys import MASTER_KEY
from local.stack.azurite import AzuriteError
from local.stack.folders import temporary_folder
from local.stack.processes import ProcessError
from local.stack.stack import Options, Stack, running
from local.up import CALL
from release.libraries import PLACE
from release.package_check import runs_here

EXPECTED = "dist/call-keeper.functions.txt"
PATIENCE = 180.0  # seconds: Core Tools fetch the extension bundle when they start for the first time
POLL = 0.5  # seconds


class SmokeError(Exception):
    """The host does not do what it should. The message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start everything, look, and stop it; the exit code."""
    args = _parser().parse_args(arguments)
    master = secrets.token_urlsafe(24)
    options = Options(
        speed=1, schedule="0 0 0 1 1 *", core_tools=args.host == "func", echo=args.echo, settings={MASTER_KEY: master}
    )
    try:
        expected = Path(args.expected).read_text(encoding="utf-8").split()
        with (
            _of_package(options, args.package) as unpacked,
            running(unpacked) as stack,
            httpx.Client(base_url=stack.address, timeout=30) as client,
        ):
            found = _look(stack, client, sorted(expected), master)
    except (AzuriteError, ProcessError, SmokeError, OSError, zipfile.BadZipFile) as error:
        print(f"smoke: failed: {error}", file=sys.stderr)
        return 1
    print(f"smoke: ok: {found} functions, well, and a call was taken")
    return 0


@contextmanager
def _of_package(options: Options, package: str | None) -> Iterator[Options]:
    """Run the app of a package, by its libraries; without one that of the repository."""
    if package is None:
        yield options
        return
    with zipfile.ZipFile(package) as archive, temporary_folder() as folder:
        app = folder / "app"
        archive.extractall(app)
        yield replace(options, app=app, libraries=app / PLACE if runs_here() else None)


def _look(stack: Stack, client: httpx.Client, expected: list[str], master: str) -> int:
    health = _await_health(stack, client)
    listed = client.get("/admin/functions", headers={"x-functions-key": master}).json()
    found = sorted(function["name"] for function in listed)
    if found != expected:
        raise SmokeError(f"functions {', '.join(found) or 'none'}; expected {', '.join(expected)}")
    key = {"x-functions-key": stack.function_key}
    taken = client.put(f"/api/calls/{CALL}", json={"tenantId": TENANT}, headers=key)
    read = client.get(f"/api/calls/{CALL}", headers=key)
    if (taken.status_code, read.status_code) != (httpx.codes.CREATED, httpx.codes.OK):
        raise SmokeError(f"PUT answered {taken.status_code}, GET {read.status_code}: {taken.text} {read.text}")
    print(f"smoke: health {health}")
    return len(found)


def _await_health(stack: Stack, client: httpx.Client) -> str:
    deadline = time.monotonic() + PATIENCE
    told = "no answer"
    while time.monotonic() < deadline:
        stack.check()
        try:
            answer = client.get("/api/health")
        except httpx.TransportError as error:
            told = str(error)
        else:
            if answer.status_code == httpx.codes.OK:
                return answer.text
            told = f"{answer.status_code} {answer.text}"
        time.sleep(POLL)
    raise SmokeError(f"/api/health was not well in {PATIENCE:g} s: {told}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m release.smoke", description="Prove that a host runs the app.")
    parser.add_argument("--host", choices=("local", "func"), default="local", help="func: Azure Functions Core Tools")
    parser.add_argument("--package", metavar="ZIP", help="the package to run (default: the repository's app)")
    parser.add_argument("--expected", default=EXPECTED, metavar="FILE", help="names, one a line (default: %(default)s)")
    parser.add_argument("--echo", action="store_true", help="show what the host says")
    return parser


if __name__ == "__main__":
    sys.exit(main())
