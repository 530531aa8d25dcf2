"""Faults on request: which requests they affect, what goes wrong, how often and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from simulator.wire import ControlModel, canonical_id

if TYPE_CHECKING:
    from datetime import datetime
    from random import Random

    from simulator.clock import Clock


class OperationName(StrEnum):
    """The operations of the simulated routes, by the names that faults and counts use."""

    CREATE = "create"
    GET = "get"
    DELETE = "delete"
    KEEP_ALIVE = "keepAlive"
    ANSWER = "answer"
    REJECT = "reject"
    RECORD_RESPONSE = "recordResponse"
    RECORD = "record"
    PLAY_PROMPT = "playPrompt"
    CANCEL = "cancelMediaProcessing"
    SUBSCRIBE_TO_TONE = "subscribeToTone"
    GET_OPERATION = "getOperation"
    DOWNLOAD = "download"
    TOKEN = "token"  # noqa: S105 a name, no secret
    IDENTITY = "managedIdentity"
    DISCOVERY = "discovery"
    KEYS = "keys"
    NOTIFICATION_DISCOVERY = "notificationDiscovery"
    NOTIFICATION_KEYS = "notificationKeys"


NOT_GRAPH = {
    OperationName.TOKEN,
    OperationName.IDENTITY,
    OperationName.DISCOVERY,
    OperationName.KEYS,
    OperationName.NOTIFICATION_DISCOVERY,
    OperationName.NOTIFICATION_KEYS,
}

_MIN_REFUSAL = 300  # the lowest status with which Graph itself refuses


class Fault(ControlModel):
    """A requested fault. Without `operation` it affects all requests to Graph, but none to Entra or for keys."""

    operation: OperationName | None = None
    call_id: str | None = None
    tenant_id: str | None = None
    status: int | None = Field(None, ge=200, le=599)
    proxy_response: Literal["page", "empty", "json"] | None = Field(
        None, description="with a status: a proxy or gateway answers instead of Graph, without Graph's headers"
    )
    subcode: int | str | None = Field(None, description="the error's code; without it Graph's name of the status")
    message: str | None = None
    retry_after: float | str | None = Field(None, description="seconds, fractions too, or an HTTP date")
    delay_seconds: float = Field(0, ge=0, description="before the response, in simulated seconds")
    drop_connection: bool = False
    response_only: bool = Field(default=False, description="carry the request out, and change only its response")
    probability: float = Field(1, gt=0, le=1)
    count: int | None = Field(None, ge=1, description="number of affected requests after which the fault is over")
    for_seconds: float | None = Field(None, gt=0, description="simulated seconds after which the fault is over")

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.status is None and not self.drop_connection and self.delay_seconds == 0:
            raise ValueError("a fault needs one of status, delaySeconds, dropConnection")
        if self.drop_connection and self.status is not None:
            raise ValueError("a dropped connection has no status: give one of status, dropConnection")
        if self.proxy_response is not None and self.status is None:
            raise ValueError("a proxyResponse needs a status")
        if self.proxy_response is None and self.status is not None and self.status < _MIN_REFUSAL:
            raise ValueError("give a status from 300 to 599, or, with proxyResponse, from 200 to 599")
        return self


@dataclass(slots=True)
class ActiveFault:
    """A fault that is not over, with the number of requests that it has affected."""

    id: str
    fault: Fault
    until: datetime | None
    hits: int = 0


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The properties of a request that faults are matched with, and that the journal records."""

    operation: OperationName
    call_id: str | None
    tenant_id: str | None
    app_id: str | None


class Faults:
    """The active faults, oldest first. The first one that matches a request affects it."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._created = 0
        self._active: list[ActiveFault] = []

    def add(self, fault: Fault) -> ActiveFault:
        """Start a fault."""
        self._created += 1
        seconds = fault.for_seconds
        until = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        active = ActiveFault(str(self._created), fault, until)
        self._active.append(active)
        return active

    def all(self) -> list[ActiveFault]:
        """Return the faults that are not over."""
        now = self._clock.now()
        self._active = [active for active in self._active if not _is_over(active, now)]
        return list(self._active)

    def remove(self, fault_id: str) -> bool:
        """Stop one fault. Return False if no fault has this id."""
        kept = [active for active in self._active if active.id != fault_id]
        found = len(kept) < len(self._active)
        self._active = kept
        return found

    def clear(self) -> None:
        """Stop all faults."""
        self._active.clear()

    def match(self, facts: RequestFacts) -> ActiveFault | None:
        """Return the fault that affects this request, if any, and count the hit."""
        for active in self.all():
            if _matches(active.fault, facts) and self._random.random() < active.fault.probability:
                active.hits += 1
                return active
        return None


def _is_over(active: ActiveFault, now: datetime) -> bool:
    used_up = active.fault.count is not None and active.hits >= active.fault.count
    return used_up or (active.until is not None and now >= active.until)


def _matches(fault: Fault, facts: RequestFacts) -> bool:
    if fault.operation is None and facts.operation in NOT_GRAPH:
        return False
    return (
        fault.operation in {None, facts.operation}
        and (fault.call_id is None or canonical_id(fault.call_id) == facts.call_id)
        and (fault.tenant_id is None or fault.tenant_id.lower() == facts.tenant_id)
    )
