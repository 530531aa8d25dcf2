"""`python -m soak.real.relay [--kills 300] [--seed 0]`: kill the host at random moments, and report violations."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from local.demo.console import RED, Console
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError
from soak.real.relay.kills import Findings, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, check and print the summary. Return the exit code: 1 after a violation, 2 if the run was impossible."""
    parser = argparse.ArgumentParser(
        prog="python -m soak.real.relay",
        description="Kill the host between notifications and their deliveries, and report violations.",
    )
    parser.add_argument("--kills", type=_kills, default=300, help="how often the host is killed (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()) % 10_000,
        help="the same seed draws the same moments and failures (default: random)",
    )
    args = parser.parse_args(arguments)
    console = Console()
    console.title(f"Seed {args.seed}: {args.kills} kills of the host, while its bot fails at random")
    try:
        findings, log = run(args.kills, args.seed, lambda text: console.say("relay-kill", text))
    except (AzuriteError, ProcessError) as error:
        print(f"relay-kill: could not run: {error}", file=sys.stderr)
        return 2
    return _print_summary(console, findings, log, f"make relay-kill ROUNDS={args.kills} SEED={args.seed}")


def _kills(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")


def _print_summary(console: Console, findings: Findings, log: str, command: str) -> int:
    fact, record = console.fact, findings.record
    proofs = ", ".join(f"{count} with {proof} token" for proof, count in findings.proofs().items())
    console.title("Summary")
    fact(
        "kills", f"{findings.kills}: {findings.under_way} while a notification was on its way to the bot for the first"
    )
    fact("", f"time, {findings.waiting} while acknowledged ones waited for another attempt")
    fact("moments", ", ".join(f"{count} x {moment}" for moment, count in findings.moments.items()))
    fact("sent", f"{len(record.sent)} notifications, in {sum(sent.sends for sent in record.sent.values())} requests")
    fact("received", f"{len(record.accepted)} of them, and {findings.extra} once more; requests: {proofs}")
    fact("machine", f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for violation in findings.violations:
        console.say("violation", violation, RED)
    if findings.violations:
        kept = Path(tempfile.mkdtemp(prefix="relay-kill-")) / "host.log"
        kept.write_text(log, encoding="utf-8")
        count = len(findings.violations)
        console.last(f"relay-kill: failed: {count} violations; the log of the host: {kept}; to repeat it: {command}")
        return 1
    console.last("relay-kill: ok: nothing was lost, changed, out of order, or written with a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
