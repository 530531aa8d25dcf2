"""The demo, which shows Call Keeper in about a minute: `make demo`, or `python -m local.demo [--report path.json]`.

It runs three calls at a simulated Graph whose time is 60 times as fast. Call A is registered with Call Keeper, call B
is not. The bot of call C receives its notifications through Call Keeper, and crashes. Everything but Graph is real:
HTTP, Table and Queue Storage, the Functions worker library, tokens and signatures.
"""

import argparse
import contextlib
import json
import re
import sys
import textwrap
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from local.demo.console import GREEN, RED, Console
from local.demo.relay import BotC, RelayChapter
from local.demo.report import (
    SPEED,
    DemoResult,
    FinishedCall,
    Json,
    SweepCounts,
    minutes_alive,
    print_summary,
    report_of,
)
from local.demo.steps import DemoFailed, Requests, short
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from local.stack.stack import APP_ID, LEASE_MINUTES, Options, Stack, running

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
LAPSED = (408, 8537)  # code and subcode of a call that got no keepAlive; Graph: call-delete page
REQUEST_TIMEOUT = timedelta(seconds=10)
EXIT_INTERRUPTED = 130  # 128 + SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description="Show Call Keeper in about a minute.")
    parser.add_argument("--report", metavar="PATH", type=Path, help="write the result as JSON")
    report: Path | None = parser.parse_args(arguments).report
    try:
        _write(report, {"ok": False, "reason": "the demo has not ended"})  # fails now if it cannot be written
        _write(report, _run(Console()))
    except (AzuriteError, ProcessError, DemoFailed, httpx.HTTPError, OSError) as error:
        return _fail(report, error)
    except KeyboardInterrupt:
        print("demo: stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    print("\ndemo: ok", flush=True)
    return 0


def _run(console: Console) -> Json:
    console.title("Call Keeper: one call is kept alive, another one is not; a bot crashes and misses nothing")
    bot = BotC()
    options = Options(speed=SPEED, settings=bot.settings)
    with running(options) as stack, httpx.Client(timeout=REQUEST_TIMEOUT.total_seconds()) as client:
        result = Demo(stack, client, console, bot).run()
    print_summary(console, result)
    return report_of(result, console.seconds)


def _fail(report: Path | None, error: Exception) -> int:
    """Print the last output of a failed process, and the reason in the last line."""
    reason = error.reason if isinstance(error, ProcessError) else str(error)
    if isinstance(error, ProcessError) and error.said:
        print("\n" + textwrap.indent(error.said, "  | "), file=sys.stderr)
    with contextlib.suppress(DemoFailed):  # an unwritable report may be the reason itself
        _write(report, {"ok": False, "reason": reason})
    print(f"demo: failed: {reason}", file=sys.stderr)
    return 1


class Demo:
    """The steps of the demo, in their order."""

    def __init__(self, stack: Stack, client: httpx.Client, console: Console, bot: BotC) -> None:
        self._stack = stack
        self._http = Requests(stack, client)
        self._console = console
        self._bot = bot
        self._renewals = 0

    def run(self) -> DemoResult:
        """Run all steps. Raises `DemoFailed` if one does not happen as expected."""
        self._introduce()
        self._sweep_once()
        unkept, kept = self._start_unknown_call(), self._start_call(str(uuid.uuid4()))
        self._register(kept)
        recording = self._record(kept)
        self._console.title("Time passes")
        self._wait_for_renewal(kept, unkept)
        relay = RelayChapter(self._stack, self._http, self._console, self._bot).run(TENANT)
        self._console.title("More time passes")
        self._wait_for_lapse(kept, unkept)
        end_of_unkept = self._explain_end(unkept, "B")
        if _codes(end_of_unkept) != LAPSED:
            raise DemoFailed(f"B ended with {_codes(end_of_unkept)}, not {LAPSED}")
        self._wait_for_renewal(kept, unkept)
        sweeps = self._count_sweeps(kept, str(relay.simulated["id"]))
        simulated_kept = self._http.simulated(kept)
        self._change_tokens()
        self._hang_up(kept)
        end_of_kept = self._explain_end(kept, "A")
        if (category := end_of_kept["termination"]["category"]) != "byBot":
            raise DemoFailed(f"A was hung up by its bot, but the category of its end is {category}")
        token_kinds = self._token_kinds()
        return DemoResult(
            FinishedCall(end_of_kept, simulated_kept),
            FinishedCall(end_of_unkept, self._http.simulated(unkept)),
            recording,
            relay,
            token_kinds,
            sweeps,
        )

    def _introduce(self) -> None:
        self._console.say("set-up", "Storage (Azurite), a simulated Graph and the Functions host are running:")
        self._console.more(f"the host at {self._stack.address}, Graph at {self._stack.simulator}.")
        self._console.more(
            f"Graph ends a call that gets no keepAlive for {LEASE_MINUTES} minutes. Here a minute takes a second, so"
            " Call Keeper's timer, which fires every 15 minutes in Azure, fires every 15 seconds."
        )

    def _sweep_once(self) -> None:
        """Sweep before there are calls. Otherwise the first webhook would find stale shards and start a sweep."""
        self._http.send("POST", f"{self._stack.api}/keep-alive", 200)

    def _start_call(self, call_id: str) -> str:
        wanted = {
            "id": call_id,
            "tenantId": TENANT,
            "appId": APP_ID,
            "callbackUri": f"{self._stack.api}/notifications",
        }
        call = self._http.send("POST", f"{self._stack.simulator}/control/calls", 201, json=wanted)
        return str(call["id"])

    def _start_unknown_call(self) -> str:
        """Start a call whose first notifications are lost. A notification would make Call Keeper keep the call."""
        call_id, delivery = str(uuid.uuid4()), f"{self._stack.simulator}/control/delivery"
        self._http.send("PUT", delivery, 200, json={"callId": call_id, "loss": 1})
        self._start_call(call_id)
        self._http.wait_until(
            "B is established", lambda: self._http.simulated(call_id), lambda call: call["state"] == "established"
        )
        self._http.send("PUT", delivery, 200, json={"callId": call_id})
        return call_id

    def _register(self, kept: str) -> None:
        wanted = {"tenantId": TENANT, "appId": APP_ID, "startedAt": datetime.now(UTC).isoformat()}
        self._http.send("PUT", f"{self._stack.api}/calls/{kept}", (200, 201), json=wanted)
        self._console.title("Two calls begin")
        self._console.say("bot A", f"registers its call with Call Keeper: PUT /api/calls/{short(kept)}")
        self._console.say("bot B", "has crashed: it registers nothing, sends no keepAlive, receives no notification.")

    def _record(self, kept: str) -> Json:
        self._console.title("Bot A records an answer")
        wanted = {"maxRecordDurationInSeconds": 60, "playBeep": True, "stopTones": ["#"], "clientContext": "demo"}
        started = self._http.send("POST", f"{self._stack.api}/calls/{kept}/record", 202, json=wanted)
        self._console.say("bot A", f"POST /api/calls/{short(kept)}/record: the operation is {started['status']}.")
        url = f"{self._stack.api}/calls/{kept}/operations/{started['id']}"
        finished = self._http.wait_until(
            "the recording is finished", lambda: self._http.send("GET", url, 200), _is_finished
        )
        if finished["status"] != "completed" or not finished["recordingLocation"]:
            raise DemoFailed(f"the recording is {finished['status']}: {finished['message']}")
        reason = finished["completionReason"]
        self._console.say("Graph", f"sends a notification: the recording is completed ({reason}).", GREEN)
        token = {"Authorization": f"Bearer {finished['recordingAccessToken']}"}
        audio = self._http.request("GET", str(finished["recordingLocation"]), headers=token)
        if audio.status_code != httpx.codes.OK:
            raise DemoFailed(f"the download of the recording answered {audio.status_code}")
        size = f"{len(audio.content):,} bytes"
        self._console.say("bot A", f"downloads {size} of audio with the access token of the recording.")
        return finished

    def _wait_for_lapse(self, kept: str, unkept: str) -> None:
        self._http.wait_until("B lapses", lambda: self._report_renewals(kept, unkept), lambda b: bool(b["over"]))
        self._console.say("Graph", f"ends call B: no keepAlive for {LEASE_MINUTES} minutes.", RED)

    def _wait_for_renewal(self, kept: str, unkept: str) -> None:
        """Wait for one more renewal of A. After the end of B it proves that A has outlived a lease."""
        wanted = self._renewals + 1
        self._http.wait_until(
            "A is renewed again", lambda: self._report_renewals(kept, unkept), lambda _: self._renewals >= wanted
        )

    def _report_renewals(self, kept: str, unkept: str) -> Json:
        """Print a line if A was renewed since the last time; return the simulator's view of B."""
        a, b = self._http.simulated(kept), self._http.simulated(unkept)
        if a["over"]:
            raise DemoFailed(f"the kept call ended with {a['code']}/{a['subcode']}")
        if a["keepAlives"] > self._renewals:
            self._renewals = int(a["keepAlives"])
            left = "has ended" if b["over"] else f"has {b['lease']['remainingSeconds'] / 60:.0f} minutes left"
            self._console.say("timer", f"sends keepAlive {self._renewals} for call A. Call B {left}.", GREEN)
        return b

    def _explain_end(self, call_id: str, name: str) -> Json:
        """Print why a call ended, as Call Keeper's API explains it; return its view."""
        url = f"{self._stack.api}/calls/{call_id}"
        call = self._http.wait_until(f"{name}'s end is known", lambda: self._http.find(url), _has_ended)
        end, (code, subcode) = call["termination"], _codes(call)
        if not end["reason"] or end["category"] == "unknown":
            raise DemoFailed(f"{name}'s end has no reason: {code}/{subcode}")
        self._console.say("Call Keeper", f"knows why: GET /api/calls/{short(call_id)}")
        self._console.more(f"{code}/{subcode}, {end['category']}. {end['reason']}")
        if end["action"]:
            self._console.more(f"What to do: {end['action']}")
        return call

    def _change_tokens(self) -> None:
        """Let the simulator sign with Entra tokens, as Graph will from an unpublished date on."""
        self._console.title("Graph changes its tokens")
        self._http.send("PUT", f"{self._stack.simulator}/control/delivery", 200, json={"token": "entra"})
        self._console.say(
            "Graph", "signs notifications with Entra tokens from now on; so far they were the legacy kind."
        )

    def _hang_up(self, kept: str) -> None:
        age = minutes_alive(self._http.simulated(kept))
        if age <= LEASE_MINUTES:
            raise DemoFailed(f"A was renewed for {age:.0f} minutes, not longer than a lease, which proves nothing")
        self._console.title("Bot A hangs up")
        # 200 if its end is known already, 202 otherwise.
        self._http.send("POST", f"{self._stack.api}/calls/{kept}/hangup", (200, 202))
        self._console.say("bot A", f"POST /api/calls/{short(kept)}/hangup, after more than {age:.0f} minutes.")

    def _token_kinds(self) -> list[str]:
        """Return the kinds of tokens in the order of their first notification, as the host's log has them."""

        def kinds() -> list[str]:
            return re.findall(r"notifications\.accepted .*?tokenKind=(\w+)", self._stack.host.output)

        found = self._http.wait_until(
            "notifications came with both kinds of tokens", kinds, lambda found: len(set(found)) > 1
        )
        return list(dict.fromkeys(found))

    def _count_sweeps(self, *kept: str) -> SweepCounts:
        """Count sweeps in the host's log. Raises `DemoFailed` if anything but the timer renewed a call."""

        def count() -> SweepCounts:
            sweeps = re.findall(r"keep_alive\.sweep\.finished wakeUp=(\w+) .*?renewed=(\d+)", self._stack.host.output)
            by_timer = [int(renewed) for wake_up, renewed in sweeps if wake_up == "timer"]
            by_others = [int(renewed) for wake_up, renewed in sweeps if wake_up != "timer"]
            return SweepCounts(len(by_timer), sum(by_timer), sum(by_others))

        sent = sum(int(self._http.simulated(call_id)["keepAlives"]) for call_id in kept)
        counts = self._http.wait_until(
            f"the log has all {sent} keepAlives",
            count,
            lambda found: found.renewed_by_timer + found.renewed_by_others >= sent,
        )
        if (counts.renewed_by_timer, counts.renewed_by_others) != (sent, 0):
            raise DemoFailed(f"the timer sent {counts.renewed_by_timer} of {sent} keepAlives")
        return counts


def _codes(call: Json) -> tuple[int, int]:
    return call["termination"]["code"], call["termination"]["subcode"]


def _is_finished(operation: Json) -> bool:
    return operation["status"] in {"completed", "failed", "lost"}


def _has_ended(call: Json) -> bool:
    return bool(call) and call["status"] == "ended" and call["termination"]["code"] is not None


def _write(path: Path | None, content: Json) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DemoFailed(f"the report {path} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
