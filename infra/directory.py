"""Microsoft Graph's directory, read and written as the signed-in account."""

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
    """The addresses of a cloud, and the audience of the assertions that its Entra accepts from a federated identity."""

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
MAX_WAIT = timedelta(minutes=2)  # until all replicas of the directory show a new object
PAUSE = timedelta(seconds=5)
_EXISTS_TEXT = "already exists"  # Graph's message if a list was read before it showed a new object
_LATE_TEXTS = (  # Graph's messages if a replica does not know the object of a request yet
    "Permission being assigned was not found",
    "Not a valid reference update",
    "does not reference a valid application object",
)


class DirectoryError(Exception):
    """A request to the directory failed. The message is one line."""


class ForbiddenError(DirectoryError):
    """The account may not do that. A repetition fails too: another account must do it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of Graph: the status, its reason phrase, and the body as text."""

    status: int
    reason: str
    body: str = field(repr=False)

    @property
    def is_success(self) -> bool:
        """True if the request succeeded."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110, 15.3


class Directory:
    """Microsoft Graph's directory. With `dry_run` it reads, and prints what it would write.

    Parameters
    ----------
    root
        Address of Graph with its version, such as `https://graph.microsoft.com/v1.0`.
    bearer
        An access token for Graph.
    dry_run
        True to print writes instead of sending them.
    """

    def __init__(self, root: str, bearer: str, *, dry_run: bool) -> None:
        self._root = root
        self._bearer = bearer
        self._dry_run = dry_run
        self._wrote = False
        self._known: dict[str, Json] = {}

    def find(self, path: str, what: str) -> Json | None:
        """Return an object, or None if it does not exist."""
        return self._read(path, what, wait_for_replicas=False)

    def get(self, path: str, what: str) -> Json:
        """Return an object that must exist. After a write it may appear late, so a 404 is repeated."""
        found = self._read(path, what, wait_for_replicas=self._wrote)
        if found is None:
            raise DirectoryError(f"{what}: the directory has none. Check the id, the tenant and the cloud")
        return found

    def find_or_create(self, path: str, collection: str, body: Json, what: str) -> Json:
        """Return an object by its path; create it in its collection if it does not exist.

        The result is empty if a dry run would create it. The object is read only once, because the next read may reach
        a replica that does not show it yet.
        """
        if path not in self._known:
            found = self.find(path, what) or self.write("POST", collection, body, what)
            self._known[path] = found or ({} if self._dry_run else self.get(path, what))
        return self._known[path]

    def list_all(self, path: str, what: str) -> Iterator[Json]:
        """Yield all items of a list, page by page."""
        address: object = path
        while isinstance(address, str):
            page = self.get(address, what)
            yield from objects(page.get("value"))
            address = page.get("@odata.nextLink")

    def write(self, method: str, path: str, body: Json, what: str) -> Json:
        """Send a change, print it, and return the object in the response; empty if there is none."""
        if self._dry_run:
            sys.stdout.write(f"would: {what}\n")
            return {}
        answer = self._send(method, path, body, what, wait_for_replicas=True)
        if answer.status == http.client.NOT_FOUND:
            raise DirectoryError(f"{what}: {_reason(answer)}")
        self._wrote = True
        if not answer.is_success:
            sys.stdout.write(f"there: {what}\n")
            return {}
        sys.stdout.write(f"done:  {what}\n")
        return _object(answer, what) if answer.body else {}

    def _read(self, path: str, what: str, *, wait_for_replicas: bool) -> Json | None:
        answer = self._send("GET", path, None, what, wait_for_replicas=wait_for_replicas)
        return None if answer.status == http.client.NOT_FOUND else _object(answer, what)

    def _send(self, method: str, path: str, body: Json | None, what: str, *, wait_for_replicas: bool) -> Answer:
        request = self._request(method, path, body, what)
        answer = _send_until_known(request, what) if wait_for_replicas else _send_once(request, what)
        exists = method == "POST" and _EXISTS_TEXT in answer.body
        if answer.is_success or answer.status == http.client.NOT_FOUND or exists:
            return answer
        if answer.status == http.client.FORBIDDEN:
            raise ForbiddenError(f"{what}: {_reason(answer)} This account may not do that.")
        raise DirectoryError(f"{what}: {_reason(answer)}")

    def _request(self, method: str, path: str, body: Json | None, what: str) -> urllib.request.Request:
        """Return a request to Graph. The next page of a list has a full address, which must also be Graph's."""
        url = f"{self._root}{path}" if path.startswith("/") else path
        if not url.startswith(f"{self._root}/"):
            raise DirectoryError(f"{what}: the next page of the list is at an address that is not Graph's")
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._bearer}", "Content-Type": "application/json"}
        return urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - an address of the cloud


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Returns a redirect as the answer. To follow it would send the token to another address."""

    def redirect_request(self, *_: object) -> None:
        """Return None, so that the redirect is not followed."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def wait(pause: timedelta) -> None:
    """Sleep. A test replaces this function."""
    time.sleep(pause.total_seconds())


def _send_until_known(request: urllib.request.Request, what: str) -> Answer:
    """Send a request, and repeat it while a replica of the directory does not know a new object."""
    waited = timedelta()
    while True:
        answer = _send_once(request, what)
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
    return answer.status == http.client.BAD_REQUEST and any(text in answer.body for text in _LATE_TEXTS)


def _send_once(request: urllib.request.Request, what: str) -> Answer:
    try:
        with _OPENER.open(request, timeout=30) as response:
            return Answer(response.status, response.reason, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.reason, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DirectoryError(f"{what}: Graph could not be reached ({reason})") from None


def _object(answer: Answer, what: str) -> Json:
    found = _parsed(answer.body)
    if not isinstance(found, dict):
        raise DirectoryError(f"{what}: the answer is not a JSON object (HTTP {answer.status})")
    return found


def _parsed(text: str) -> object:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _reason(answer: Answer) -> str:
    """Return Graph's error code and message, in one line."""
    body = _parsed(answer.body)
    error = body.get("error") if isinstance(body, dict) else None
    text = f"{error['code']}: {error['message']}" if _is_error(error) else answer.reason
    return f"HTTP {answer.status} {' '.join(text.split())}"


def _is_error(error: object) -> TypeGuard[dict[str, str]]:
    return isinstance(error, dict) and {"code", "message"} <= set(error)


def get_token(cloud: Cloud) -> str:
    """Return an access token for Graph, of the account that `az` is signed in with."""
    command = ("az", "account", "get-access-token", "--resource", cloud.graph, "--output", "json")
    try:
        answer = commands.run_json(*command)
    except commands.CommandError as error:
        raise DirectoryError(f"token: {str(error).rstrip('.')}. Run az login, in the right cloud") from None
    if not isinstance(answer, dict) or not isinstance(answer.get("accessToken"), str):
        raise DirectoryError("token: az returned none. Run az login, in the right cloud")
    return str(answer["accessToken"])
