"""The calls and their state machine: creation, answer, keepAlive, hang-up, end of the lease."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from simulator.records import (
    ANSWER_TIMEOUT,
    ESTABLISHING_DELAY,
    RINGING_DELAY,
    TERMINATING_DELAY,
    Call,
    CallDirection,
    CallEnd,
    CallState,
)
from simulator.wire import canonical_id

if TYPE_CHECKING:
    from random import Random

    from simulator.clock import Clock
    from simulator.wire import JsonObject

# Graph: the example of the call-delete page
HUNG_UP = CallEnd(200, 5001, "The conversation has ended.")
# Graph: the table of the call-delete page
LEASE_EXPIRED = CallEnd(408, 8537, "Keep alive timeout, cleaned up inactive call.")
# Azure Communication Services: the list of subcodes
NOT_ANSWERED = CallEnd(408, 8587, "The incoming call was not answered in time.")

# Azure Communication Services: the list of end codes
REJECTED = CallEnd(603, 0, "The call was declined.")


@dataclass(frozen=True, slots=True)
class NewCall:
    """The values that a new call is made from. `age` moves the start of the call, and of its lease, into the past."""

    tenant_id: str
    app_id: str
    callback_uri: str | None
    direction: CallDirection = CallDirection.OUTGOING
    state: CallState = CallState.ESTABLISHING
    age: timedelta = timedelta()
    quiet: bool = False
    details: JsonObject = field(default_factory=dict)
    id: str | None = None


class CallNotifier(Protocol):
    """Notifies the bot of a call's present state."""

    def __call__(self, call: Call, *, with_media: bool = False) -> None:
        """Send the notification. `with_media` selects the second, longer `established` that is observed."""


class Calls:
    """All calls, and the changes of their states with time."""

    def __init__(self, clock: Clock, random: Random, notify: CallNotifier) -> None:
        self._clock = clock
        self._random = random
        self._notify = notify
        self._calls: dict[str, Call] = {}

    def all(self) -> list[Call]:
        """Return every call, ended ones included, oldest first."""
        return list(self._calls.values())

    def find(self, call_id: str) -> Call | None:
        """Return the call with this id in either of Graph's forms, even if the call is over."""
        return self._calls.get(canonical_id(call_id))

    def create(self, new: NewCall) -> Call:
        """Create a call, start its lease and notify its state.

        Raises
        ------
        ValueError
            A call with this id exists already.
        """
        call_id = canonical_id(new.id) if new.id else self.new_id()
        if call_id in self._calls:
            raise ValueError(f"there is already a call {call_id}")
        call = Call(
            id=call_id,
            tenant_id=new.tenant_id.lower(),
            app_id=new.app_id.lower(),
            callback_uri=new.callback_uri,
            direction=new.direction,
            state=new.state,
            started_at=self._clock.now() - new.age,
            chain_id=self.new_id(),
            participant_id=self.new_id(),
            details=new.details,
            quiet=new.quiet,
        )
        self._calls[call.id] = call
        self._clock.at(call.expires_at, lambda: self._expire(call))
        self._enter_state(call)
        return call

    def answer(self, call: Call, callback_uri: str | None) -> None:
        """Answer an incoming call. A `callback_uri` replaces the present one (Graph: call-answer page)."""
        call.callback_uri = callback_uri or call.callback_uri
        call.state = CallState.ESTABLISHING
        self._enter_state(call)

    def reject(self, call: Call, callback_uri: str | None) -> None:
        """Reject an incoming call, which ends it. A `callback_uri` gets the notification (Graph: call-reject page)."""
        call.callback_uri = callback_uri or call.callback_uri
        self.end(call, REJECTED)

    def keep_alive(self, call: Call) -> None:
        """Record a successful keepAlive, which starts the lease anew."""
        call.keep_alives.append(self._clock.now())

    def hang_up(self, call: Call) -> None:
        """Set a call to terminating, and end it after TERMINATING_DELAY. A second request changes nothing."""
        if call.state is CallState.TERMINATING:
            return
        call.state = CallState.TERMINATING
        self._notify(call)
        self._clock.after(TERMINATING_DELAY, lambda: self.end(call, HUNG_UP))

    def end(self, call: Call, end: CallEnd, *, notify: bool = True) -> None:
        """Terminate a call. Send its `deleted` notification unless `notify` is false."""
        if call.is_over:
            return
        call.state, call.end, call.ended_at = CallState.TERMINATED, end, self._clock.now()
        if notify:
            self._notify(call)

    def forget(self, call: Call) -> None:
        """End a call without a notification, as if Graph's notification were lost."""
        if not call.is_over:
            call.forgotten, call.ended_at = True, self._clock.now()

    def clear(self) -> None:
        """Remove all calls."""
        self._calls.clear()

    def new_id(self) -> str:
        """Return a version 4 GUID, drawn from the simulator's seed."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _enter_state(self, call: Call) -> None:
        """Notify the state of a call, and schedule the state that follows."""
        match call.state:
            case CallState.INCOMING:
                self._notify(call)
                self._clock.after(ANSWER_TIMEOUT, lambda: self._end_unanswered(call))
            case CallState.ESTABLISHING:
                self._clock.after(RINGING_DELAY, lambda: self._notify_establishing(call))
                self._clock.after(ESTABLISHING_DELAY, lambda: self._establish(call))
            case CallState.ESTABLISHED:
                self._notify(call)

    def _notify_establishing(self, call: Call) -> None:
        if _is_still(call, CallState.ESTABLISHING):
            self._notify(call)

    def _establish(self, call: Call) -> None:
        if _is_still(call, CallState.ESTABLISHING):
            call.state = CallState.ESTABLISHED
            self._notify(call)
            self._notify(call, with_media=True)

    def _end_unanswered(self, call: Call) -> None:
        if _is_still(call, CallState.INCOMING):
            self.end(call, NOT_ANSWERED)

    def _expire(self, call: Call) -> None:
        """End a call if its lease has expired, or look again when the renewed lease expires."""
        if call.is_over:
            return
        if call.expires_at > self._clock.now():
            self._clock.at(call.expires_at, lambda: self._expire(call))
        else:
            self.end(call, LEASE_EXPIRED)


def _is_still(call: Call, state: CallState) -> bool:
    return call.state is state and not call.is_over
