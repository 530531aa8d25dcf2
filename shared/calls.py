"""The words of this domain: a call, its lease, its end, its operations, its story."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from shared.errors import InvalidRequest

LEASE = timedelta(minutes=45)  # Graph: call-keepAlive page
MAX_ID_LENGTH = 200  # UTF-16 units; the longest RowKey of Table Storage has 512, and ours holds two ids
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")
# Table Storage's own, `|` (our separator), `%`, white space, and halves of a character, which are no text.
_REFUSED_IN_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\#?%|\s\ud800-\udfff]")


class Status(StrEnum):
    """Whether Call Keeper still cares for a call."""

    ACTIVE = "active"
    ENDED = "ended"


class Source(StrEnum):
    """Who told that a call is over."""

    NOTIFICATION = "notification"
    KEEP_ALIVE_NOT_FOUND = "keepAliveNotFound"
    HANGUP_NOT_FOUND = "hangupNotFound"
    LOOKUP_NOT_FOUND = "lookupNotFound"


@dataclass(frozen=True)
class Timing:
    """How long things may take, all in proportion to the lease, so that a laptop can run on a shorter one.

    With Graph's 45 minutes: skew 4, unseen 5, young 6, retry 1, fresh 3, dead man's switch 20, renew on registration
    below 30, at risk after 30.
    """

    lease: timedelta = LEASE

    @cached_property
    def minute(self) -> timedelta:
        """One minute of a 45-minute lease."""
        return self.lease / 45

    @cached_property
    def skew(self) -> timedelta:
        """By how much two clocks may differ: each may be off by two minutes."""
        return 4 * self.minute

    @cached_property
    def unseen(self) -> timedelta:
        """A call that came on record less than this before a sweep may not have been seen by it.

        The clocks may differ, and a write may take as long as a patient request waits for it.
        """
        return self.skew + self.minute

    @cached_property
    def young(self) -> timedelta:
        """The age below which a 404 is asked again: two minutes, by clocks that differ."""
        return 2 * self.minute + self.skew

    @cached_property
    def fresh(self) -> timedelta:
        """A sweep that began less than this ago need not be repeated."""
        return 3 * self.minute

    @cached_property
    def stale(self) -> timedelta:
        """A sweep is overdue when the last one began longer ago than this."""
        return 20 * self.minute

    @cached_property
    def renew_at_once_below(self) -> timedelta:
        """A call registered with less than this left of its lease is renewed in the registration.

        A call with more outlives a dead timer (20 minutes until the dead man's switch) and ten minutes' trouble.
        """
        return 30 * self.minute

    @cached_property
    def at_risk_after(self) -> timedelta:
        """A call not renewed for this long is at risk."""
        return 30 * self.minute

    def retry_delay(self, attempts: int, left: timedelta) -> timedelta:
        """How long to wait before retry number `attempts` (from 1): 1, 2, 4, 8, 8, … minutes.

        Where that were more than half of what is `left` of the lease, half of it, but a minute at least: the last
        minutes of a lease see more tries, not fewer.
        """
        backoff = int(2 ** min(attempts - 1, 3)) * self.minute
        return min(backoff, max(left / 2, self.minute)) if left > timedelta() else backoff


@dataclass(frozen=True, slots=True)
class Watermark:
    """The proof that a shard was swept: each call that was active before `sweep_started_at` was renewed after it.

    Calls whose row says `failing` are excepted, and those of which it could not be written: `unwritten`.
    """

    sweep_started_at: datetime
    finished_at: datetime
    renewed: int = 0
    ended: int = 0
    failing: int = 0
    unwritten: frozenset[str] = frozenset()


def credible(watermark: Watermark | None, now: datetime, timing: Timing) -> Watermark | None:
    """The watermark, if it can be true: one of the future, written by a clock that ran far ahead, proves nothing."""
    return watermark if watermark and watermark.sweep_started_at <= now + timing.skew else None


type Place = tuple[datetime, datetime, str]
"""A call's place in a sweep: the end of its lease, as far as proved; the lease's begin by its own row; its id.

One sweep may take several ticks, and its watermark gives all its calls the same end. The second part keeps those who
were first in it before those who came a tick later.
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep came that ran out of time: the place of the last call it took.

    It holds under the watermark that the sweep saw (`under`): with another one the order is another.
    """

    started_at: datetime
    under: datetime | None
    after: Place | None = None
    renewed: int = 0
    ended: int = 0
    failing: int = 0
    unwritten: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Switch:
    """The last dead man's switch that was left: when it comes, and when the last sweep of all shards began."""

    due: datetime
    sweep_began_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failing:
    """That keepAlive does not succeed for a call, since when, and when it is tried again."""

    since: datetime
    attempts: int
    retry_at: datetime
    reason: str
    status: int | None = None
    subcode: int | None = None


type Account = tuple[str, str | None]  # tenant id and app id: what Graph's limits are counted by


@dataclass(frozen=True, slots=True)
class Lease:
    """What a sweep needs to know of an active call. `app_id` is the bot's; None: that of GRAPH_APP_ID."""

    call_id: str
    tenant_id: str
    known_at: datetime
    started_at: datetime
    renewed_at: datetime | None = None
    failing: Failing | None = None
    app_id: str | None = None

    @property
    def account(self) -> Account:
        """Whose limits at Graph a keepAlive of this call counts against."""
        return self.tenant_id, self.app_id

    @property
    def began_at(self) -> datetime:
        """When the lease last began, by the call's row alone."""
        return max(self.started_at, self.renewed_at or self.started_at)

    def last_renewal(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """When the lease last began, as far as can be proved: by the row itself, or by the shard's watermark."""
        own = self.began_at
        if watermark is None or self.failing or self.call_id in watermark.unwritten:
            return own
        if self.known_at + timing.unseen > watermark.sweep_started_at:
            return own
        return max(own, watermark.sweep_started_at)

    def expires_at(self, watermark: Watermark | None, timing: Timing) -> datetime:
        """When Graph ends the call, if nobody renews it."""
        return self.last_renewal(watermark, timing) + timing.lease

    def place(self, watermark: Watermark | None, timing: Timing) -> Place:
        """Its place in a sweep. It does not change until the watermark does.

        Whether a call that came about the time of the last sweep was in it, clocks that differ cannot tell. Here it
        was: else it goes first in this one and last in the next, 45 minutes later where a sweep takes two ticks.
        """
        last = self.last_renewal(watermark, timing)
        if watermark and not self.failing and self.call_id not in watermark.unwritten:
            swept_at = watermark.sweep_started_at
            last = swept_at if swept_at - timing.unseen - timing.skew < last < swept_at else last
        return last + timing.lease, self.began_at, self.call_id


@dataclass(frozen=True, slots=True)
class Termination:
    """Why a call ended. `code` and `subcode` are None where nobody told, or where they were no numbers."""

    source: Source
    reason: str
    category: str
    code: int | None = None
    subcode: int | None = None
    raw_code: str | None = None
    raw_subcode: str | None = None
    message: str | None = None
    message_truncated: bool = False


@dataclass(frozen=True, slots=True)
class Hangup:
    """Who asked for the hang-up, when, and whether Graph said then that the call was already gone."""

    requested_at: datetime
    requested_by: str
    not_found: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call on record. `state` is Graph's word; `known_at` is when it was first written down.

    `app_id` is the bot's whose call it is, in lower case; None: that of GRAPH_APP_ID.
    """

    id: str
    tenant_id: str
    state: str
    known_at: datetime
    started_at: datetime
    registered_at: datetime | None = None
    ever_established: bool = False
    direction: str | None = None
    call_chain_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    renewed_at: datetime | None = None
    failing: Failing | None = None
    hangup: Hangup | None = None
    ended_at: datetime | None = None
    termination: Termination | None = None
    app_id: str | None = None

    @property
    def status(self) -> Status:
        """Active, or ended for good."""
        return Status.ACTIVE if self.ended_at is None else Status.ENDED

    @property
    def lease(self) -> Lease:
        """The part of the record that a sweep reads."""
        return Lease(
            self.id, self.tenant_id, self.known_at, self.started_at, self.renewed_at, self.failing, self.app_id
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """A commsOperation of a call: a recording, a prompt, … `status` is Graph's word."""

    id: str
    call_id: str
    kind: str
    status: str
    known_at: datetime
    client_context: str | None = None
    requested_at: datetime | None = None
    requested_by: str | None = None
    finished_at: datetime | None = None
    code: int | None = None
    subcode: int | None = None
    message: str | None = None
    completion_reason: str | None = None
    recording_location: str | None = field(default=None, repr=False)
    recording_access_token: str | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether Graph is done with it."""
        return self.status in {"completed", "failed"}


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the API, to be given again: status, body, and where its Location points."""

    status: int
    body: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an `Idempotency-Key`. Without an answer it is being worked on, or whoever did that has died.

    `outcome_lost`: it failed in a way that leaves open whether Graph did it.
    """

    fingerprint: str
    began_at: datetime
    answered: Answered | None = None
    outcome_lost: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a call's story. `detail` is flat and holds no secret and no personal data.

    An event that was told to us (`told`) is the same line however often it is told; it keeps its first time.
    One of our own doing is a line each time.
    """

    kind: str
    at: datetime
    detail: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    told: bool = False

    @property
    def digest(self) -> str:
        """32 hex digits of the content."""
        content = [self.kind, dict(self.detail), None if self.told else self.at.isoformat()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def canonical_id(text: str) -> str:
    """The one form of a call's or operation's id.

    Graph writes the same id as 32 upper-case hex digits and as a lower-case hyphenated GUID (record page): both become
    the latter. Anything else is opaque and kept.

    Raises
    ------
    InvalidRequest
        The id is empty, longer than 200 characters (UTF-16 units), `.` or `..` (no URL can hold these), or has
        characters that Table Storage refuses in keys.
    """
    digits = text.replace("-", "")
    if _HEX_ID.fullmatch(digits):
        digits = digits.lower()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if text in {"", ".", ".."} or _REFUSED_IN_KEYS.search(text) or len(text.encode("utf-16-le")) > 2 * MAX_ID_LENGTH:
        raise InvalidRequest(
            f"An id has 1 to {MAX_ID_LENGTH} characters, without spaces, control characters and / \\ # ? % |."
        )
    return text
