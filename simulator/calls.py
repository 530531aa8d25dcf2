"""Calls and the state machine of one: created, answered, kept alive, hung up, ended, gone."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from simulator.records import (
    ANSWER_WITHIN,
    ESTABLISHING_DELAY,
    RINGING_DELAY,
    TERMINATING_DELAY,
    Call,
    Direction,
    End,
    State,
)
from simulator.wire import canonical_id

if TYPE_CHECKING:
    from random import Random

    from simulator.clock import Clock
    from simulator.wire import JsonObject


HUNG_UP = End(200, 5001, "The conversation has ended.")  # Graph: the example of the call-delete page
LEASE_LAPSED = End(408, 8537, "Keep alive timeout, cleaned up inactive call.")  # Graph: the table of that page
NOT_ANSWERED = End(408, 8587, "The incoming call was not answered in time.")  # Azure Communication Services' list


@dataclass(frozen=True, slots=True)
class NewCall:
    """What makes a call."""

    tenant_id: str
    app_id: str
    callback_uri: str | None
    direction: Direction = Direction.OUTGOING
    state: State = State.ESTABLISHING
    age: timedelta = timedelta()
    quiet: bool = False
    details: JsonObject = field(default_factory=dict)
    id: str | None = None


class Announce(Protocol):
    """Tells the bot of a call's new state."""

    def __call__(self, call: Call, *, with_media: bool = False) -> None:
        """`with_media`: the later, richer `established` that is observed in practice."""


class Calls:
    """All calls, and what happens to them as time passes."""

    def __init__(self, clock: Clock, random: Random, announce: Announce) -> None:
        self._clock = clock
        self._random = random
        self._announce = announce
        self._calls: dict[str, Call] = {}

    def all(self) -> list[Call]:
        """Every call, also the ended ones, oldest first."""
        return list(self._calls.values())

    def find(self, call_id: str) -> Call | None:
        """A call by either form of its id, also when it is over."""
        return self._calls.get(canonical_id(call_id))

    def create(self, new: NewCall) -> Call:
        """A new call, its lease running; the notifications of its state follow. ValueError if the id is taken."""
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
        self._begin(call)
        return call

    def answer(self, call: Call, callback_uri: str | None) -> None:
        """The bot takes an incoming call; `callback_uri` replaces the bot's own (Graph: call-answer page)."""
        call.callback_uri = callback_uri or call.callback_uri
        call.state = State.ESTABLISHING
        self._begin(call)

    def keep_alive(self, call: Call) -> None:
        """A successful keepAlive: the lease begins anew."""
        call.keep_alives.append(self._clock.now())

    def hang_up(self, call: Call) -> None:
        """The bot leaves: terminating now, terminated soon. Nothing more happens on a second request."""
        if call.state is State.TERMINATING:
            return
        call.state = State.TERMINATING
        self._announce(call)
        self._clock.after(TERMINATING_DELAY, lambda: self.end(call, HUNG_UP))

    def end(self, call: Call, end: End, *, notify: bool = True) -> None:
        """The call is over, for good; its `deleted` notification is sent unless `notify` is false."""
        if call.over:
            return
        call.state, call.end, call.ended_at = State.TERMINATED, end, self._clock.now()
        if notify:
            self._announce(call)

    def forget(self, call: Call) -> None:
        """The call is gone and nobody is told, as when Graph's notification never comes."""
        if not call.over:
            call.forgotten, call.ended_at = True, self._clock.now()

    def clear(self) -> None:
        """No calls."""
        self._calls.clear()

    def new_id(self) -> str:
        """A version 4 GUID, drawn from the simulator's seed."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _begin(self, call: Call) -> None:
        match call.state:
            case State.INCOMING:
                self._announce(call)
                self._clock.after(ANSWER_WITHIN.total_seconds(), lambda: self._drop_unanswered(call))
            case State.ESTABLISHING:
                self._clock.after(RINGING_DELAY, lambda: self._ring(call))
                self._clock.after(ESTABLISHING_DELAY, lambda: self._establish(call))
            case State.ESTABLISHED:
                self._announce(call)

    def _ring(self, call: Call) -> None:
        if self._still(call, State.ESTABLISHING):
            self._announce(call)

    def _establish(self, call: Call) -> None:
        if self._still(call, State.ESTABLISHING):
            call.state = State.ESTABLISHED
            self._announce(call)
            self._announce(call, with_media=True)

    def _drop_unanswered(self, call: Call) -> None:
        if self._still(call, State.INCOMING):
            self.end(call, NOT_ANSWERED)

    def _expire(self, call: Call) -> None:
        if call.over:
            return
        if call.expires_at > self._clock.now():
            self._clock.at(call.expires_at, lambda: self._expire(call))
        else:
            self.end(call, LEASE_LAPSED)

    def _still(self, call: Call, state: State) -> bool:
        return call.state is state and not call.over
