"""Upload a package to an app's SCM site, and wait until Azure has put it in place."""

import http.client
import urllib.parse
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from release.azure import App, AzureError
from release.site import REDIRECTS, Answer, Clock, refusal, request, tell

POLL = timedelta(seconds=1)  # azd, funcapp_host_client.go: "recommended by the service team"
PAUSE = timedelta(seconds=10)  # between two uploads
MAX_START = timedelta(minutes=3)  # the SCM site of a new app answers 503 for a minute or two
MAX_DEPLOYMENT = timedelta(minutes=15)  # a remote build takes some minutes
MAX_UNLISTED = timedelta(minutes=1)  # until a deployment that was taken is listed
MAX_REFUSALS = 3  # in a row, of a question about the deployment; one may be a slip of the site
LIBRARIES = ".python_packages/lib/site-packages/"  # where a package carries them

_STARTING = frozenset({0, http.client.NOT_FOUND, http.client.BAD_GATEWAY, http.client.SERVICE_UNAVAILABLE})
_REFUSED = frozenset({http.client.UNAUTHORIZED, http.client.FORBIDDEN, *REDIRECTS})
_SUCCESS = 4  # Kudu's states; those before it, 0 to 2, are on the way
_FAILED: Mapping[int, str] = {
    -1: "was cancelled",
    3: "failed",
    5: "was overtaken by another deployment",
    6: "succeeded only in part",
}
_ADVICE = {404: "404: its SCM site, or the deployment, is not there"}


def push(app: App, package: Path, token: str, *, remote_build: bool = False, clock: Clock | None = None) -> None:
    """Upload a package, and wait until Azure has put it in place.

    With `remote_build` Azure installs requirements.txt anew, over the libraries that the package carries.

    Raises
    ------
    AzureError
        It has no libraries and Azure shall not install them, it was refused, or the deployment failed or did not end.
    """
    if not remote_build and not carries_libraries(package):
        raise AzureError(f"{package} carries no libraries: make package, or have Azure install them: --remote-build")
    clock = clock or Clock()
    headers = {"Authorization": f"Bearer {token}"}
    built = str(remote_build).lower()
    url = f"{app.scm}/api/publish?RemoteBuild={built}&Deployer=call-keeper"
    answer = _upload(app.name, url, headers, package.read_bytes(), clock)
    tell(f"{package} is uploaded; Azure {'builds it' if remote_build else 'puts it in place'}")
    _await_end(f"{app.scm}/api/deployments/{_deployment(answer)}", headers, clock)


def carries_libraries(package: Path) -> bool:
    """Tell whether Azure can run a package as it is. Those of before decision 0027 need a remote build.

    Raises
    ------
    AzureError
        It is no zip.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            return any(name.startswith(LIBRARIES) for name in archive.namelist())
    except zipfile.BadZipFile:
        raise AzureError(f"{package} is no zip") from None


def _upload(name: str, url: str, headers: Mapping[str, str], content: bytes, clock: Clock) -> Answer:
    """Upload until it is taken: only 202 says so, as for azd and az. A 200 is some other page, of a proxy or a sign-in.

    An upload that got no answer may have been taken all the same. To repeat it does no harm: the same package is put
    in place once more. While the first one is under way the repeated one gets 409, and is repeated until that ends;
    so what runs in the end is this package, whoever's deployment it was.
    """
    begun, repeated = clock.now(), False
    while True:
        answer = request(url, {**headers, "Content-Type": "application/zip"}, content)
        if answer.status == http.client.ACCEPTED:
            return answer
        limit = _patience(answer.status, repeated=repeated)
        if limit is None:
            raise AzureError(f"{name} refused the package: {refusal(answer, _ADVICE)}")
        if clock.since(begun) >= limit:
            minutes = limit / timedelta(minutes=1)
            raise AzureError(f"{name} took no package within {minutes:g} minutes: {refusal(answer, _ADVICE)}")
        tell(f"the upload is repeated in {PAUSE.seconds} s: {refusal(answer, _ADVICE)}")
        clock.wait(PAUSE)
        repeated = True


def _patience(status: int, *, repeated: bool) -> timedelta | None:
    """Tell for how long an upload with this answer is repeated; None: not at all."""
    if status in _STARTING:
        return MAX_START
    return MAX_DEPLOYMENT if repeated and status == http.client.CONFLICT else None


def _await_end(url: str, headers: Mapping[str, str], clock: Clock) -> None:
    """Ask until the deployment has ended; the proof judges whether what runs is good.

    A 404 after a status means the end: the process that told is recycled (azd, funcapp_host_client.go).
    """
    begun, listed, refusals = clock.now(), False, 0
    while True:
        last = request(url, headers)
        status = _status(last)
        gone = last.status == http.client.NOT_FOUND
        if status == _SUCCESS or (gone and listed):
            tell("the deployment has ended" + (": it is no longer listed" if gone else ""))
            return
        refusals = refusals + 1 if last.status in _REFUSED else 0
        if (failure := _failure(last, status, refusals, clock.since(begun))) is not None:
            raise AzureError(failure)
        listed = listed or status is not None
        clock.wait(POLL)


def _failure(last: Answer, status: int | None, refusals: int, waited: timedelta) -> str | None:
    """Tell why a deployment that has not ended is not awaited any longer; None: it is."""
    if status is not None and status in _FAILED:
        return f"the deployment {_FAILED[status]}: {refusal(last)}"
    if refusals >= MAX_REFUSALS:
        return f"Azure took the package, and refuses to tell of its deployment: {refusal(last, _ADVICE)}"
    if last.status == http.client.NOT_FOUND and waited >= MAX_UNLISTED:
        return f"Azure took the package, and does not list its deployment: {refusal(last, _ADVICE)}"
    if waited >= MAX_DEPLOYMENT:
        minutes = MAX_DEPLOYMENT / timedelta(minutes=1)
        return f"the deployment did not end in {minutes:g} minutes: {refusal(last, _ADVICE)}"
    return None


def _deployment(answer: Answer) -> str:
    """Read the deployment's id, which the answer to an upload is; without one the latest is meant."""
    found = answer.parsed
    return urllib.parse.quote(found, safe="") if isinstance(found, str) and found else "latest"


def _status(answer: Answer) -> int | None:
    found = answer.parsed if answer.status in {http.client.OK, http.client.ACCEPTED} else None
    status = found.get("status") if isinstance(found, dict) else None
    return status if isinstance(status, int) else None
