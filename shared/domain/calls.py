"""The words of this domain: a call, its end, its operations, its story. Its lease: see `leases`."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.domain.leases import Lease, RenewalFailure
from shared.errors import InvalidRequest

MAX_ID_LENGTH = 200  # UTF-16 units; the longest RowKey of Table Storage has 512, and ours holds two ids
REQUEST_IDS = frozenset({"scenarioId", "chainId"})  # of the request that told an event; not a part of what it told
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")
# Table Storage's own, `|` (our separator), `%`, white space, halves of a character, which are no text, and U+FFFD to
# U+FFFF: the first stands for what could not be decoded, the others are no characters.
_REFUSED_IN_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\#?%|\s\ud800-\udfff\ufffd-\uffff]")


class Status(StrEnum):
    """Whether Call Keeper still cares for a call."""

    ACTIVE = "active"
    ENDED = "ended"


class TerminationSource(StrEnum):
    """Who told that a call is over."""

    NOTIFICATION = "notification"
    KEEP_ALIVE_NOT_FOUND = "keepAliveNotFound"
    HANGUP_NOT_FOUND = "hangupNotFound"
    LOOKUP_NOT_FOUND = "lookupNotFound"
    UNKNOWN = "unknown"  # a newer version wrote another one


@dataclass(frozen=True, slots=True)
class Termination:
    """Why a call ended: what Graph told, and what that means (`explaining`).

    `code` and `subcode` are None if nobody told them, or if they were no numbers. `reason`, `category`, `action`,
    `fault_owner` and `retryable` follow from the rest and from the call, so a change of either makes them anew.

    `early`: Graph told so while the call was `terminating`. It counts if the end itself tells nothing.
    """

    source: TerminationSource
    reason: str
    category: str
    code: int | None = None
    subcode: int | None = None
    raw_code: str | None = None
    raw_subcode: str | None = None
    message: str | None = None
    message_truncated: bool = False
    termination_reason: str | None = None
    action: str | None = None
    fault_owner: str = "unknown"
    retryable: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Hangup:
    """Who asked for the hang-up, and when Graph answered it.

    `not_found`: Graph said to somebody that the call was already gone. `accepted`: it accepted this one's hang-up, so
    the end that follows is its effect.
    """

    requested_at: datetime
    requested_by: str
    not_found: bool = False
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call on record. `state` is Graph's word; `known_at` is when it was first written down.

    `app_id` is the bot's whose call it is, in lower case; None: that of GRAPH_APP_ID. An active call may have a
    `termination` already: an early one. `unreadable` names the columns of
    its row that could not be read: they count as left out, and no write changes them.
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
    failing: RenewalFailure | None = None
    hangup: Hangup | None = None
    ended_at: datetime | None = None
    termination: Termination | None = None
    app_id: str | None = None
    unreadable: tuple[str, ...] = ()

    @property
    def status(self) -> Status:
        """Active, or ended for good."""
        return Status.ACTIVE if self.ended_at is None else Status.ENDED

    @property
    def lease(self) -> Lease:
        """The part of the record that a sweep reads."""
        return Lease(
            self.id,
            self.tenant_id,
            self.known_at,
            self.started_at,
            self.renewed_at,
            self.failing,
            self.app_id,
            hung_up=self.hangup is not None and self.hangup.accepted,
        )


@dataclass(frozen=True, slots=True)
class Operation:
    """A commsOperation of a call: a recording, a prompt, … `status` is Graph's word.

    What is no number of Graph's codes is kept as text in `raw_code` and `raw_subcode`.
    """

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
    unreadable: tuple[str, ...] = ()  # as of a call
    raw_code: str | None = None
    raw_subcode: str | None = None

    @property
    def is_finished(self) -> bool:
        """Whether Graph is done with it."""
        return self.status in {"completed", "failed"}


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer of the API, to be given again: status, body, and where its Location points."""

    status: int
    body: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """A request with an `Idempotency-Key`. Without an answer it is being worked on, or whoever did that has died.

    `outcome_unknown`: it failed in a way that leaves open whether Graph did it. `claim_id` is random: by it a process
    knows its own claim again.
    """

    fingerprint: str
    began_at: datetime
    response: StoredResponse | None = None
    outcome_unknown: bool = False
    claim_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a call's story. `detail` is flat and holds no secret and no personal data.

    An event of a notification (`from_notification`) is the same line however often it is told; it keeps its first time,
    and the ids of the request that told it first. One of our own doing is a line each time.
    """

    kind: str
    at: datetime
    detail: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    from_notification: bool = False

    @property
    def digest(self) -> str:
        """32 hex digits of the content."""
        detail = {name: value for name, value in self.detail.items() if name not in REQUEST_IDS}
        content = [self.kind, detail, None if self.from_notification else self.at.isoformat()]
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
            f"An id has 1 to {MAX_ID_LENGTH} characters, without spaces, control characters, U+FFFD to U+FFFF, and "
            "/ \\ # ? % |."
        )
    return text
