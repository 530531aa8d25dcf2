"""The checker of `make soak-real` finds each kind of violation, and accepts a lapse only if no path was open."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from soak.real import SPEED
from soak.real.bots import BotCall
from soak.real.checker import Checker, FaultInterval
from soak.real.world import (
    Attempt,
    Event,
    Notification,
    SimulatedCall,
    SimulatedLease,
    StoredCall,
    Termination,
    World,
)

NOW = datetime.now(UTC).replace(microsecond=0)
CALL = "57dab8b1-894c-409a-b240-bd8beae78896"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


class StubWorld(World):
    """A world with one call. Call Keeper lists it, and has an event `ended` for it, `times_ended` times."""

    def __init__(self, simulated: SimulatedCall, stored: StoredCall | None, times_ended: int = 1) -> None:
        self.simulated = simulated
        self.stored = stored
        self.times_ended = times_ended

    def simulated_now(self) -> datetime:
        return NOW

    def simulated_call(self, call_id: str) -> SimulatedCall:  # noqa: ARG002 - there is one call
        return self.simulated

    def stored_call(self, call_id: str) -> StoredCall | None:  # noqa: ARG002 - there is one call
        return self.stored

    def events(self, call_id: str) -> list[Event]:  # noqa: ARG002 - there is one call
        return [Event(kind="ended", at=NOW)] * self.times_ended

    def request_ok(
        self,
        method: str,  # noqa: ARG002 - only lists are requested
        path: str,
        body: Mapping[str, object] | None = None,  # noqa: ARG002 - as above
    ) -> httpx.Response:
        listed = self.stored is not None and f"status={self.stored.status}" in path
        return httpx.Response(200, json={"value": [{"id": CALL}] * (self.times_ended if listed else 0)})


def at_graph(
    code: int | None = None, subcode: int | None = None, *, renewed: float = 10, notified: bool = True
) -> SimulatedCall:
    """A call at Graph, renewed so many minutes ago. With a code it ended a minute ago."""
    end = Notification(id="1", change_type="deleted", state="terminated", lost=not notified, attempts=[])
    if notified:
        end.attempts.append(Attempt(at=ago(1), status=202))
    return SimulatedCall(
        id=CALL,
        lease=SimulatedLease(renewed_at=ago(renewed)),
        over=code is not None,
        started_at=ago(200),
        ended_at=ago(1) if code else None,
        code=code,
        subcode=subcode,
        keep_alives=1,
        keep_alive_times=[ago(renewed)],
        notifications=[end] if code else [],
    )


def on_record(code: int | None = None, subcode: int | None = None, source: str = "", minutes: float = 1) -> StoredCall:
    """A call in Call Keeper. With a source it ended so many simulated minutes ago."""
    at = ago(minutes / SPEED)  # real time
    end = Termination(code=code, subcode=subcode, reason="", category="", source=source, ended_at=at)
    status = "ended" if source else "active"
    return StoredCall(id=CALL, status=status, state="", lease=None, termination=end if source else None)


def violations(world: StubWorld, faults: Sequence[FaultInterval] = (), *, hung_up: bool = False) -> list[str]:
    call = BotCall(CALL, "tenant", ago(200), "alive", acknowledged=ago(190), hung_up=hung_up)
    return Checker(world, faults, NOW).check([call]).violations


ENDED = at_graph(200, 5010)
ENDED_SILENTLY = at_graph(200, 5010, notified=False)
NOTIFIED = on_record(200, 5010, "notification")
FOUND_GONE = on_record(None, None, "keepAliveNotFound")


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(StubWorld(at_graph(), on_record(), 0), id="active"),
        pytest.param(StubWorld(ENDED, NOTIFIED, 0), id="ended by its first notification"),
        pytest.param(StubWorld(ENDED, NOTIFIED), id="ended by a notification"),
        pytest.param(StubWorld(ENDED_SILENTLY, FOUND_GONE), id="ended without a notification"),
    ],
)
def test_a_call_on_record_as_at_graph_is_no_violation(world: StubWorld) -> None:
    assert violations(world) == []


@pytest.mark.parametrize(
    ("world", "what"),
    [
        pytest.param(StubWorld(at_graph(), None), "is not on record", id="no record"),
        pytest.param(StubWorld(at_graph(), FOUND_GONE), "is active at Graph", id="closed too early"),
        pytest.param(StubWorld(ENDED, on_record()), "active on record", id="end not found"),
        pytest.param(StubWorld(ENDED, FOUND_GONE), "was notified to have ended", id="reason lost"),
        pytest.param(
            StubWorld(ENDED_SILENTLY, on_record(200, 5001, "notification")),
            "an end without evidence",
            id="invented",
        ),
        pytest.param(
            StubWorld(ENDED, on_record(200, 5010, "notification", minutes=5)),  # 4 before its end; 2 may be drift
            "closed before Graph ended it",
            id="closed before its end",
        ),
        pytest.param(StubWorld(ENDED, NOTIFIED, 2), "closed more than once", id="two ended events"),
        pytest.param(StubWorld(ENDED, NOTIFIED, 2), "listed more than once", id="listed twice"),
        pytest.param(
            StubWorld(at_graph(408, 8537, renewed=46), on_record(408, 8537, "notification")), "lapsed", id="lapsed"
        ),
    ],
)
def test_each_broken_promise_is_a_violation(world: StubWorld, what: str) -> None:
    assert any(what in violation for violation in violations(world))


def test_an_acknowledged_hang_up_that_did_not_happen_is_a_violation() -> None:
    found = violations(StubWorld(at_graph(), on_record(), 0), hung_up=True)
    assert any("hang-up was acknowledged" in violation for violation in found)


# The lease ran from 46 minutes ago to 1 minute ago: 45 minutes. *timer* needs 24 minutes without any fault; *requests*
# needs 32 minutes without faults of ours, the last 9.5 of them without faults of Graph.
@pytest.mark.parametrize(
    ("faults", "is_violation"),
    [
        pytest.param([], True, id="no fault"),
        pytest.param([FaultInterval(ago(40), ago(26), "graph")], True, id="25 minutes for the timer"),
        pytest.param(
            [FaultInterval(ago(40), ago(24), "graph")], True, id="23 minutes for the timer but 45 for requests"
        ),
        pytest.param([FaultInterval(ago(46), ago(1), "timersDisabled")], True, id="requests only"),
        pytest.param(
            [FaultInterval(ago(46), ago(1), "timersDisabled"), FaultInterval(ago(13), ago(1), "graph")],
            True,  # 46 - 13
            id="33 minutes for requests",
        ),
        pytest.param(
            [FaultInterval(ago(46), ago(1), "timersDisabled"), FaultInterval(ago(15), ago(1), "graph")],
            False,  # 46 - 15
            id="31 minutes for requests",
        ),
        pytest.param(
            [FaultInterval(ago(46), ago(1), "timersDisabled"), FaultInterval(ago(30), ago(29), "ours")],
            False,  # 46 - 30 and 29 - 1
            id="16 and 28 minutes for requests",
        ),
        pytest.param([FaultInterval(ago(30), ago(20), "ours")], False, id="16 and 19 minutes for the timer"),
        pytest.param([FaultInterval(ago(46), ago(1), "ours")], False, id="fault of ours all the time"),
    ],
)
def test_a_lapse_is_a_violation_if_a_path_was_open_for_long_enough(
    faults: list[FaultInterval], is_violation: bool
) -> None:
    world = StubWorld(at_graph(408, 8537, renewed=46), on_record(408, 8537, "notification"))
    assert bool(violations(world, faults)) is is_violation
