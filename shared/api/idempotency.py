"""`Idempotency-Key`: a request that is repeated is answered again, and not done again.

After draft-ietf-httpapi-idempotency-key-header-07: a structured field, an Item that is a String. A recording without a
key has one all the same while its outcome is open, made of its own words: stock clients repeat a POST by themselves.
"""

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol

from shared import telemetry
from shared.clock import Clock
from shared.domain.calls import Event, IdempotencyRecord, StoredResponse
from shared.errors import (
    CallKeeperError,
    IdempotencyKeyReused,
    InvalidRequest,
    OutcomeUnknown,
    RecordingNotPersisted,
    RequestInProgress,
    StoreConflict,
    StoreUnavailable,
)
from shared.storage.store import Stored

KEY_HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255  # characters
KEY_PATTERN = r'^"([ !#-\[\]-~]|\\["\\])+"$'  # RFC 8941, section 3.3.3
RECORD_TTL = timedelta(hours=24)
IN_PROGRESS_TIMEOUT = timedelta(minutes=5)  # host.json: functionTimeout; whoever began longer ago is dead
IMPLIED_KEY_TTL = timedelta(minutes=10)  # Kiota's RetryHandlerOption: three repetitions, 180 seconds apart at most

OUTCOME_UNKNOWN_DETAIL = (
    "The same request began before, and its end is not on record: Graph may have done it, so it is not done again. "
    f"Read the call's operations. If the recording is not among them after a minute, ask again with a new {KEY_HEADER}."
)


class IdempotencyStore(Protocol):
    """Where requests with a key are on record, beside their call."""

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """The request that had the key."""
        ...

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key, if it is as it was read. Raises `StoreConflict`."""
        ...

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of the request that claimed the key; None: give it back. Raises `StoreConflict`."""
        ...

    async def list_events(self, call_id: str) -> list[Event]:
        """The story of the call."""
        ...


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key of one caller, and the request that it stands for; both as digests.

    `is_implied`: the caller gave none. It is held only while the outcome of the request is open.
    """

    name: str
    fingerprint: str
    is_implied: bool = False


def parse_key(header: str | None, caller: str, request: str) -> IdempotencyKey | None:
    """The key of a request, if it has one. Two callers may use the same without meeting.

    Parameters
    ----------
    request
        What is asked, as text: the same for the same wish.

    Raises
    ------
    InvalidRequest
        The header is no string in quotes.
    """
    if header is None:
        return None
    if not re.fullmatch(KEY_PATTERN, header) or len(header) > MAX_KEY_LENGTH + 2:
        detail = f'1 to {MAX_KEY_LENGTH} printable ASCII characters in double quotes, such as "8e03978e-40d5-43dd"'
        raise InvalidRequest(f"{KEY_HEADER} is off: send {detail}.", ((KEY_HEADER, detail),))
    return IdempotencyKey(_digest(caller, header), _digest(request))


def implied_key(caller: str, request: str) -> IdempotencyKey:
    """The key of a request that came without one: the same for the same wish of the same caller."""
    return IdempotencyKey(_digest(caller, "", request), _digest(request), is_implied=True)


@dataclass(frozen=True, slots=True)
class IdempotencyHandler:
    """Does what is asked once for a key.

    Parameters
    ----------
    event_kind
        The kind of the line that is written into the call's story before Graph is asked.
    is_repeatable
        Whether it does no harm to do it once more if nobody knows whether it was done.
    """

    store: IdempotencyStore
    clock: Clock
    event_kind: str
    is_repeatable: bool

    async def handle(
        self, call_id: str, key: IdempotencyKey, act: Callable[[], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Do it, unless the request with this key was answered already: then answer the same.

        The key is taken before anything is done, so that a second request never overtakes. What certainly did nothing
        gives the key back.

        Raises
        ------
        IdempotencyKeyReused
            The key was used for another request.
        RequestInProgress
            The request that had it first is being worked on.
        OutcomeUnknown
            It may have been done, and must not be done twice.
        """
        now = self.clock.now()
        before = await self.store.get_idempotency_record(call_id, key.name)
        if before and (response := await self._previous_response(call_id, before.value, key, now)):
            return response
        claim = IdempotencyRecord(key.fingerprint, now, claim_id=secrets.token_hex(16))
        await self._claim_key(call_id, key, claim, before)
        try:
            response = await act()
        except Exception as error:
            is_unknown = not self.is_repeatable and _may_be_done(error)
            await self._settle_claim(call_id, key, claim, replace(claim, outcome_unknown=True) if is_unknown else None)
            raise
        await self._settle_claim(call_id, key, claim, None if key.is_implied else replace(claim, response=response))
        return response

    async def _previous_response(
        self, call_id: str, request: IdempotencyRecord, key: IdempotencyKey, now: datetime
    ) -> StoredResponse | None:
        """What was answered; None: do it (again)."""
        age = now - request.began_at
        if age >= (IMPLIED_KEY_TTL if key.is_implied else RECORD_TTL):
            return None
        if request.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(f"This {KEY_HEADER} was used for another request. Take a new one.")
        if request.response:
            return request.response
        if not request.outcome_unknown and age < IN_PROGRESS_TIMEOUT:
            raise RequestInProgress("The same request is being worked on. Repeat it soon.")
        if self.is_repeatable or not (request.outcome_unknown or await self._was_begun(call_id, request)):
            return None
        raise OutcomeUnknown(OUTCOME_UNKNOWN_DETAIL)

    async def _was_begun(self, call_id: str, request: IdempotencyRecord) -> bool:
        """Whether Graph may have been asked: a line in the story is written before. Other requests' lines count too."""
        events = await self.store.list_events(call_id)
        return any(event.kind == self.event_kind and event.at >= request.began_at for event in events)

    async def _claim_key(
        self, call_id: str, key: IdempotencyKey, claim: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Take the key. Storage may have taken the claim though its answer is lost, or says no: so it is read back."""
        try:
            await self.store.claim_idempotency_key(call_id, key.name, claim, before)
        except (StoreConflict, StoreUnavailable) as error:
            stored = await self.store.get_idempotency_record(call_id, key.name)
            if stored and stored.value.claim_id == claim.claim_id:
                return
            if isinstance(error, StoreConflict):
                raise RequestInProgress("The same request has just begun. Repeat it soon.") from None
            raise

    async def _settle_claim(
        self, call_id: str, key: IdempotencyKey, claim: IdempotencyRecord, request: IdempotencyRecord | None
    ) -> None:
        """Write down what became of our own claim. What is done is done: a failure must not change the answer to it."""
        try:
            stored = await self.store.get_idempotency_record(call_id, key.name)
            if stored and stored.value.claim_id == claim.claim_id:
                with suppress(StoreConflict):  # it is written already, and only the answer was lost; or it was purged
                    await self.store.settle_idempotency_key(call_id, key.name, stored, request)
        except StoreUnavailable as error:
            telemetry.IDEMPOTENCY_WRITE_FAILED(callId=call_id, error=str(error))


def _may_be_done(error: Exception) -> bool:
    return isinstance(error, OutcomeUnknown | RecordingNotPersisted) or not isinstance(error, CallKeeperError)


def _digest(*parts: str) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:32]
