"""Results of the demo: the printed summary and the JSON report."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.demo.console import Console
from local.stack.stack import LEASE_MINUTES

SPEED = 60  # a minute takes a second

type Json = dict[str, Any]  # responses of the two APIs; the demo is an ordinary client and has no models of them


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """A call after its end: Call Keeper's view of it, and the simulated Graph's."""

    view: Json
    simulated: Json


@dataclass(frozen=True, slots=True)
class SweepCounts:
    """The timer's sweeps, and the renewals by the timer and by other wake-ups."""

    by_timer: int
    renewed_by_timer: int
    renewed_by_others: int


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery to bot C.

    Attributes
    ----------
    late
        The time from its receipt to the bot's answer.
    token
        The kind of the token that the bot accepted: `graph`, or `own` for the bot's own.
    """

    id: str
    target: str
    type: str
    attempts: int
    late: timedelta
    token: str


@dataclass(frozen=True, slots=True)
class RelayResult:
    """The relay of bot C's call: all deliveries in order, those that it missed at first, the number of dead ones.

    `event` is the line that the bot logged about the end of its call.
    """

    simulated: Json
    deliveries: list[Delivered]
    missed: list[Delivered]
    dead: int
    event: str

    @property
    def latest(self) -> timedelta:
        """The longest time that the bot waited for what it missed."""
        return max(each.late for each in self.missed)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything that the demo reports."""

    kept: FinishedCall
    unkept: FinishedCall
    recording: Json
    relay: RelayResult
    token_kinds: list[str]
    sweeps: SweepCounts


def report_of(result: DemoResult, seconds: float) -> Json:
    """Return the JSON report, which `make demo REPORT=path.json` writes. `seconds` is the demo's duration."""
    recorded = ("id", "callId", "kind", "status", "code", "subcode", "completionReason", "clientContext")
    return {
        "ok": True,
        "seconds": round(seconds, 1),
        "speed": SPEED,
        "leaseSeconds": LEASE_MINUTES * 60 / SPEED,
        "calls": [_reported("kept", result.kept), _reported("unkept", result.unkept)],
        "recording": {name: result.recording[name] for name in recorded},
        "relay": _reported_relay(result.relay),
        "tokenKinds": result.token_kinds,
        "sweeps": {
            "timer": result.sweeps.by_timer,
            "renewedByTimer": result.sweeps.renewed_by_timer,
            "renewedByOthers": result.sweeps.renewed_by_others,
        },
    }


def _reported(role: str, call: FinishedCall) -> Json:
    termination = call.view["termination"]
    return {
        "role": role,
        "id": call.view["id"],
        "keepAlives": call.simulated["keepAlives"],
        "keepAliveTimes": call.simulated["keepAliveTimes"],
        "startedAt": call.simulated["startedAt"],
        "outlivedLease": minutes_alive(call.simulated) > LEASE_MINUTES,
        "status": call.view["status"],
        **{name: termination[name] for name in ("code", "subcode", "reason", "category", "source", "endedAt")},
    }


def _reported_relay(relay: RelayResult) -> Json:
    return {
        "callId": relay.simulated["id"],
        "notifications": len(relay.simulated["notifications"]),
        "deliveries": [
            {
                "id": each.id,
                "target": each.target,
                "type": each.type,
                "attempts": each.attempts,
                "lateSeconds": round(each.late.total_seconds(), 3),
                "token": each.token,
            }
            for each in relay.deliveries
        ],
        "missed": [each.id for each in relay.missed],
        "dead": relay.dead,
        "event": relay.event,
    }


def print_summary(console: Console, result: DemoResult) -> None:
    """Print the five lines at the end."""
    console.title("Summary")
    console.fact("call A", f"kept alive by the timer only: {_ended(result.kept)}")
    console.fact("call B", f"not registered: {_ended(result.unkept)}")
    console.fact(
        "call C",
        f"relayed to its bot: {len(result.relay.deliveries)} deliveries in order, {len(result.relay.missed)} of them"
        f" up to {result.relay.latest.total_seconds():.1f} s late; dead letters: {result.relay.dead}.",
    )
    console.fact("tokens", f"notifications came with both kinds of tokens: {', then '.join(result.token_kinds)}.")
    console.fact("recording", f"{result.recording['status']} ({result.recording['completionReason']}).")


def _ended(call: FinishedCall) -> str:
    end = call.view["termination"]
    return (
        f"{call.simulated['keepAlives']} keepAlives; ended with {end['code']}/{end['subcode']}"
        f" (source: {end['source']})."
    )


def minutes_alive(simulated: Json) -> float:
    """Return the minutes of Graph's time between the start of a call and its last renewal."""
    started, renewed = (datetime.fromisoformat(at) for at in (simulated["startedAt"], simulated["lease"]["renewedAt"]))
    return (renewed - started) / timedelta(minutes=1)
