"""The story of Call Keeper in about a minute: `make demo`, or `python -m local.demo [--report path.json]`.

Two calls at a simulated Graph whose time runs sixty times as fast. One is registered with Call Keeper, the other is
not. Everything is real but Graph: HTTP, Table and Queue Storage, the Functions worker library, tokens, signatures.
"""

import argparse
import contextlib
import json
import re
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from local.demo.report import SPEED, Json, Seen, minutes_alive, report_of, sum_up
from local.demo.story import GREEN, RED, Story
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import APP_ID, LEASE_MINUTES, Options, Stack, running

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
PATIENCE = 90.0  # seconds for anything to happen
POLL = 0.2  # seconds
INTERRUPTED = 130


class DemoFailed(Exception):
    """A part of the story did not happen. The message says which."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description="Call Keeper in about a minute.")
    parser.add_argument("--report", metavar="PATH", type=Path, help="write what was seen, as JSON")
    report: Path | None = parser.parse_args(arguments).report
    try:
        _write(report, {"ok": False, "reason": "the demo has not ended"})  # one that cannot be written shows now
        _write(report, _tell(Story()))
    except (AzuriteError, ProcessError, DemoFailed, httpx.HTTPError, OSError) as error:
        return _failed(report, error)
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return INTERRUPTED
    print("\ndemo: ok", flush=True)
    return 0


def _tell(story: Story) -> Json:
    story.title("Call Keeper: a call that is kept alive, and one that is not")
    with running(Options(speed=SPEED)) as stack, httpx.Client(timeout=10) as client:
        seen = Demo(stack, client, story).tell()
    sum_up(story, seen)
    return report_of(seen, story.seconds)


def _failed(report: Path | None, error: Exception) -> int:
    """Quote what a process said last; then, in one last line, the reason."""
    reason = error.reason if isinstance(error, ProcessError) else str(error)
    if isinstance(error, ProcessError) and error.said:
        print("\n" + textwrap.indent(error.said, "  | "), file=sys.stderr)
    with contextlib.suppress(DemoFailed):  # that may be why it failed
        _write(report, {"ok": False, "reason": reason})
    print(f"demo: failed: {reason}", file=sys.stderr)
    return 1


class Demo:
    """The acts, in their order."""

    def __init__(self, stack: Stack, client: httpx.Client, story: Story) -> None:
        self._stack = stack
        self._client = client
        self._story = story
        self._key = {"x-functions-key": stack.function_key}
        self._renewals = 0

    def tell(self) -> Seen:
        """The whole story. Raises `DemoFailed` where it goes another way."""
        self._introduce()
        self._sweep_once()
        unkept, kept = self._unheard_call(), self._call(str(uuid.uuid4()))
        self._register(kept)
        recording = self._record(kept)
        self._watch(kept, unkept)
        end_of_unkept = self._explain(unkept, "B", (408, 8537))
        self._outlive(kept, unkept)
        counts = self._count_sweeps(kept)
        keep_alives = self._simulated(kept)
        self._change_tokens()
        self._hang_up(kept)
        end_of_kept = self._explain(kept, "A", None)
        if end_of_kept["termination"]["category"] != "byBot":
            raise DemoFailed(f"A was hung up, but its end is told as {end_of_kept['termination']['category']}")
        token_kinds = self._count_tokens()
        return Seen(
            {"call": end_of_kept, "simulated": keep_alives},
            {"call": end_of_unkept, "simulated": self._simulated(unkept)},
            recording,
            token_kinds,
            *counts,
        )

    def _introduce(self) -> None:
        self._story.say("set-up", "Storage (Azurite), a simulated Graph and the Functions host are running:")
        self._story.more(f"the host at {self._stack.address}, Graph at {self._stack.simulator}.")
        self._story.more(
            f"Graph ends a call that gets no keepAlive for {LEASE_MINUTES} minutes. Here a minute takes a second, so"
            " Call Keeper's timer, which fires every 15 minutes in Azure, fires every 15 seconds."
        )

    def _call(self, call_id: str) -> str:
        wanted = {
            "id": call_id,
            "tenantId": TENANT,
            "appId": APP_ID,
            "callbackUri": f"{self._stack.api}/notifications",
        }
        call = self._ask("POST", f"{self._stack.simulator}/control/calls", 201, json=wanted)
        return str(call["id"])

    def _sweep_once(self) -> None:
        """Before there are calls: else a first webhook, seeing that nothing was ever swept, would wake the keeper."""
        self._ask("POST", f"{self._stack.api}/keep-alive", 200)

    def _unheard_call(self) -> str:
        """A call whose first notifications are lost: with them Call Keeper would know it, and keep it."""
        call_id, delivery = str(uuid.uuid4()), f"{self._stack.simulator}/control/delivery"
        self._ask("PUT", delivery, 200, json={"callId": call_id, "loss": 1})
        self._call(call_id)
        self._until("B is established", lambda: self._simulated(call_id), lambda call: call["state"] == "established")
        self._ask("PUT", delivery, 200, json={"callId": call_id})
        return call_id

    def _register(self, kept: str) -> None:
        wanted = {"tenantId": TENANT, "startedAt": datetime.now(UTC).isoformat()}
        self._ask("PUT", f"{self._stack.api}/calls/{kept}", (200, 201), json=wanted)
        self._story.title("Two calls begin")
        self._story.say("bot A", f"registers its call with Call Keeper: PUT /api/calls/{_short(kept)}")
        self._story.say("bot B", "has crashed: it registers nothing, sends no keepAlive, hears no notification.")

    def _record(self, kept: str) -> Json:
        self._story.title("Bot A records an answer")
        wish = {"maxRecordDurationInSeconds": 60, "playBeep": True, "stopTones": ["#"], "clientContext": "demo"}
        started = self._ask("POST", f"{self._stack.api}/calls/{kept}/record", 202, json=wish)
        self._story.say("bot A", f"POST /api/calls/{_short(kept)}/record: the operation is {started['status']}.")
        place = f"{self._stack.api}/calls/{kept}/operations/{started['id']}"
        done = self._until("the recording is finished", lambda: self._ask("GET", place, 200), _is_finished)
        if done["status"] != "completed" or not done["recordingLocation"]:
            raise DemoFailed(f"the recording is {done['status']}: {done['message']}")
        self._story.say("Graph", f"notifies: the recording is completed ({done['completionReason']}).", GREEN)
        token = {"Authorization": f"Bearer {done['recordingAccessToken']}"}
        audio = self._request("GET", str(done["recordingLocation"]), headers=token)
        if audio.status_code != httpx.codes.OK:
            raise DemoFailed(f"the recording could not be fetched: {audio.status_code}")
        self._story.say("bot A", f"fetches {len(audio.content):,} bytes of audio with the token that came along.")
        return done

    def _watch(self, kept: str, unkept: str) -> None:
        self._story.title("Time passes")
        self._until("B lapses", lambda: self._look(kept, unkept), lambda b: bool(b["over"]))
        self._story.say("Graph", f"ends call B: no keepAlive for {LEASE_MINUTES} minutes.", RED)

    def _outlive(self, kept: str, unkept: str) -> None:
        """Let A live on, until it was renewed once more than it had been when B ended."""
        enough = self._renewals + 1
        self._until("A is renewed again", lambda: self._look(kept, unkept), lambda _: self._renewals >= enough)

    def _look(self, kept: str, unkept: str) -> Json:
        """Tell of a new renewal of A; what the simulator knows of B."""
        a, b = self._simulated(kept), self._simulated(unkept)
        if a["over"]:
            raise DemoFailed(f"the kept call ended with {a['code']}/{a['subcode']}")
        if a["keepAlives"] > self._renewals:
            self._renewals = int(a["keepAlives"])
            left = "is over" if b["over"] else f"has {b['lease']['remainingSeconds'] / 60:.0f} minutes left"
            self._story.say("timer", f"sends keepAlive {self._renewals} for call A. Call B {left}.", GREEN)
        return b

    def _explain(self, call_id: str, name: str, expected: tuple[int, int] | None) -> Json:
        place = f"{self._stack.api}/calls/{call_id}"
        call = self._until(f"{name}'s end is known", lambda: self._find(place), _has_ended)
        end = call["termination"]
        if expected and (end["code"], end["subcode"]) != expected:
            raise DemoFailed(f"{name} ended with {end['code']}/{end['subcode']}, not {expected}")
        if not end["reason"] or end["category"] == "unknown":
            raise DemoFailed(f"{name}'s end has no reason: {end['code']}/{end['subcode']}")
        self._story.say("Call Keeper", f"knows why, GET /api/calls/{_short(call_id)}:")
        self._story.more(f"{end['code']}/{end['subcode']}, {end['category']}. {end['reason']}")
        if end["action"]:
            self._story.more(f"What to do? {end['action']}")
        return call

    def _change_tokens(self) -> None:
        """Microsoft moves notifications to Entra's tokens, on a day that is not published."""
        self._story.title("Graph changes how it signs")
        self._ask("PUT", f"{self._stack.simulator}/control/delivery", 200, json={"token": "entra"})
        self._story.say("Graph", "signs notifications with tokens of Entra from now on; so far they were the old kind.")

    def _count_tokens(self) -> list[str]:
        """The kinds of tokens that bodies came with, in their order, as the host's log tells."""

        def kinds() -> list[str]:
            return re.findall(r"notifications\.accepted .*?tokenKind=(\w+)", self._stack.host.output)

        seen = self._until("notifications came with both kinds of tokens", kinds, lambda seen: len(set(seen)) > 1)
        return list(dict.fromkeys(seen))

    def _hang_up(self, kept: str) -> None:
        age = minutes_alive(self._simulated(kept))
        if age <= LEASE_MINUTES:
            raise DemoFailed(f"A was renewed for {age:.0f} minutes only, which proves nothing")
        self._story.title("Bot A hangs up")
        self._ask("POST", f"{self._stack.api}/calls/{kept}/hangup", (200, 202))  # 200: its end is known already
        self._story.say("bot A", f"POST /api/calls/{_short(kept)}/hangup, after {age:.0f} minutes and more.")

    def _count_sweeps(self, kept: str) -> tuple[int, int, int]:
        """All renewals must be the timer function's: the host's log tells who swept, when the sweep is done."""

        def count() -> tuple[int, int, int]:
            sweeps = re.findall(r"keep_alive\.sweep\.finished wakeUp=(\w+) .*?renewed=(\d+)", self._stack.host.output)
            by_timer = [int(renewed) for wake_up, renewed in sweeps if wake_up == "timer"]
            return len(by_timer), sum(by_timer), sum(int(renewed) for _, renewed in sweeps) - sum(by_timer)

        sent = int(self._simulated(kept)["keepAlives"])
        counts = self._until(f"the log tells of all {sent} keepAlives", count, lambda seen: seen[1] + seen[2] >= sent)
        if counts[1:] != (sent, 0):
            raise DemoFailed(f"of {sent} keepAlives the timer function sent {counts[1]}")
        return counts

    def _simulated(self, call_id: str) -> Json:
        return self._ask("GET", f"{self._stack.simulator}/control/calls/{call_id}", 200)

    def _find(self, place: str) -> Json:
        answer = self._request("GET", place, headers=self._key)
        return answer.json() if answer.status_code == httpx.codes.OK else {}

    def _ask(self, method: str, url: str, expected: int | tuple[int, ...], json: Json | None = None) -> Json:
        answer = self._request(method, url, self._key, json)
        if answer.status_code not in (expected if isinstance(expected, tuple) else (expected,)):
            raise DemoFailed(f"{method} {url} answered {answer.status_code}: {answer.text[:300]}")
        found: Json = answer.json()
        return found

    def _request(self, method: str, url: str, headers: dict[str, str], json: Json | None = None) -> httpx.Response:
        try:
            return self._client.request(method, url, headers=headers, json=json)
        except httpx.HTTPError as error:
            time.sleep(POLL)  # a process that dies closes its connections a little before it is gone
            self._stack.check()
            raise DemoFailed(f"{method} {url} was not answered ({type(error).__name__})") from error

    def _until[T](self, what: str, look: Callable[[], T], enough: Callable[[T], bool]) -> T:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._stack.check()
            seen = look()
            if enough(seen):
                return seen
            time.sleep(POLL)
        raise DemoFailed(f"within {PATIENCE:.0f} s it did not happen that {what}")


def _is_finished(operation: Json) -> bool:
    return operation["status"] in {"completed", "failed", "lost"}


def _has_ended(call: Json) -> bool:
    return bool(call) and call["status"] == "ended" and call["termination"]["code"] is not None


def _short(call_id: str) -> str:
    return f"{call_id[:8]}-…"


def _write(path: Path | None, content: Json) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DemoFailed(f"the report {path} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
