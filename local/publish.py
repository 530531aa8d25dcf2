"""A package to a function app, and the proof that it runs there: `python -m local.publish push|prove`.

`func azure functionapp publish` and `az functionapp deployment source config-zip` do the same upload, but then ask
`/admin/host/status`, which is shut by admin isolation, and tell a deployment that went well to be unhealthy.
"""

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local import azure
from local.azure import App, AzureError

EVERY = 5.0  # seconds between two questions
BUILD = 900.0  # seconds; Azure's remote build installs requirements.txt
SYNC = 300.0  # seconds until the platform has found the functions of new code
START = 600.0  # seconds until health must have been well for long enough
STEADY = 60.0  # seconds; less would take the last minute of the old code for the new one's first
_SUCCESS, _FAILED = 4, {3: "failed", 5: "was overtaken by another deployment", 6: "succeeded only in part"}  # Kudu


@dataclass(frozen=True, slots=True)
class Pace:
    """Time: a test steps it, people wait."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP; status 0 and the reason, if nothing came."""

    status: int
    body: str = field(repr=False)


def push(app: App, package: Path, token: str, pace: Pace | None = None) -> None:
    """Upload a package, have its requirements installed by Azure, and wait until that is done.

    Raises
    ------
    AzureError
        It was refused, the build failed, or it did not end within 15 minutes.
    """
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{app.scm}/api/publish?RemoteBuild=true&Deployer=call-keeper"
    answer = _request(url, headers | {"Content-Type": "application/zip"}, package.read_bytes())
    if answer.status not in {200, 202}:
        raise AzureError(f"{app.name} refused the package: {_refusal(answer)}")
    _tell(f"{package} is uploaded; Azure builds it")
    _await_build(f"{app.scm}/api/deployments/{_deployment(answer.body)}", headers, pace or Pace())


def prove(app: App, expected: Sequence[str], steady: float = STEADY, pace: Pace | None = None) -> None:
    """Wait until the functions of an app are the expected ones, and its health was well for `steady` seconds on end.

    Raises
    ------
    AzureError
        Other functions were found, or health was not well for that long.
    """
    _await_functions(app, sorted(expected), pace or Pace())
    _await_health(f"{app.address}/api/health", steady, pace or Pace())


def main(arguments: Sequence[str] | None = None) -> int:
    """Push or prove; the exit code."""
    args = _parser().parse_args(arguments)
    try:
        app = azure.find(args.app, args.group)
        if args.command == "push":
            push(app, Path(args.package), azure.token())
        else:
            prove(app, Path(args.expected).read_text(encoding="utf-8").split(), args.steady)
    except (AzureError, OSError) as error:
        print(f"publish: failed: {error}", file=sys.stderr)
        return 1
    return 0


def _await_build(url: str, headers: dict[str, str], pace: Pace) -> None:
    last = Answer(0, "nothing was asked yet")
    deadline = pace.now() + BUILD
    while pace.now() < deadline:
        last = _request(url, headers)
        status = _status(last)
        if status == _SUCCESS:
            _tell("the build is done")
            return
        if status in _FAILED:
            raise AzureError(f"the deployment {_FAILED[status]}: {_refusal(last)}")
        pace.sleep(EVERY)
    raise AzureError(f"the build did not end in {BUILD / 60:g} minutes: {_refusal(last)}")


def _await_functions(app: App, expected: list[str], pace: Pace) -> None:
    deadline = pace.now() + SYNC
    while (found := app.functions()) != expected:
        if pace.now() >= deadline:
            raise AzureError(_difference(expected, found))
        pace.sleep(EVERY)
    _tell(f"the {len(found)} functions are found")


def _await_health(url: str, steady: float, pace: Pace) -> None:
    """A GET each time: Azure answers a HEAD with 404. One bad answer, and the time begins anew."""
    well_since: float | None = None
    deadline = pace.now() + START + steady
    while True:
        answer = _request(url, {})
        now = pace.now()
        if answer.status != http.client.OK:
            well_since = None
            _tell(f"health: {_refusal(answer)}")
        else:
            well_since = now if well_since is None else well_since
            if now - well_since >= steady:
                _tell(f"health was well for {now - well_since:.0f} s: {_refusal(answer)}")
                return
        if now >= deadline:
            raise AzureError(f"{url} was not well for {steady:g} s on end: {_refusal(answer)}")
        pace.sleep(EVERY)


def _request(url: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - https from azure.find, http in a test
    try:
        with urllib.request.urlopen(request, timeout=300 if body else 30) as response:  # noqa: S310 - as above
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error))


def _parsed(answer: str) -> object:
    try:
        parsed: object = json.loads(answer)
    except ValueError:
        return None
    return parsed


def _deployment(answer: str) -> str:
    """Read the deployment's id, which the answer to an upload is; without one the latest is meant."""
    found = _parsed(answer)
    return urllib.parse.quote(found, safe="") if isinstance(found, str) and found else "latest"


def _status(answer: Answer) -> int | None:
    found = _parsed(answer.body)
    status = found.get("status") if answer.status == http.client.OK and isinstance(found, dict) else None
    return status if isinstance(status, int) else None


def _refusal(answer: Answer) -> str:
    advice = {
        0: "it cannot be reached",
        401: "401: the token is not taken; log in again",
        403: "403: the login needs the role Website Contributor on the app, and its address past the app's firewall",
        404: "404: no such function; was the code found?",
        409: "409: another deployment is running; wait for its end",
    }
    said = " ".join(answer.body.split())[:500]
    return f"{advice.get(answer.status, answer.status)} {said}".strip()


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    if not found:
        return "0 functions found: the code does not load in Azure; see the log stream for the import error"
    missing, strange = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    return (
        f"other functions than expected: missing {', '.join(missing) or 'none'}; strange {', '.join(strange) or 'none'}"
    )


def _tell(line: str) -> None:
    print(f"publish: {line}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.publish", description="Deploy a package, and prove it.")
    commands = parser.add_subparsers(dest="command", required=True)
    pushing = commands.add_parser("push", help="upload a package and wait until Azure has built it")
    pushing.add_argument("--package", default="dist/call-keeper.zip", help="default: %(default)s")
    proving = commands.add_parser("prove", help="compare the functions with the expected ones, watch health")
    names = "dist/call-keeper.functions.txt"
    proving.add_argument("--expected", default=names, metavar="FILE", help="names, one a line (default: %(default)s)")
    proving.add_argument("--steady", type=float, default=STEADY, help="seconds that health must be well on end")
    for command in (pushing, proving):
        command.add_argument("--app", required=True, help="the function app's name")
        command.add_argument("--group", required=True, help="its resource group")
    return parser


if __name__ == "__main__":
    sys.exit(main())
