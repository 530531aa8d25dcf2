"""Common parts of the demo's steps: requests to Call Keeper and to the simulated Graph, and waiting for an effect."""

import time
from collections.abc import Callable
from datetime import timedelta

import httpx

from local.demo.report import Json
from local.stack.stack import Stack

STEP_TIMEOUT = timedelta(seconds=90)  # for one step: twice the 45 s that a lease takes here
POLL_INTERVAL = timedelta(seconds=0.2)
MAX_QUOTED_BODY = 300  # characters of a response that an error quotes


class DemoFailed(Exception):
    """A step of the demo did not happen as expected. The message says which."""


class Requests:
    """Sends requests with the function key.

    Every method raises `DemoFailed` if the effect does not come, and `ProcessError` if a process has ended.
    """

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self._stack = stack
        self._client = client
        self._key = {"x-functions-key": stack.function_key}

    def send(self, method: str, url: str, expected: int | tuple[int, ...], json: Json | None = None) -> Json:
        """Return the JSON of the response, whose status must be expected."""
        response = self.request(method, url, self._key, json)
        if response.status_code not in (expected if isinstance(expected, tuple) else (expected,)):
            raise DemoFailed(f"{method} {url} answered {response.status_code}: {response.text[:MAX_QUOTED_BODY]}")
        found: Json = response.json()
        return found

    def find(self, url: str) -> Json:
        """Return what the URL leads to, or an empty dict if nothing is there."""
        response = self.request("GET", url, self._key)
        return response.json() if response.status_code == httpx.codes.OK else {}

    def simulated(self, call_id: str) -> Json:
        """Return the simulator's view of a call."""
        return self.send("GET", f"{self._stack.simulator}/control/calls/{call_id}", 200)

    def request(self, method: str, url: str, headers: dict[str, str], json: Json | None = None) -> httpx.Response:
        """Return a response of any status."""
        try:
            return self._client.request(method, url, headers=headers, json=json)
        except httpx.HTTPError as error:
            time.sleep(POLL_INTERVAL.total_seconds())  # a dying process closes its connections before it ends
            self._stack.check()
            raise DemoFailed(f"{method} {url} got no response ({type(error).__name__})") from error

    def wait_until[T](self, condition: str, look: Callable[[], T], holds: Callable[[T], bool]) -> T:
        """Look again and again until it holds, and return what was seen. `condition` is for the error."""
        deadline = time.monotonic() + STEP_TIMEOUT.total_seconds()
        while time.monotonic() < deadline:
            self._stack.check()
            seen = look()
            if holds(seen):
                return seen
            time.sleep(POLL_INTERVAL.total_seconds())
        raise DemoFailed(f"timed out after {STEP_TIMEOUT.total_seconds():.0f} s while waiting until {condition}")


def short(call_id: str) -> str:
    """Return the first part of a call's id, as the demo prints it."""
    return f"{call_id[:8]}-…"
