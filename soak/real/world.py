"""The whole of Call Keeper as real processes: the app through its API, Graph through the simulator's control API."""

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

PATIENCE = 60.0  # seconds, for what happens in other processes on a busy machine
TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Attempt(_Model):
    """One POST of a notification; `status` None: no answer. The time is simulated."""

    at: AwareDatetime
    status: int | None


class Sent(_Model):
    """A notification, and what became of it."""

    id: str
    change_type: str
    state: str | None
    lost: bool
    attempts: list[Attempt]

    @property
    def acknowledged(self) -> bool:
        """Whether the webhook took it."""
        return any(attempt.status == httpx.codes.ACCEPTED for attempt in self.attempts)


class Operation(_Model):
    """A recording, as Graph or as Call Keeper knows it."""

    id: str
    status: str


class SimulatedLease(_Model):
    """The lease of a call, as Graph knows it."""

    renewed_at: AwareDatetime


class Simulated(_Model):
    """A call, as Graph knows it. Times are simulated."""

    id: str
    lease: SimulatedLease
    over: bool
    started_at: AwareDatetime
    ended_at: AwareDatetime | None
    code: int | None
    subcode: int | None
    keep_alives: int
    keep_alive_times: list[AwareDatetime] = []
    notifications: list[Sent] = []
    operations: list[Operation] = []


class Failing(_Model):
    """That keepAlive fails."""

    since: AwareDatetime
    reason: str


class Lease(_Model):
    """The lease of a call, as far as Call Keeper can prove it."""

    renewed_at: AwareDatetime
    failing: Failing | None


class Termination(_Model):
    """A call's end."""

    code: int | None
    subcode: int | None
    reason: str
    category: str
    source: str
    ended_at: AwareDatetime


class Known(_Model):
    """A call, as Call Keeper knows it. Times are real."""

    id: str
    status: str
    state: str
    lease: Lease | None
    termination: Termination | None


class Event(_Model):
    """A line of a call's story."""

    kind: str
    at: AwareDatetime


class Request(_Model):
    """A request that the simulator was sent; the time is simulated."""

    at: AwareDatetime
    call_id: str | None
    tenant_id: str | None
    status: int | None


class World:
    """What runs, and how to act on it."""

    tenant = TENANT

    def __init__(self, stack: Stack, client: httpx.Client) -> None:
        self.stack = stack
        self._client = client

    # Graph and the bots

    def begin(self, *, shard: int | None = None, tenant: str = TENANT, host: int = 0) -> str:
        """A call is established, and notifies this host; its id."""
        call_id = _call_id(shard)
        call = {"id": call_id, "tenantId": tenant, "appId": APP_ID}
        call["callbackUri"] = f"{self.stack.hosts[host].api}/notifications"
        self.control("POST", "/calls", call)
        return call_id

    def begin_and_register(self, *, shard: int | None = None, tenant: str = TENANT) -> str:
        """A call that has begun and that Call Keeper knows; its id."""
        call_id = self.begin(shard=shard, tenant=tenant)
        self.ask("PUT", f"/calls/{call_id}", {"tenantId": tenant, "startedAt": datetime.now(UTC).isoformat()})
        return call_id

    def end(self, call_id: str, code: int = 200, subcode: int = 5001) -> None:
        """Graph ends the call, and notifies it."""
        self.control("POST", f"/calls/{call_id}/end", {"code": code, "subcode": subcode})

    def forget(self, call_id: str) -> None:
        """Graph knows it no more, and never says so."""
        self.control("POST", f"/calls/{call_id}/forget")

    def fault(self, **members: object) -> str:
        """Something goes wrong at Graph from now on; its id."""
        return str(self.control("POST", "/faults", members).json()["id"])

    def hits(self, fault: str) -> int:
        """How often a fault has hit so far."""
        found = self.control("GET", "/faults").json()["value"]
        return next((int(one["hits"]) for one in found if one["id"] == fault), 0)

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self.control("DELETE", "/faults")

    def deliver(self, **modes: object) -> None:
        """How notifications travel from now on."""
        self.control("PUT", "/delivery", modes)

    def simulated(self, call_id: str) -> Simulated:
        """What Graph knows of it."""
        return Simulated.model_validate(self.control("GET", f"/calls/{call_id}").json())

    def all_simulated(self, among: Sequence[str]) -> list[Simulated]:
        """What Graph knows of these, in short."""
        found = [Simulated.model_validate(one) for one in self.control("GET", "/calls").json()["value"]]
        return [one for one in found if one.id in set(among)]

    def requests(self, operation: str) -> list[Request]:
        """What Graph was asked, oldest first."""
        answer = self.control("GET", f"/requests?operation={operation}&limit=5000").json()
        return [Request.model_validate(one) for one in answer["value"]]

    def simulated_now(self) -> datetime:
        """The simulated time."""
        return datetime.fromisoformat(self.control("GET", "/clock").json()["now"])

    def control(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Ask the simulator."""
        answer = self._client.request(method, f"{self.stack.simulator}/control{path}", json=body)
        assert answer.is_success, answer.text
        return answer

    # Call Keeper

    def known(self, call_id: str) -> Known | None:
        """The record of a call, None if there is none."""
        answer = self.request("GET", f"/calls/{call_id}")
        return Known.model_validate(answer.json()) if answer.is_success else None

    def termination(self, call_id: str) -> Termination | None:
        """Why it ended, None while it has not."""
        known = self.known(call_id)
        return known.termination if known else None

    def ended_with(self, call_id: str) -> tuple[int | None, int | None] | None:
        """The codes of its end, None while it has not ended."""
        end = self.termination(call_id)
        return (end.code, end.subcode) if end else None

    def operations(self, call_id: str) -> list[Operation]:
        """Its recordings."""
        return [
            Operation.model_validate(one) for one in self.ask("GET", f"/calls/{call_id}/operations").json()["value"]
        ]

    def failing(self, call_id: str) -> str | None:
        """Why keepAlive fails for it, None if it does not."""
        known = self.known(call_id)
        return known.lease.failing.reason if known and known.lease and known.lease.failing else None

    def story(self, call_id: str) -> list[Event]:
        """The lines of a call's story."""
        return [Event.model_validate(one) for one in self.ask("GET", f"/calls/{call_id}/events").json()["value"]]

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx.Response:
        """Ask the API, which must do it."""
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
        """Ask the API at a host, with an `Idempotency-Key` or without, whatever it answers."""
        headers = {"x-functions-key": self.stack.function_key} | ({"Idempotency-Key": f'"{once}"'} if once else {})
        return self._client.request(method, f"{self.stack.hosts[host].api}{path}", headers=headers, json=body)

    def sweeps(self, host: int = 0) -> list[tuple[str, int]]:
        """The finished sweeps of a host since its start, by its log: what woke them, how many calls they renewed."""
        said = self.stack.hosts[host].child.output.splitlines()
        lines = [line for line in said if "keep_alive.sweep.finished" in line]
        fields = [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]
        return [(one["wakeUp"], int(one["renewed"])) for one in fields]

    # Trouble

    @contextmanager
    def storage_stopped(self) -> Iterator[None]:
        """Storage refuses connections, and has everything again afterwards. Needs `keep_storage`."""
        self.stack.azurite.stop()
        try:
            yield
        finally:
            self.stack.azurite.start()

    @contextmanager
    def storage_outage(self) -> Iterator[None]:
        """Storage neither answers nor refuses, and has everything again afterwards."""
        os.killpg(self.stack.azurite.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.stack.azurite.pid, signal.SIGCONT)

    def until(self, holds: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until it holds: what happens in other processes cannot be stepped."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"within {seconds:g} s it did not happen"
            time.sleep(0.1)

    def calm_down(self) -> None:
        """Leave nothing of a test: no fault, no mode, no live call."""
        self.mend()
        self.deliver()
        for call in self.control("GET", "/calls").json()["value"]:
            if not call["over"]:
                self.end(call["id"])


@contextmanager
def running(options: Options) -> Iterator[World]:
    """Everything, for as long as the block lasts."""
    with stack_running(options) as stack, httpx.Client(timeout=30) as client:
        yield World(stack, client)


def children(pid: int | None = None) -> set[int]:
    """The processes that this one, or another, has started and that have not ended."""
    parent = str(pid or os.getpid())
    return {one for one in _processes() if _stat(one)[1:2] == [parent] and _stat(one)[0] != "Z"}


def descendants(pid: int) -> set[int]:
    """Its children, and theirs."""
    found = children(pid)
    return found.union(*(descendants(one) for one in found))


def alive(pid: int) -> bool:
    """Whether it runs."""
    return _stat(pid)[:1] not in ([], ["Z"])


def command_of(pid: int) -> str:
    """Its command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _stat(pid: int) -> list[str]:
    """State and parent, and what follows; nothing if it is gone (proc(5): the name before may hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _call_id(shard: int | None) -> str:
    while True:
        call_id = str(uuid.uuid4())
        if shard is None or shard_of(call_id) == shard:
            return call_id
