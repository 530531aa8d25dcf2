"""Microsoft Graph's directory, as the signed-in account may read and write it."""

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeGuard

from infra import commands
from infra.commands import Json, objects


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where a cloud's directory is, and whose tokens it takes as assertions of a federated identity."""

    graph: str
    authority: str
    audience: str


# Graph: "National cloud deployments" page; Entra: "Configure an app to trust a managed identity" page.
CLOUDS = {
    "global": Cloud("https://graph.microsoft.com", "https://login.microsoftonline.com", "api://AzureADTokenExchange"),
    "usgov-l4": Cloud(
        "https://graph.microsoft.us", "https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"
    ),
    "usgov-l5": Cloud(
        "https://dod-graph.microsoft.us", "https://login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"
    ),
}
MAX_WAIT = timedelta(minutes=2)  # until all replicas of the directory show what was just made
PAUSE = timedelta(seconds=5)
_EXISTS = "already exists"  # Graph's words where a list was read too early to show what was just made
_LATE = (  # Graph's words if a replica does not know yet what a request refers to
    "Permission being assigned was not found",
    "Not a valid reference update",
    "does not reference a valid application object",
)


class Refused(Exception):
    """What went wrong, in one line."""


class Forbidden(Refused):
    """The account may not do that, so a repetition does not help: another account must do it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Graph answered: the status, its reason phrase, and the body as text."""

    status: int
    reason: str
    body: str = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the request was done."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3


class Directory:
    """Microsoft Graph's directory. With `dry_run` it reads, and tells what it would write.

    Parameters
    ----------
    root
        Address of Graph with its version, such as `https://graph.microsoft.com/v1.0`.
    bearer
        An access token for Graph.
    dry_run
        Whether writes are only told.
    """

    def __init__(self, root: str, bearer: str, *, dry_run: bool) -> None:
        self._root = root
        self._bearer = bearer
        self._dry_run = dry_run
        self._wrote = False
        self._known: dict[str, Json] = {}

    def find(self, path: str, what: str) -> Json | None:
        """An object, or None if there is none."""
        return self._read(path, what, patient=False)

    def get(self, path: str, what: str) -> Json:
        """An object that must be there. After a write it may appear late."""
        found = self._read(path, what, patient=self._wrote)
        if found is None:
            raise Refused(f"{what}: the directory has none. Is the id right, and this the right tenant and cloud?")
        return found

    def find_or_make(self, path: str, collection: str, body: Json, what: str) -> Json:
        """An object by its path; made in its collection if there is none. Empty in a dry run that would make it.

        It is looked up once: the next look-up may reach a replica that does not show it yet.
        """
        if path not in self._known:
            made = self.find(path, what) or self.write("POST", collection, body, what)
            self._known[path] = made or ({} if self._dry_run else self.get(path, what))
        return self._known[path]

    def every(self, path: str, what: str) -> Iterator[Json]:
        """All items of a list, page by page."""
        address: object = path
        while isinstance(address, str):
            page = self.get(address, what)
            yield from objects(page.get("value"))
            address = page.get("@odata.nextLink")

    def write(self, method: str, path: str, body: Json, what: str) -> Json:
        """Change something, and tell it."""
        if self._dry_run:
            sys.stdout.write(f"would: {what}\n")
            return {}
        answer = self._send(method, path, body, what, patient=True)
        if answer.status == http.client.NOT_FOUND:
            raise Refused(f"{what}: {_reason(answer)}")
        self._wrote = True
        if not answer.is_success:
            sys.stdout.write(f"there: {what}\n")
            return {}
        sys.stdout.write(f"done:  {what}\n")
        return _object(answer, what) if answer.body else {}

    def _read(self, path: str, what: str, *, patient: bool) -> Json | None:
        answer = self._send("GET", path, None, what, patient=patient)
        return None if answer.status == http.client.NOT_FOUND else _object(answer, what)

    def _send(self, method: str, path: str, body: Json | None, what: str, *, patient: bool) -> Answer:
        request = self._request(method, path, body, what)
        answer = _patiently(request, what) if patient else _exchange(request, what)
        there_already = method == "POST" and _EXISTS in answer.body
        if answer.is_success or answer.status == http.client.NOT_FOUND or there_already:
            return answer
        if answer.status == http.client.FORBIDDEN:
            raise Forbidden(f"{what}: {_reason(answer)} This account may not do that.")
        raise Refused(f"{what}: {_reason(answer)}")

    def _request(self, method: str, path: str, body: Json | None, what: str) -> urllib.request.Request:
        """A request to Graph. The link to a list's next page is a whole address, which must be Graph's too."""
        url = f"{self._root}{path}" if path.startswith("/") else path
        if not url.startswith(f"{self._root}/"):
            raise Refused(f"{what}: the list goes on at an address that is not Graph's")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._bearer}", "Content-Type": "application/json"}
        return urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the cloud's own address


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer: followed, it would carry the token to another address."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def wait(pause: timedelta) -> None:
    """Let time pass. A test steps it."""
    time.sleep(pause.total_seconds())


def _patiently(request: urllib.request.Request, what: str) -> Answer:
    """Send a request, and repeat it while a replica of the directory does not know what was made a moment ago."""
    waited = timedelta()
    while True:
        answer = _exchange(request, what)
        if waited >= MAX_WAIT or not _is_late(answer):
            return answer
        if not waited:
            minutes = MAX_WAIT // timedelta(minutes=1)
            sys.stdout.write(f"wait:  {what}: the directory is not ready for it yet, {minutes} minutes at most\n")
            sys.stdout.flush()
        wait(PAUSE)
        waited += PAUSE


def _is_late(answer: Answer) -> bool:
    if answer.status == http.client.NOT_FOUND:
        return "Request_ResourceNotFound" in answer.body
    return answer.status == http.client.BAD_REQUEST and any(words in answer.body for words in _LATE)


def _exchange(request: urllib.request.Request, what: str) -> Answer:
    try:
        with _OPENER.open(request, timeout=30) as response:
            return Answer(response.status, response.reason, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.reason, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Refused(f"{what}: Graph could not be reached ({reason})") from None


def _object(answer: Answer, what: str) -> Json:
    found = _parsed(answer.body)
    if not isinstance(found, dict):
        raise Refused(f"{what}: the answer is no JSON object (HTTP {answer.status})")
    return found


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _reason(answer: Answer) -> str:
    """Graph's own words, in one line."""
    body = _parsed(answer.body)
    error = body.get("error") if isinstance(body, dict) else None
    words = f"{error['code']}: {error['message']}" if _is_error(error) else answer.reason
    return f"HTTP {answer.status} {' '.join(words.split())}"


def _is_error(error: object) -> TypeGuard[dict[str, str]]:
    return isinstance(error, dict) and {"code", "message"} <= set(error)


def token(cloud: Cloud) -> str:
    """A token for Graph, from the account that `az` is signed in with."""
    command = ("az", "account", "get-access-token", "--resource", cloud.graph, "--output", "json")
    try:
        answer = commands.asked(*command)
    except commands.CommandError as error:
        raise Refused(f"token: {str(error).rstrip('.')}. Run az login, in the right cloud") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("accessToken"), str):
        raise Refused("token: az gave none. Run az login, in the right cloud")
    return str(answer["accessToken"])
