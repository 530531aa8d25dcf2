"""The records of the domain: a call, its end, its operations and its event log. For its lease see `leases`."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.domain.leases import Lease, RenewalFailure
from shared.errors import InvalidRequest

MAX_ID_LENGTH = 200  # UTF-16 units; a RowKey of Table Storage has at most 512, and ours holds two ids
REQUEST_IDS = frozenset(
    {"scenarioId", "chainId"}
)  # of the request that brought a notification: not part of its content
_HEX_ID = re.compile(r"[0-9a-fA-F]{32}")
# Characters that Table Storage refuses, `|` (our separator), `%`, white space, lone surrogates, and U+FFFD to U+FFFF:
# U+FFFD stands for bytes that could not be decoded, U+FFFE and U+FFFF are not characters.
_REFUSED_IN_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f/\\#?%|\s\ud800-\udfff\ufffd-\uffff]")


class Status(StrEnum):
    """Active: sweeps renew the call. Ended: Graph has ended it."""

    ACTIVE = "active"
    ENDED = "ended"


class TerminationSource(StrEnum):
    """The evidence that a call is over."""

    NOTIFICATION = "notification"
    KEEP_ALIVE_NOT_FOUND = "keepAliveNotFound"
    HANGUP_NOT_FOUND = "hangupNotFound"
    LOOKUP_NOT_FOUND = "lookupNotFound"
    UNKNOWN = "unknown"  # a newer version wrote a source that this one does not know


@dataclass(frozen=True, slots=True)
class Termination:
    """Why a call ended: what Graph reported, and the explanation of it (`explanation`).

    `code` and `subcode` are None if Graph gave none, or gave text that is not a number (`raw_code`, `raw_subcode`).
    `reason`, `category`, `action`, `fault_owner` and `retryable` are computed from the other fields and from the call,
    again after each change of these.

    `early`: Graph reported this while the call was `terminating`. It counts only if the end itself has no reason.
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
    """A hang-up: its requester, and the time of Graph's answer.

    `not_found`: Graph answered one of the hang-ups that the call was already over. `accepted`: Graph accepted the
    hang-up of `requested_by`, so the end that follows is its effect.
    """

    requested_at: datetime
    requested_by: str
    not_found: bool = False
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A call on record. `state` is Graph's word; `known_at` is the time of the first record.

    `app_id` is the bot of the call, in lower case. None: the bot of GRAPH_APP_ID. An active call may have a
    `termination` already: an early one. `unreadable` has the columns of its row that could not be read. They count as
    missing, and no write changes them.

    The relay writes three fields, and only if it has targets. `relay_to`: the instance of the bot, from the
    registration. `relay_sequence`: the sequence of the last delivery. `end_revision`: how often the end was published.
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
    relay_to: str | None = None
    relay_sequence: int | None = None
    end_revision: int | None = None

    @property
    def status(self) -> Status:
        """Active or ended. An ended call never becomes active again."""
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

    Codes that are not numbers are text in `raw_code` and `raw_subcode`. `unreadable` is as in `Call`.
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
    unreadable: tuple[str, ...] = ()
    raw_code: str | None = None
    raw_subcode: str | None = None

    @property
    def is_finished(self) -> bool:
        """True if the operation is completed or failed."""
        return self.status in {"completed", "failed"}


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response of the API for repetitions of a request: status, body and Location header."""

    status: int
    body: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """A request with an `Idempotency-Key`. Without a response it is in progress, or its process has died.

    `outcome_unknown`: it failed, but Graph may have done it. `claim_id` is random, so that a process recognizes its own
    claim.
    """

    fingerprint: str
    began_at: datetime
    response: StoredResponse | None = None
    outcome_unknown: bool = False
    claim_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a call's event log. `detail` is flat and holds no secret and no personal data.

    Notifications with the same content make one line (`from_notification`), with the time and the request ids of the
    first one. An event of our own makes a line each time.
    """

    kind: str
    at: datetime
    detail: Mapping[str, str | int | bool | None] = field(default_factory=dict)
    from_notification: bool = False

    @property
    def digest(self) -> str:
        """The first 32 hex digits of a hash of the content: equal for events that make one line."""
        detail = {name: value for name, value in self.detail.items() if name not in REQUEST_IDS}
        content = [self.kind, detail, None if self.from_notification else self.at.isoformat()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def canonical_id(text: str) -> str:
    """Return the canonical form of the id of a call or an operation.

    Graph writes the same id as 32 upper-case hex digits and as a lower-case hyphenated GUID (record page). Both become
    the GUID. Every other id is opaque and stays unchanged.

    Raises
    ------
    InvalidRequest
        The id is empty, longer than 200 characters (UTF-16 units), `.` or `..` (no URL can hold these), or has a
        character that Table Storage refuses in keys.
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
