"""Upload a package to an app's SCM site, and wait until Azure has put it in place."""

import http.client
import urllib.parse
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from release.azure import App, AzureError
from release.http_requests import REDIRECTS, Answer, explain, request
from release.waiting import Clock, print_progress

POLL = timedelta(seconds=1)  # azd, funcapp_host_client.go: "recommended by the service team"
UPLOAD_PAUSE = timedelta(seconds=10)  # between two uploads
MAX_START_TIME = timedelta(minutes=3)  # the SCM site of a new app answers 503 for a minute or two
MAX_DEPLOYMENT_TIME = timedelta(minutes=15)  # a remote build takes some minutes
MAX_UNLISTED_TIME = timedelta(minutes=1)  # until an accepted deployment is listed
MAX_REFUSALS = 3  # in a row, to report the deployment; a single one may be a fault of the site
LIBRARIES_FOLDER = ".python_packages/lib/site-packages/"  # in the package

_STARTING = frozenset({0, http.client.NOT_FOUND, http.client.BAD_GATEWAY, http.client.SERVICE_UNAVAILABLE})
_REFUSED = frozenset({http.client.UNAUTHORIZED, http.client.FORBIDDEN, *REDIRECTS})
_SUCCESS = 4  # Kudu's states; 0 to 2 mean that the deployment still runs
_FAILED: Mapping[int, str] = {
    -1: "was cancelled",
    3: "failed",
    5: "was overtaken by another deployment",
    6: "succeeded only in part",
}
_ADVICE = {404: "404: its SCM site, or the deployment, does not exist"}


def push(app: App, package: Path, token: str, *, remote_build: bool = False, clock: Clock | None = None) -> None:
    """Upload a package, and wait until Azure has put it in place.

    Parameters
    ----------
    app
        The app.
    package
        Path of the zip.
    token
        An access token that the SCM site accepts.
    remote_build
        True: Azure installs requirements.txt over the libraries that the package contains.
    clock
        The clock; a test replaces it.

    Raises
    ------
    AzureError
        The package has no libraries and there is no remote build, Azure refused the package, or the deployment failed
        or did not end.
    """
    if not remote_build and not has_libraries(package):
        raise AzureError(f"{package} carries no libraries: run make package, or let Azure install them: --remote-build")
    clock = clock or Clock()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{app.scm}/api/publish?RemoteBuild={str(remote_build).lower()}&Deployer=call-keeper"
    answer = _upload(app.name, url, headers, package.read_bytes(), clock)
    print_progress(f"{package} is uploaded; Azure {'builds it' if remote_build else 'puts it in place'}")
    _await_deployment(f"{app.scm}/api/deployments/{_deployment_id(answer)}", headers, clock)


def has_libraries(package: Path) -> bool:
    """True if a package contains its libraries. Packages before decision 0027 do not, and need a remote build.

    Raises
    ------
    AzureError
        The file is not a zip.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            return any(name.startswith(LIBRARIES_FOLDER) for name in archive.namelist())
    except zipfile.BadZipFile:
        raise AzureError(f"{package} is not a zip") from None


def _upload(name: str, url: str, headers: Mapping[str, str], content: bytes, clock: Clock) -> Answer:
    """Upload until Azure accepts the package.

    Only 202 means that, as for azd and az. A 200 is another page, such as the sign-in of a proxy.

    Azure may have accepted an upload although no answer came. It is safe to repeat it, because Azure then deploys the
    same package again. While the first deployment runs, the repeated upload gets 409, and is repeated until that
    deployment ends. So this package runs at the end, whichever upload deployed it.
    """
    began, repeated = clock.now(), False
    while True:
        answer = request(url, {**headers, "Content-Type": "application/zip"}, content)
        if answer.status == http.client.ACCEPTED:
            return answer
        limit = _retry_limit(answer.status, repeated=repeated)
        if limit is None:
            raise AzureError(f"{name} refused the package: {explain(answer, _ADVICE)}")
        if clock.since(began) >= limit:
            minutes = limit / timedelta(minutes=1)
            raise AzureError(f"{name} took no package within {minutes:g} minutes: {explain(answer, _ADVICE)}")
        print_progress(f"the upload is repeated in {UPLOAD_PAUSE.seconds} s: {explain(answer, _ADVICE)}")
        clock.wait(UPLOAD_PAUSE)
        repeated = True


def _retry_limit(status: int, *, repeated: bool) -> timedelta | None:
    """Return how long an upload with this status is repeated; None if it is not repeated."""
    if status in _STARTING:
        return MAX_START_TIME
    return MAX_DEPLOYMENT_TIME if repeated and status == http.client.CONFLICT else None


def _await_deployment(url: str, headers: Mapping[str, str], clock: Clock) -> None:
    """Poll until the deployment has ended. `release.publish prove` checks whether the app then runs.

    A 404 after a status means the end: Azure has recycled the process that reported it (azd, funcapp_host_client.go).
    """
    began, listed, refusals = clock.now(), False, 0
    while True:
        last = request(url, headers)
        status = _status(last)
        gone = last.status == http.client.NOT_FOUND
        if status == _SUCCESS or (gone and listed):
            print_progress("the deployment has ended" + (": it is no longer listed" if gone else ""))
            return
        refusals = refusals + 1 if last.status in _REFUSED else 0
        if (failure := _failure(last, status, refusals, clock.since(began))) is not None:
            raise AzureError(failure)
        listed = listed or status is not None
        clock.wait(POLL)


def _failure(last: Answer, status: int | None, refusals: int, waited: timedelta) -> str | None:
    """Return why the wait for a deployment ends with a failure; None if the wait goes on."""
    if status is not None and status in _FAILED:
        return f"the deployment {_FAILED[status]}: {explain(last)}"
    if refusals >= MAX_REFUSALS:
        return f"Azure accepted the package, but refuses to report its deployment: {explain(last, _ADVICE)}"
    if last.status == http.client.NOT_FOUND and waited >= MAX_UNLISTED_TIME:
        return f"Azure accepted the package, but does not list its deployment: {explain(last, _ADVICE)}"
    if waited >= MAX_DEPLOYMENT_TIME:
        minutes = MAX_DEPLOYMENT_TIME / timedelta(minutes=1)
        return f"the deployment did not end in {minutes:g} minutes: {explain(last, _ADVICE)}"
    return None


def _deployment_id(answer: Answer) -> str:
    """Return the id of the deployment, which is the answer to an upload; `latest` if it has none."""
    found = answer.parsed
    return urllib.parse.quote(found, safe="") if isinstance(found, str) and found else "latest"


def _status(answer: Answer) -> int | None:
    found = answer.parsed if answer.status in {http.client.OK, http.client.ACCEPTED} else None
    status = found.get("status") if isinstance(found, dict) else None
    return status if isinstance(status, int) else None
