"""`Idempotency-Key`: a request that is repeated is answered again, and not done again.

After draft-ietf-httpapi-idempotency-key-header-07: a structured field, an Item that is a String.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Protocol

from shared import telemetry
from shared.calls import Answered, KeyedRequest
from shared.clock import Clock
from shared.errors import (
    CallKeeperError,
    GraphUnavailable,
    InvalidRequest,
    KeyReused,
    NotNoted,
    OutcomeUnknown,
    RequestInProgress,
    StoreConflict,
    StoreUnavailable,
)
from shared.store import Stored

HEADER = "Idempotency-Key"
MAX_KEY_LENGTH = 255  # characters
PATTERN = r'^"([ !#-\[\]-~]|\\["\\])+"$'  # RFC 8941, section 3.3.3
KEY_LIFETIME = timedelta(hours=24)
WORKED_ON = timedelta(minutes=5)  # host.json: functionTimeout; whoever began longer ago is dead

_UNCERTAIN = (
    f"The request that had this {HEADER} first began, and its end is not on record: Graph may have done it. It is not "
    "done again. Read the call's operations; where the recording is not among them after a minute, ask again with "
    "another key."
)


class Keys(Protocol):
    """Where requests with a key are on record, beside their call."""

    async def keyed(self, call_id: str, name: str) -> Stored[KeyedRequest] | None:
        """The request that had the key."""
        ...

    async def claim_key(
        self, call_id: str, name: str, request: KeyedRequest, before: Stored[KeyedRequest] | None
    ) -> None:
        """Take the key, if it is as it was read. Raises `StoreConflict`."""
        ...

    async def settle_key(self, call_id: str, name: str, request: KeyedRequest | None) -> None:
        """Write down what became of the request that has the key; None: give the key back."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """A key of one caller, and the request that it stands for; both as digests."""

    name: str
    fingerprint: str


def key_of(header: str | None, caller: str, request: str) -> Key | None:
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
    if not re.fullmatch(PATTERN, header) or len(header) > MAX_KEY_LENGTH + 2:
        detail = f'1 to {MAX_KEY_LENGTH} printable ASCII characters in double quotes, such as "8e03978e-40d5-43dd"'
        raise InvalidRequest(f"{HEADER} is off: send {detail}.", ((HEADER, detail),))
    return Key(_digest(caller, header), _digest(request))


@dataclass(frozen=True, slots=True)
class Once:
    """Does what is asked once for a key."""

    keys: Keys
    clock: Clock

    async def answer(
        self, call_id: str, key: Key, act: Callable[[], Awaitable[Answered]], *, repeatable: bool
    ) -> Answered:
        """Do it, unless the request with this key was answered already: then answer the same.

        The key is taken before anything is done, so that a second request never overtakes. What certainly did nothing
        gives the key back.

        Parameters
        ----------
        repeatable
            Whether it does no harm to do it once more where nobody knows if it was done.

        Raises
        ------
        KeyReused
            The key was used for another request.
        RequestInProgress
            The request that had it first is being worked on.
        OutcomeUnknown
            It may have been done, and must not be done twice.
        """
        now = self.clock.now()
        before = await self.keys.keyed(call_id, key.name)
        if before and (answered := _answer(before.value, key, now, repeatable=repeatable)):
            return answered
        claim = KeyedRequest(key.fingerprint, now)
        try:
            await self.keys.claim_key(call_id, key.name, claim, before)
        except StoreConflict:
            raise RequestInProgress(f"Another request with this {HEADER} has just begun. Repeat it soon.") from None
        try:
            answered = await act()
        except Exception as error:
            lost = not repeatable and _may_be_done(error)
            await self._settle(call_id, key, replace(claim, outcome_lost=True) if lost else None)
            raise
        await self._settle(call_id, key, replace(claim, answered=answered))
        return answered

    async def _settle(self, call_id: str, key: Key, request: KeyedRequest | None) -> None:
        """What is done is done: that the key could not be written must not change the answer to it."""
        try:
            await self.keys.settle_key(call_id, key.name, request)
        except StoreUnavailable as error:
            telemetry.KEY_UNSETTLED(callId=call_id, error=str(error))


def _answer(request: KeyedRequest, key: Key, now: datetime, *, repeatable: bool) -> Answered | None:
    """What was answered; None: do it (again)."""
    if now - request.began_at >= KEY_LIFETIME:
        return None
    if request.fingerprint != key.fingerprint:
        raise KeyReused(f"This {HEADER} was used for another request. Take a new one.")
    if request.answered:
        return request.answered
    if not request.outcome_lost and now - request.began_at < WORKED_ON:
        raise RequestInProgress(f"The request with this {HEADER} is being worked on. Repeat it soon.")
    if not repeatable:
        raise OutcomeUnknown(_UNCERTAIN)
    return None


def _may_be_done(error: Exception) -> bool:
    return isinstance(error, GraphUnavailable | NotNoted) or not isinstance(error, CallKeeperError)


def _digest(*parts: str) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()[:32]
