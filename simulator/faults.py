"""Faults on demand: what goes wrong, for which requests, how often and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from simulator.wire import canonical_id

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from simulator.clock import Clock


class OperationName(StrEnum):
    """Everything that the simulator imitates, by the names that faults and counts use."""

    CREATE = "create"
    GET = "get"
    DELETE = "delete"
    KEEP_ALIVE = "keepAlive"
    ANSWER = "answer"
    RECORD_RESPONSE = "recordResponse"
    RECORD = "record"
    PLAY_PROMPT = "playPrompt"
    CANCEL = "cancelMediaProcessing"
    GET_OPERATION = "getOperation"
    DOWNLOAD = "download"
    TOKEN = "token"  # noqa: S105 a name, no secret
    IDENTITY = "managedIdentity"
    DISCOVERY = "discovery"
    KEYS = "keys"
    BOT_DISCOVERY = "notificationDiscovery"
    BOT_KEYS = "notificationKeys"


NOT_GRAPH = {
    OperationName.TOKEN,
    OperationName.IDENTITY,
    OperationName.DISCOVERY,
    OperationName.KEYS,
    OperationName.BOT_DISCOVERY,
    OperationName.BOT_KEYS,
}


_FIRST_FAILURE = 300


class Fault(BaseModel):
    """What goes wrong. Without `operation` it hits everything of Graph, and nothing of Entra or of the keys."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    operation: OperationName | None = None
    call_id: str | None = None
    tenant_id: str | None = None
    status: int | None = Field(None, ge=200, le=599)
    stranger: Literal["page", "empty", "json"] | None = Field(
        None, description="with a status: something on the way answers in Graph's place, without Graph's headers"
    )
    subcode: int | str | None = Field(None, description="the error's code; without it Graph's word for the status")
    message: str | None = None
    retry_after: float | str | None = Field(None, description="seconds, also fractional, or an HTTP date")
    delay_seconds: float = Field(0, ge=0, description="before the answer, in simulated seconds")
    drop_connection: bool = False
    afterwards: bool = Field(
        default=False, description="carry the request out, and spoil only its answer", validate_default=True
    )
    probability: float = Field(1, gt=0, le=1)
    count: int | None = Field(None, ge=1, description="hits, after which it is over")
    for_seconds: float | None = Field(None, gt=0, description="simulated seconds, after which it is over")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.status is None and not self.drop_connection and self.delay_seconds == 0:
            raise ValueError("a fault needs one of status, delaySeconds, dropConnection")
        if self.drop_connection and self.status is not None:
            raise ValueError("a dropped connection has no status: give one of status, dropConnection")
        if self.stranger is not None and self.status is None:
            raise ValueError("a stranger's answer needs a status")
        if self.stranger is None and self.status is not None and self.status < _FIRST_FAILURE:
            raise ValueError("Graph refuses with 300 to 599; a stranger may answer 200 to 599")
        return self


@dataclass(slots=True)
class ActiveFault:
    """A fault at work."""

    id: str
    fault: Fault
    until: datetime | None
    hits: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a fault is matched with."""

    operation: OperationName
    call_id: str | None
    tenant_id: str | None
    app_id: str | None


class Faults:
    """The faults at work, oldest first; the first that fits a request hits it."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._made = 0
        self._active: list[ActiveFault] = []

    def add(self, fault: Fault) -> ActiveFault:
        """Start a fault."""
        self._made += 1
        seconds = fault.for_seconds
        until = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        active = ActiveFault(str(self._made), fault, until)
        self._active.append(active)
        return active

    def all(self) -> list[ActiveFault]:
        """Those that are not over."""
        now = self._clock.now()
        self._active = [active for active in self._active if not _is_over(active, now)]
        return list(self._active)

    def remove(self, fault_id: str) -> bool:
        """Stop one; False if there is none of this id."""
        kept = [active for active in self._active if active.id != fault_id]
        found = len(kept) < len(self._active)
        self._active = kept
        return found

    def clear(self) -> None:
        """Stop them all."""
        self._active.clear()

    def hit(self, asked: Asked) -> ActiveFault | None:
        """The fault that hits this request, counted."""
        for active in self.all():
            if _fits(active.fault, asked) and self._random.random() < active.fault.probability:
                active.hits += 1
                return active
        return None


def _is_over(active: ActiveFault, now: datetime) -> bool:
    spent = active.fault.count is not None and active.hits >= active.fault.count
    return spent or (active.until is not None and now >= active.until)


def _fits(fault: Fault, asked: Asked) -> bool:
    if fault.operation is None and asked.operation in NOT_GRAPH:
        return False
    return (
        fault.operation in {None, asked.operation}
        and (fault.call_id is None or canonical_id(fault.call_id) == asked.call_id)
        and (fault.tenant_id is None or fault.tenant_id.lower() == asked.tenant_id)
    )
