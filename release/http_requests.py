"""HTTP requests to an app's site and SCM site, for `release.publish`: one request, its answer, and its explanation."""

import http.client
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

MAX_GET_TIME = timedelta(seconds=30)
MAX_UPLOAD_TIME = timedelta(minutes=15)  # 70 MB at 1 Mbit/s take about 10 minutes
MAX_BODY_SHOWN = 500  # characters
REDIRECTS = range(http.client.MULTIPLE_CHOICES, http.client.BAD_REQUEST)
_ADVICE: Mapping[int, str] = {
    0: "it cannot be reached",
    401: "401: the token is not accepted; sign in again",
    403: "403: the account needs the role Website Contributor on the app, and the app's firewall must admit you",
    404: "404: it does not exist",
    409: "409: another deployment is running; wait for its end",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. If there was none, the status is 0 and the body is the reason."""

    status: int
    body: str = field(repr=False)

    @property
    def parsed(self) -> object:
        """The body as JSON; None if it is not JSON."""
        try:
            found: object = json.loads(self.body)
        except ValueError:
            return None
        return found


def request(url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """Send a GET, or a POST if there is a body. It never raises: if no response comes, the status is 0.

    It does not follow a redirect. The body of a redirect is the address that it names, without the query.
    """
    prepared = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - https by azure.find_app, http in a test
    limit = MAX_GET_TIME if body is None else MAX_UPLOAD_TIME
    try:
        with _opener().open(prepared, timeout=limit.total_seconds()) as response:
            target = response.headers.get("Location", "") if response.status in REDIRECTS else ""
            body_text = response.read().decode(errors="replace")
            return Answer(response.status, target.partition("?")[0] or body_text)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error) or type(error).__name__)


@cache
def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that returns every response unchanged, and follows no redirect.

    `urllib.request.urlopen` would send the token or the function key to the other host. It would also turn a POST into
    a GET, and then a 200 would not mean that the package was accepted.
    """
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(urllib.request.HTTPHandler())
    opener.add_handler(urllib.request.HTTPSHandler())
    opener.add_handler(urllib.request.UnknownHandler())
    return opener


def explain(answer: Answer, advice: Mapping[int, str] | None = None) -> str:
    """Return an answer in one line, with what to do about its status.

    Parameters
    ----------
    answer
        The answer. Of its body at most `MAX_BODY_SHOWN` characters are shown.
    advice
        What to do, by status; it replaces the general advice.
    """
    body = " ".join(answer.body.split())[:MAX_BODY_SHOWN]
    if answer.status in REDIRECTS:
        return f"{answer.status}: it redirects to {body or 'another page'}, which is not followed"
    known = {**_ADVICE, **(advice or {})}
    return f"{known.get(answer.status, answer.status)} {body}".strip()
