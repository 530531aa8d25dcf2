"""A simulator as a process, and what the tests ask of it."""

import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from local.stack.processes import Children
from local.stack.stack import ROOT, Stack
from tests.examples.bots import trusting

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
MAX_WAIT = timedelta(seconds=20)
POLL_INTERVAL = timedelta(seconds=0.05)
STEPS = ("answer", "subscribeToTone", "recordResponse", "delete")


class Graph:
    """The simulator's control API.

    Parameters
    ----------
    client
        Sends the requests.
    address, authority
        Its URLs for http and https.
    ca_file
        The certificate authority of the second.
    """

    def __init__(self, client: httpx.Client, address: str, authority: str, ca_file: Path) -> None:
        self._client = client
        self.address, self.authority, self.ca_file = address, authority, ca_file

    def settings_of_bot(self, app_id: str, callback: str) -> dict[str, str]:
        """Return the environment variables of a bot whose Graph and Entra are the simulator."""
        return {
            "BOT_APP_ID": app_id,
            "BOT_CALLBACK": callback,
            "GRAPH_URL": f"{self.address}/v1.0",
            "LOGIN_URL": self.authority,
            "LEGACY_METADATA": f"{self.address}/v1/.well-known/OpenIdConfiguration",
            **trusting(self.ca_file),
        }

    def control(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Send a request to the control API. It must succeed."""
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer

    def advance(self, seconds: float) -> None:
        """Step the clock, and wait until what falls due is delivered."""
        self.control("POST", "/clock", {"advance": seconds})

    def call_bot(self, app_id: str, webhook: str) -> str:
        """Let somebody call the bot. Return the id of the call."""
        call_id = str(uuid.uuid4())
        call = {"id": call_id, "tenantId": TENANT, "appId": app_id, "callbackUri": webhook, "state": "incoming"}
        self.control("POST", "/calls", call)
        return call_id

    def press(self, call_id: str, tone: str = "tone1") -> None:
        """Let the participant press a key."""
        self.control("POST", f"/calls/{call_id}/tone", {"tone": tone})

    def call(self, call_id: str) -> dict[str, object]:
        """Return a call."""
        found: dict[str, object] = self.control("GET", f"/calls/{call_id}").json()
        return found

    def state(self, call_id: str) -> object:
        """Return the state of a call."""
        return self.call(call_id)["state"]

    def recordings(self, call_id: str) -> list[str]:
        """Return the ids of a call's recordings."""
        operations = self.control("GET", f"/calls/{call_id}").json()["operations"]
        return [one["id"] for one in operations if one["kind"] == "recordResponse"]

    def requests(self, call_id: str) -> list[str]:
        """Return what the bot asked Graph to do with a call, in this order."""
        found = self.control("GET", f"/requests?callId={call_id}&limit=1000").json()["value"]
        return [one["operation"] for one in found if one["operation"] in STEPS]

    def token(self, app_id: str, **members: object) -> str:
        """Return a token of an app for itself, or another one."""
        body = {"appId": app_id, "tenantId": TENANT, "audience": app_id, **members}
        return str(self.control("POST", "/tokens", body).json()["token"])


@contextmanager
def graph_of(stack: Stack) -> Iterator[Graph]:
    """Yield the simulator of a stack."""
    settings = stack.settings()
    with _client(stack.simulator) as client:
        yield Graph(client, stack.simulator, settings["AZURE_AUTHORITY_HOST"], Path(settings["SSL_CERT_FILE"]))


@contextmanager
def simulated_graph(folder: Path) -> Iterator[Graph]:
    """Run a simulator without a stack during the block. Its clock moves only by steps."""
    ca_file = folder / "simulator-ca.pem"
    with Children() as children:
        command = ["-m", "simulator", "--port", "0", "--tls-port", "0", "--ca-file", str(ca_file)]
        child = children.start("simulator", [sys.executable, *command, "--speed", "0", "--quiet"], cwd=ROOT)
        found = child.wait_for(r"simulator ready: (http://\S+?), (https://\S+)")
        with _client(found[1]) as client:
            yield Graph(client, found[1], found[2], ca_file)


def _client(address: str) -> httpx.Client:
    return httpx.Client(base_url=f"{address}/control", timeout=MAX_WAIT.total_seconds())


def wait_until(holds: Callable[[], object], what: Callable[[], str] = str) -> None:
    """Wait until a condition holds. A test cannot step the time of another process."""
    deadline = time.monotonic() + MAX_WAIT.total_seconds()
    while not holds():
        assert time.monotonic() < deadline, f"the condition did not hold within {MAX_WAIT}. {what()}"
        time.sleep(POLL_INTERVAL.total_seconds())
