"""An app's two sites over HTTP, for `release.publish`: one request, its answer, and how a refusal is told."""

import http.client
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

MAX_ANSWER = timedelta(seconds=30)  # until a question is answered
MAX_UPLOAD = timedelta(minutes=15)  # until a package is sent: 70 MB at 1 Mbit/s
REDIRECTS = range(http.client.MULTIPLE_CHOICES, http.client.BAD_REQUEST)
_ADVICE: Mapping[int, str] = {
    0: "it cannot be reached",
    401: "401: the token is not taken; log in again",
    403: "403: the login needs the role Website Contributor on the app, and its address past the app's firewall",
    404: "404: it is not there",
    409: "409: another deployment is running; wait for its end",
}


@dataclass(frozen=True, slots=True)
class Clock:
    """Time in seconds. A test steps it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def since(self, begun: float) -> timedelta:
        """Tell how long ago that was."""
        return timedelta(seconds=self.now() - begun)

    def wait(self, pause: timedelta) -> None:
        """Sleep."""
        self.sleep(pause.total_seconds())


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP. If nothing came, the status is 0 and the body the reason."""

    status: int
    body: str = field(repr=False)

    @property
    def parsed(self) -> object:
        """The body's JSON; None if it is none."""
        try:
            found: object = json.loads(self.body)
        except ValueError:
            return None
        return found


def request(url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """GET a page, or POST a body. Never raises: an answer that did not come has status 0.

    A redirect is an answer like any other. Its body here is the address that it names, without the query.
    """
    asked = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - https from azure.find, http in a test
    limit = MAX_ANSWER if body is None else MAX_UPLOAD
    try:
        with _opener().open(asked, timeout=limit.total_seconds()) as response:
            elsewhere = response.headers.get("Location", "") if response.status in REDIRECTS else ""
            said = response.read().decode(errors="replace")
            return Answer(response.status, elsewhere.partition("?")[0] or said)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error) or type(error).__name__)


@cache
def _opener() -> urllib.request.OpenerDirector:
    """Make an opener for HTTP that returns every answer as it is, and follows no redirect.

    `urllib.request.urlopen` would send the token or the function key along to the other host, and would turn a POST
    into a GET, whose 200 then says nothing of the package.
    """
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(urllib.request.HTTPHandler())
    opener.add_handler(urllib.request.HTTPSHandler())
    opener.add_handler(urllib.request.UnknownHandler())
    return opener


def refusal(answer: Answer, advice: Mapping[int, str] | None = None) -> str:
    """Tell an answer in one line, with what to do about its status; `advice` is of this page, and goes first."""
    said = " ".join(answer.body.split())[:500]
    if answer.status in REDIRECTS:
        return f"{answer.status}: it redirects to {said or 'another page'}, and that is not followed"
    known = {**_ADVICE, **(advice or {})}
    return f"{known.get(answer.status, answer.status)} {said}".strip()


def tell(line: str) -> None:
    """Print a line of progress."""
    print(f"publish: {line}", flush=True)
