"""`Idempotency-Key`: a repeated request gets the stored response, and is not carried out again.

Source: draft-ietf-httpapi-idempotency-key-header-07. The header is a structured field, an Item that is a String.
A recording without the header gets an implied key, a digest of the request, while its outcome is open. The reason:
stock clients repeat a POST by themselves.
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
IN_PROGRESS_TIMEOUT = timedelta(minutes=5)  # host.json: functionTimeout; an older claim's process has ended
IMPLIED_KEY_TTL = timedelta(minutes=10)  # Kiota's RetryHandlerOption: 3 repetitions, at most 180 s apart: 9 minutes

OUTCOME_UNKNOWN_DETAIL = (
    "The same request was made before, and its outcome is unknown. Graph may have carried it out, so it is not sent "
    "again. Read the call's operations. If the recording is not among them after a minute, use a new "
    f"{KEY_HEADER}."
)


class IdempotencyStore(Protocol):
    """Stores idempotency records, in the partition of their call."""

    async def get_idempotency_record(self, call_id: str, name: str) -> Stored[IdempotencyRecord] | None:
        """Return the idempotency record of a key, or None."""
        ...

    async def claim_idempotency_key(
        self, call_id: str, name: str, request: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Store the record of a new request, if the key still is as read. Raise `StoreConflict` if it is not."""
        ...

    async def settle_idempotency_key(
        self, call_id: str, name: str, claimed: Stored[IdempotencyRecord], request: IdempotencyRecord | None
    ) -> None:
        """Store the outcome of the request that claimed the key; None frees the key.

        Raises
        ------
        StoreConflict
            The record changed since it was read.
        """
        ...

    async def list_events(self, call_id: str) -> list[Event]:
        """Return the event log of the call."""
        ...


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key of one caller and the request that it belongs to.

    Parameters
    ----------
    name
        A digest of the caller and the key: the name of the row.
    fingerprint
        A digest of the request.
    is_implied
        True if the caller sent no key. The record is kept only while the outcome of the request is open.
    """

    name: str
    fingerprint: str
    is_implied: bool = False


def parse_key(header: str | None, caller: str, request: str) -> IdempotencyKey | None:
    """Return the key of a request, or None if it has none. Keys of different callers are different.

    Parameters
    ----------
    header
        The value of `Idempotency-Key`, or None.
    caller
        The caller's name.
    request
        The request as text, in one form for all requests that ask for the same.

    Raises
    ------
    InvalidRequest
        The header is not a string in double quotes.
    """
    if header is None:
        return None
    if not re.fullmatch(KEY_PATTERN, header) or len(header) > MAX_KEY_LENGTH + 2:
        detail = f'1 to {MAX_KEY_LENGTH} printable ASCII characters in double quotes, such as "8e03978e-40d5-43dd"'
        raise InvalidRequest(f"{KEY_HEADER} is not valid. Send {detail}.", ((KEY_HEADER, detail),))
    return IdempotencyKey(_digest(caller, header), _digest(request))


def implied_key(caller: str, request: str) -> IdempotencyKey:
    """Return the key of a request without one: the same for the same request of the same caller."""
    return IdempotencyKey(_digest(caller, "", request), _digest(request), is_implied=True)


@dataclass(frozen=True, slots=True)
class IdempotencyHandler:
    """Carries out a request once for each key.

    Parameters
    ----------
    event_kind
        The kind of the event that is added to the call's event log before Graph is asked.
    is_repeatable
        True if a second execution does no harm when the outcome of the first is unknown.
    """

    store: IdempotencyStore
    clock: Clock
    event_kind: str
    is_repeatable: bool

    async def handle(
        self, call_id: str, key: IdempotencyKey, act: Callable[[], Awaitable[StoredResponse]]
    ) -> StoredResponse:
        """Carry out the request, or return the stored response of the request with this key.

        The key is claimed before `act` runs, so that of two requests at the same time only one acts. A failure that
        certainly changed nothing frees the key.

        Parameters
        ----------
        act
            Carries out the request and returns its response.

        Raises
        ------
        IdempotencyKeyReused
            The key was used for another request.
        RequestInProgress
            The first request with this key is still running.
        OutcomeUnknown
            The first request may have been carried out, and must not be carried out twice.
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
        """Return the stored response, or None if the request is to be carried out (again)."""
        age = now - request.began_at
        if age >= (IMPLIED_KEY_TTL if key.is_implied else RECORD_TTL):
            return None
        if request.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(f"This {KEY_HEADER} was used for another request. Use a new one.")
        if request.response:
            return request.response
        if not request.outcome_unknown and age < IN_PROGRESS_TIMEOUT:
            raise RequestInProgress("The same request is in progress. Repeat it after Retry-After.")
        if self.is_repeatable or not (request.outcome_unknown or await self._was_begun(call_id, request)):
            return None
        raise OutcomeUnknown(OUTCOME_UNKNOWN_DETAIL)

    async def _was_begun(self, call_id: str, request: IdempotencyRecord) -> bool:
        """Return True if Graph may have been asked, because the event log has the event that is added before.

        Events of other requests count too: they look the same.
        """
        events = await self.store.list_events(call_id)
        return any(event.kind == self.event_kind and event.at >= request.began_at for event in events)

    async def _claim_key(
        self, call_id: str, key: IdempotencyKey, claim: IdempotencyRecord, before: Stored[IdempotencyRecord] | None
    ) -> None:
        """Claim the key. After an error the record is read: storage may have stored the claim and lost the answer."""
        try:
            await self.store.claim_idempotency_key(call_id, key.name, claim, before)
        except (StoreConflict, StoreUnavailable) as error:
            stored = await self.store.get_idempotency_record(call_id, key.name)
            if stored and stored.value.claim_id == claim.claim_id:
                return
            if isinstance(error, StoreConflict):
                raise RequestInProgress("The same request has just started. Repeat it after Retry-After.") from None
            raise

    async def _settle_claim(
        self, call_id: str, key: IdempotencyKey, claim: IdempotencyRecord, request: IdempotencyRecord | None
    ) -> None:
        """Store the outcome of our own claim. A failure is logged only: the response to the caller stays the same."""
        try:
            stored = await self.store.get_idempotency_record(call_id, key.name)
            if stored and stored.value.claim_id == claim.claim_id:
                with suppress(StoreConflict):  # already stored, with the answer lost, or purged
                    await self.store.settle_idempotency_key(call_id, key.name, stored, request)
        except StoreUnavailable as error:
            telemetry.IDEMPOTENCY_WRITE_FAILED(callId=call_id, error=str(error))


def _may_be_done(error: Exception) -> bool:
    """Return True if Graph may have carried out a request that failed with this error."""
    return isinstance(error, OutcomeUnknown | RecordingNotPersisted) or not isinstance(error, CallKeeperError)


def _digest(*parts: str) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:32]
