"""An app's two sites over HTTP, for `local.publish`: one request, its answer, and how a refusal is told."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

MAX_ANSWER = timedelta(seconds=30)  # until a question is answered
MAX_UPLOAD = timedelta(minutes=15)  # until a package is sent: 70 MB at 1 Mbit/s
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
    """GET a page, or POST a body. Never raises: an answer that did not come has status 0."""
    asked = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - https from azure.find, http in a test
    limit = MAX_ANSWER if body is None else MAX_UPLOAD
    try:
        with urllib.request.urlopen(asked, timeout=limit.total_seconds()) as response:  # noqa: S310 - as above
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error) or type(error).__name__)


def refusal(answer: Answer, advice: Mapping[int, str] | None = None) -> str:
    """Tell an answer in one line, with what to do about its status; `advice` is of this page, and goes first."""
    said = " ".join(answer.body.split())[:500]
    known = {**_ADVICE, **(advice or {})}
    return f"{known.get(answer.status, answer.status)} {said}".strip()


def tell(line: str) -> None:
    """Print a line of progress."""
    print(f"publish: {line}", flush=True)
