"""Call Keeper as real processes: tests reach the app by its API and Graph by the simulator's control API."""

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from local.stack.stack import APP_ID, Options, Stack
from local.stack.stack import running as stack_running
from shared.storage.store import shard_of

MAX_WAIT = 60.0  # seconds, for events in other processes on a busy machine
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Attempt(_Model):
    """One POST of a notification, in simulated time. `status` is None without an answer."""

    at: AwareDatetime
    status: int | None


class Notification(_Model):
    """A notification, and the attempts to deliver it. `lost` if the simulator does not deliver it."""

    id: str
    change_type: str
    state: str | None
    lost: bool
    attempts: list[Attempt]

    @property
    def acknowledged(self) -> bool:
        """True if the webhook accepted it."""
        return any(attempt.status == httpx.codes.ACCEPTED for attempt in self.attempts)


class Operation(_Model):
    """A recording, at Graph or in Call Keeper."""

    id: str
    status: str


class SimulatedLease(_Model):
    """The lease of a call at Graph, in simulated time."""

    renewed_at: AwareDatetime


class SimulatedCall(_Model):
    """A call at Graph, in simulated time."""

    id: str
    lease: SimulatedLease
    over: bool
    started_at: AwareDatetime
    ended_at: AwareDatetime | None
    code: int | None
    subcode: int | None
    keep_alives: int
    keep_alive_times: list[AwareDatetime] = []
    notifications: list[Notification] = []
    operations: list[Operation] = []


class Failing(_Model):
    """Why keepAlive fails, and since when."""

    since: AwareDatetime
    reason: str


class Lease(_Model):
    """The lease of a call in Call Keeper, in real time."""

    renewed_at: AwareDatetime
    failing: Failing | None


class Termination(_Model):
    """The end of a call in Call Keeper, in real time."""

    code: int | None
    subcode: int | None
    reason: str
    category: str
    source: str
    ended_at: AwareDatetime


class StoredCall(_Model):
    """A call in Call Keeper, in real time."""

    id: str
    status: str
    state: str
    lease: Lease | None
    termination: Termination | None


class Event(_Model):
    """A line of a call's event log, in real time."""

    kind: str
    at: AwareDatetime


class Request(_Model):
    """A request that the simulator received, in simulated time."""

    at: AwareDatetime
    call_id: str | None
    tenant_id: str | None
    status: int | None


class World:
    """The running processes, and actions on them.

    Parameters
    ----------
    stack
        The hosts, the storage and the simulator.
    client
        Sends the requests to them.
    """

    tenant = TENANT

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self.stack = stack
        self._client = client

    # Graph and the bots

    def begin(self, *, shard: int | None = None, tenant: str = TENANT, host: int = 0) -> str:
        """Start a call that notifies this host. Return its id, which is in this shard if one is given."""
        call_id = _call_id(shard)
        call = {"id": call_id, "tenantId": tenant, "appId": APP_ID}
        call["callbackUri"] = f"{self.stack.hosts[host].api}/notifications"
        self.control("POST", "/calls", call)
        return call_id

    def begin_and_register(self, *, shard: int | None = None, tenant: str = TENANT) -> str:
        """Start a call and register it. Return its id."""
        call_id = self.begin(shard=shard, tenant=tenant)
        self.request_ok("PUT", f"/calls/{call_id}", {"tenantId": tenant, "startedAt": datetime.now(UTC).isoformat()})
        return call_id

    def end(self, call_id: str, code: int = 200, subcode: int = 5001) -> None:
        """End the call at Graph, which notifies the host."""
        self.control("POST", f"/calls/{call_id}/end", {"code": code, "subcode": subcode})

    def forget(self, call_id: str) -> None:
        """Remove the call from Graph without a notification."""
        self.control("POST", f"/calls/{call_id}/forget")

    def fault(self, **members: object) -> str:
        """Add a fault to Graph. Return its id."""
        return str(self.control("POST", "/faults", members).json()["id"])

    def count_hits(self, fault: str) -> int:
        """Return how many requests a fault has struck so far."""
        found = self.control("GET", "/faults").json()["value"]
        return next((int(one["hits"]) for one in found if one["id"] == fault), 0)

    def clear_faults(self) -> None:
        """Remove all faults from Graph."""
        self.control("DELETE", "/faults")

    def set_delivery(self, **modes: object) -> None:
        """Set how Graph delivers notifications. Without modes: at once, in order, once."""
        self.control("PUT", "/delivery", modes)

    def simulated_call(self, call_id: str) -> SimulatedCall:
        """Return a call at Graph."""
        return SimulatedCall.model_validate(self.control("GET", f"/calls/{call_id}").json())

    def simulated_calls(self, among: Sequence[str]) -> list[SimulatedCall]:
        """Return these calls at Graph, without their keepAlives, notifications and operations."""
        found = [SimulatedCall.model_validate(one) for one in self.control("GET", "/calls").json()["value"]]
        return [one for one in found if one.id in set(among)]

    def requests_to_graph(self, operation: str) -> list[Request]:
        """Return the requests that Graph received for this operation, oldest first."""
        answer = self.control("GET", f"/requests?operation={operation}&limit=5000").json()
        return [Request.model_validate(one) for one in answer["value"]]

    def simulated_now(self) -> datetime:
        """Return the simulated time."""
        return datetime.fromisoformat(self.control("GET", "/clock").json()["now"])

    def control(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Send a request to the simulator's control API. It must succeed."""
        answer = self._client.request(method, f"{self.stack.simulator}/control{path}", json=body)
        assert answer.is_success, answer.text
        return answer

    # Call Keeper

    def stored_call(self, call_id: str) -> StoredCall | None:
        """Return the record of a call in Call Keeper, None if there is none."""
        answer = self.request("GET", f"/calls/{call_id}")
        return StoredCall.model_validate(answer.json()) if answer.is_success else None

    def termination(self, call_id: str) -> Termination | None:
        """Return why a call ended by its record, None if it has not."""
        stored = self.stored_call(call_id)
        return stored.termination if stored else None

    def ended_with(self, call_id: str) -> tuple[int | None, int | None] | None:
        """Return code and subcode of a call's end by its record, None if it has not ended."""
        end = self.termination(call_id)
        return (end.code, end.subcode) if end else None

    def operations(self, call_id: str) -> list[Operation]:
        """Return the recordings of a call by its record."""
        found = self.request_ok("GET", f"/calls/{call_id}/operations").json()["value"]
        return [Operation.model_validate(one) for one in found]

    def failing(self, call_id: str) -> str | None:
        """Return why keepAlive fails for a call by its record, None if it does not fail."""
        stored = self.stored_call(call_id)
        return stored.lease.failing.reason if stored and stored.lease and stored.lease.failing else None

    def events(self, call_id: str) -> list[Event]:
        """Return the lines of a call's event log."""
        return [Event.model_validate(one) for one in self.request_ok("GET", f"/calls/{call_id}/events").json()["value"]]

    def request_ok(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Send a request to the API. It must succeed."""
        answer = self.request(method, path, body)
        assert answer.is_success, answer.text
        return answer

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        host: int = 0,
        *,
        once: str | None = None,
    ) -> httpx.Response:
        """Send a request to the API at a host, with `once` as its `Idempotency-Key`. Any answer will do."""
        headers = {"x-functions-key": self.stack.function_key} | ({"Idempotency-Key": f'"{once}"'} if once else {})
        return self._client.request(method, f"{self.stack.hosts[host].api}{path}", headers=headers, json=body)

    def sweeps(self, host: int = 0) -> list[tuple[str, int]]:
        """Return wake-up and number of renewed calls of each sweep that a host has finished, by its log."""
        said = self.stack.hosts[host].child.output.splitlines()
        lines = [line for line in said if "keep_alive.sweep.finished" in line]
        fields = [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]
        return [(one["wakeUp"], int(one["renewed"])) for one in fields]

    # Faults and waiting

    @contextmanager
    def storage_stopped(self) -> Iterator[None]:
        """Stop storage for the block: it refuses connections. Its data stays if `keep_storage` is set."""
        self.stack.azurite.stop()
        try:
            yield
        finally:
            self.stack.azurite.start()

    @contextmanager
    def storage_outage(self) -> Iterator[None]:
        """Suspend storage for the block: it accepts connections and answers nothing. Its data stays."""
        os.killpg(self.stack.azurite.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.stack.azurite.pid, signal.SIGCONT)

    def wait_until(self, holds: Callable[[], object], seconds: float = MAX_WAIT) -> None:
        """Wait until a condition holds. Polls, because time in other processes cannot be stepped."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
            time.sleep(0.1)

    def reset(self) -> None:
        """Remove what a test has left: faults, delivery modes, active calls."""
        self.clear_faults()
        self.set_delivery()
        for call in self.control("GET", "/calls").json()["value"]:
            if not call["over"]:
                self.end(call["id"])


@contextmanager
def running(options: Options) -> Iterator[World]:
    """Run all processes for the block."""
    with stack_running(options) as stack, httpx.Client(timeout=30) as client:
        yield World(stack, client)


def children(pid: int | None = None) -> set[int]:
    """Return the running child processes of `pid`, or of this process."""
    parent = str(pid or os.getpid())
    return {one for one in _processes() if _stat(one)[1:2] == [parent] and _stat(one)[0] != "Z"}


def descendants(pid: int) -> set[int]:
    """Return the running children of a process, and their descendants."""
    found = children(pid)
    return found.union(*(descendants(one) for one in found))


def alive(pid: int) -> bool:
    """True if the process runs."""
    return _stat(pid)[:1] not in ([], ["Z"])


def command_of(pid: int) -> str:
    """Return the command line of a process, "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat from the state on, none if the process has ended.

    The command name before them may contain spaces and parentheses: proc(5).
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _call_id(shard: int | None) -> str:
    while True:
        call_id = str(uuid.uuid4())
        if shard is None or shard_of(call_id) == shard:
            return call_id
