"""What the demo has seen: its summary for a person, and the report for a program."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from local.demo.story import Story
from local.stack.stack import LEASE_MINUTES

SPEED = 60

type Json = dict[str, Any]  # what the two APIs answer; the demo is a client like any other, and has no models


@dataclass(slots=True)
class Seen:
    """What is reported."""

    kept: Json
    unkept: Json
    recording: Json
    token_kinds: list[str]
    timer_sweeps: int = 0
    renewed_by_timer: int = 0
    renewed_by_others: int = 0


def report_of(seen: Seen, seconds: float) -> Json:
    """The report: what `make demo REPORT=path.json` writes."""
    return {
        "ok": True,
        "seconds": round(seconds, 1),
        "speed": SPEED,
        "leaseSeconds": LEASE_MINUTES * 60 / SPEED,
        "calls": [_reported("kept", seen.kept), _reported("unkept", seen.unkept)],
        "recording": {
            name: seen.recording[name]
            for name in ("id", "callId", "kind", "status", "code", "subcode", "completionReason", "clientContext")
        },
        "tokenKinds": seen.token_kinds,
        "sweeps": {
            "timer": seen.timer_sweeps,
            "renewedByTimer": seen.renewed_by_timer,
            "renewedByOthers": seen.renewed_by_others,
        },
    }


def _reported(role: str, seen: Json) -> Json:
    call, simulated = seen["call"], seen["simulated"]
    return {
        "role": role,
        "id": call["id"],
        "keepAlives": simulated["keepAlives"],
        "keepAliveTimes": simulated["keepAliveTimes"],
        "startedAt": simulated["startedAt"],
        "outlivedLease": minutes_alive(simulated) > LEASE_MINUTES,
        "status": call["status"],
        **{name: call["termination"][name] for name in ("code", "subcode", "reason", "category", "source", "endedAt")},
    }


def sum_up(story: Story, seen: Seen) -> None:
    """Four lines at the end of the story."""
    story.title("In short")
    for name, one, how in (
        ("call A", seen.kept, "kept alive by the timer alone"),
        ("call B", seen.unkept, "kept by nobody"),
    ):
        end, sent = one["call"]["termination"], one["simulated"]["keepAlives"]
        story.fact(
            name, f"{how}: {sent} keepAlives; ended with {end['code']}/{end['subcode']}, told by {end['source']}."
        )
    story.fact("tokens", f"notifications with tokens of both kinds: {', then '.join(seen.token_kinds)}.")
    story.fact("recording", f"{seen.recording['status']}, {seen.recording['completionReason']}.")


def minutes_alive(simulated: Json) -> float:
    """From its start to its last renewal, in Graph's time."""
    started, renewed = (datetime.fromisoformat(at) for at in (simulated["startedAt"], simulated["lease"]["renewedAt"]))
    return (renewed - started) / timedelta(minutes=1)
