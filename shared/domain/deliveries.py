"""The records of the relay: deliveries to bots, their lanes, and the states of destinations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

NOTIFICATION_TYPE = "notification"  # the type of a delivery that carries Graph's own request
EVENT_TYPES = ("call.established", "call.ended", "call.at_risk", "recording.completed", "recording.lost")
DELIVERY_WINDOW = timedelta(hours=24)  # from the receipt, or from a replay; then the delivery is dead
MAX_KEPT_ATTEMPTS = 20  # of one delivery: the first one and the latest ones are kept
DELIVERY_ID_PATTERN = "([0-9]{2})-([0-9]{16})-([0-9a-f]{8})"
_TO = re.compile(r"[A-Za-z0-9-]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class DeliveryStatus(StrEnum):
    """Pending: it is attempted. Delivered: the bot answered 2xx. Dead: given up. Disabled: the bot answered 410."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISABLED = "disabled"


class Destination(NamedTuple):
    """A target with its `{to}` filled in: the name of an entry of RELAY_TARGETS, and the instance, if any."""

    target: str
    to: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver.

    `status` is None if there was no answer; `error` says why, in one word of docs/api.md. `latency` is zero if nothing
    was sent.
    """

    at: datetime
    status: int | None = None
    error: str | None = None
    latency: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One body, or one event, for one destination, from its receipt until it is delivered or dead.

    Parameters
    ----------
    id
        The `webhook-id` of all its attempts: the shard of its row, its sequence, and eight random hex digits.
    call_ids
        The calls of the body. The row is in the shard of the first one.
    sequence
        Orders the deliveries of a call: microseconds since 1970, raised above that of the call's delivery before.
    type
        `notification`, or the type of an event.
    tenant_id, app_id
        The tenant and the bot of the call: a late delivery carries a token of this bot for this tenant.
    headers
        The content type and the correlation headers of Graph's request. Never a token.
    body
        None once it is deleted, or if it is too large to be stored.
    retry_since
        Start of the 24 hours: the receipt, or the last replay.
    next_attempt_at
        While pending. None while the first attempt runs, or while the delivery waits for one before it.
    is_replay
        True if an operator asked for this attempt: it is made at a destination that is switched off too.
    wants_answer
        True if Graph wants the bot's answer in the response. It is attempted once, and cannot be replayed.
    """

    id: str
    call_ids: tuple[str, ...]
    sequence: int
    destination: Destination
    type: str
    tenant_id: str
    app_id: str | None
    received_at: datetime
    retry_since: datetime
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: tuple[Attempt, ...] = ()
    delivered_at: datetime | None = None
    next_attempt_at: datetime | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    is_replay: bool = False
    wants_answer: bool = False

    @property
    def call_id(self) -> str:
        """The call in whose shard the row is."""
        return self.call_ids[0]

    @property
    def lane(self) -> "LaneKey":
        """The lane that the delivery waits in."""
        return LaneKey(self.call_id, self.destination)


class LaneKey(NamedTuple):
    """A call and a destination: the deliveries of a lane are attempted one after another."""

    call_id: str
    destination: Destination


@dataclass(frozen=True, slots=True)
class Lane:
    """The state of a lane that has pending deliveries.

    Parameters
    ----------
    claim_id, claimed_until
        The worker that attempts the first delivery, and the time after which it counts as dead.
    next_attempt_at
        The time of the next attempt, if no worker has the lane.
    oldest_received_at
        The receipt, or the replay, of the delivery that was first when the row was written.
    appended
        How often deliveries were added while the lane existed. Each addition changes the row, so that the worker that
        completes the delivery before sees it by the ETag.
    """

    key: LaneKey
    claim_id: str = ""
    claimed_until: datetime | None = None
    next_attempt_at: datetime | None = None
    oldest_received_at: datetime | None = None
    appended: int = 0


@dataclass(frozen=True, slots=True)
class DestinationState:
    """The state of a destination in trouble. A healthy destination has no row.

    Parameters
    ----------
    disabled_at
        When it answered 410. None: it is switched on.
    rests_until
        The end of its `Retry-After`.
    failures
        The number of attempts that have failed in a row, so that the breaker opened.
    opens_at
        When the breaker lets the next probe through. None: it is closed.
    probed_until
        While a worker probes: the time after which the probe counts as dead.
    """

    destination: Destination
    disabled_at: datetime | None = None
    rests_until: datetime | None = None
    failures: int = 0
    opens_at: datetime | None = None
    probed_until: datetime | None = None


def sequence_at(moment: datetime) -> int:
    """Return the sequence of a delivery that is received at this time, if no later one is on record."""
    return (moment - _EPOCH) // _MICROSECOND


def delivery_id(shard: int, sequence: int, random: str) -> str:
    """Return the id of a delivery. `random` has eight hex digits."""
    return f"{shard:02}-{sequence:016}-{random}"


def parse_delivery_id(text: str) -> tuple[int, int] | None:
    """Return the shard and the sequence of an id, or None if it is not an id of a delivery."""
    match = re.fullmatch(DELIVERY_ID_PATTERN, text)
    return (int(match[1]), int(match[2])) if match else None


def is_valid_to(text: str) -> bool:
    """True if the text can be the `to` of a destination."""
    return _TO.fullmatch(text) is not None
