"""The judge of `make soak-real` finds what is wrong, and blames only what could have been kept."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from soak.real import SPEED
from soak.real.bots import Life
from soak.real.checker import Judge, Span
from soak.real.world import Attempt, Event, Known, Sent, Simulated, SimulatedLease, Termination, World

NOW = datetime.now(UTC).replace(microsecond=0)
CALL = "57dab8b1-894c-409a-b240-bd8beae78896"


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


class Told(World):
    """One call, of which Graph and Call Keeper tell what a test wants."""

    def __init__(self, seen: Simulated, known: Known | None, ended: int = 1) -> None:
        self.seen = seen
        self.record = known
        self.ended = ended

    def simulated_now(self) -> datetime:
        return NOW

    def simulated(self, call_id: str) -> Simulated:  # noqa: ARG002 - there is one
        return self.seen

    def known(self, call_id: str) -> Known | None:  # noqa: ARG002 - there is one
        return self.record

    def story(self, call_id: str) -> list[Event]:  # noqa: ARG002 - there is one
        return [Event(kind="ended", at=NOW)] * self.ended

    def ask(
        self,
        method: str,  # noqa: ARG002 - it is a list that is asked for
        path: str,
        body: Mapping[str, object] | None = None,  # noqa: ARG002 - see above
    ) -> httpx.Response:
        listed = self.record is not None and f"status={self.record.status}" in path
        return httpx.Response(200, json={"value": [{"id": CALL}] * (self.ended if listed else 0)})


def seen(code: int | None = None, subcode: int | None = None, *, renewed: float = 10, told: bool = True) -> Simulated:
    """A call as Graph knows it: over a minute ago, if it has a code."""
    end = Sent(id="1", change_type="deleted", state="terminated", lost=not told, attempts=[])
    if told:
        end.attempts.append(Attempt(at=ago(1), status=202))
    return Simulated(
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


def known(code: int | None = None, subcode: int | None = None, source: str = "", minutes: float = 1) -> Known:
    """A call on record, ended where a source tells of it."""
    at = ago(minutes / SPEED)  # real time
    end = Termination(code=code, subcode=subcode, reason="", category="", source=source, ended_at=at)
    status = "ended" if source else "active"
    return Known(id=CALL, status=status, state="", lease=None, termination=end if source else None)


def violations(world: Told, troubles: Sequence[Span] = (), *, hung_up: bool = False) -> list[str]:
    life = Life(CALL, "tenant", ago(200), "alive", acknowledged=ago(190), hung_up=hung_up)
    return Judge(world, troubles, NOW).judge([life]).violations


@pytest.mark.parametrize(
    "world",
    [
        Told(seen(), known(), 0),
        Told(seen(200, 5010), known(200, 5010, "notification"), 0),
        Told(seen(200, 5010), known(200, 5010, "notification")),
        Told(seen(200, 5010, told=False), known(None, None, "keepAliveNotFound")),
    ],
)
def test_a_call_that_was_kept_or_closed_as_graph_says_is_fine(world: Told) -> None:
    assert violations(world) == []


@pytest.mark.parametrize(
    ("world", "what"),
    [
        (Told(seen(), None), "is not on record"),
        (Told(seen(), known(None, None, "keepAliveNotFound")), "is alive at Graph"),
        (Told(seen(200, 5010), known()), "taken for alive"),
        (Told(seen(200, 5010), known(None, None, "keepAliveNotFound")), "was told to have ended"),
        (Told(seen(200, 5010, told=False), known(200, 5001, "notification")), "an end that nobody told"),
        (Told(seen(200, 5010), known(200, 5010, "notification", minutes=5)), "closed before Graph ended it"),
        (Told(seen(200, 5010), known(200, 5010, "notification"), 2), "closed more than once"),
        (Told(seen(200, 5010), known(200, 5010, "notification"), 2), "listed more than once"),
        (Told(seen(408, 8537, renewed=46), known(408, 8537, "notification")), "lapsed"),
    ],
)
def test_whatever_is_wrong_is_a_violation(world: Told, what: str) -> None:
    assert any(what in violation for violation in violations(world))


def test_a_hang_up_that_was_acknowledged_and_did_not_happen_is_a_violation() -> None:
    assert any("hung up" in violation for violation in violations(Told(seen(), known(), 0), hung_up=True))


@pytest.mark.parametrize(
    ("troubles", "blamed"),
    [
        ([], True),
        ([Span(ago(40), ago(26), "graph")], True),  # 25 minutes are left to the timers
        ([Span(ago(40), ago(24), "graph")], True),  # 23 are not, but requests look, and Graph is there at the end
        ([Span(ago(46), ago(1), "frozen")], True),
        ([Span(ago(46), ago(1), "frozen"), Span(ago(13), ago(1), "graph")], True),  # 33 minutes until then
        ([Span(ago(46), ago(1), "frozen"), Span(ago(15), ago(1), "graph")], False),
        ([Span(ago(46), ago(1), "frozen"), Span(ago(30), ago(29), "ours")], False),
        ([Span(ago(30), ago(20), "ours")], False),
        ([Span(ago(46), ago(1), "ours")], False),
    ],
)
def test_a_lapse_is_blamed_where_a_path_was_open_for_long_enough(troubles: list[Span], blamed: bool) -> None:
    world = Told(seen(408, 8537, renewed=46), known(408, 8537, "notification"))
    assert bool(violations(world, troubles)) is blamed
