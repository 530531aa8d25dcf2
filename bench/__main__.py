"""The command line: `python -m bench [--sizes 1000,10000] [--parts keep-alive,webhook] [--report PATH]`."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.contest import ROOT, SDK, BenchError, Json, contest
from bench.table import tables
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError

PARTS = ("keep-alive", "outage", "webhook", "tenants", "hang-up", "profile", "cold-start")
MOST_OF_OUTAGE = 5_000  # calls
MOST_OF_PROFILE = 10_000  # calls
MOST_OF_TENANTS = 5_000
MOST_OF_HANG_UP = 4_000  # calls
_LIBRARIES = ("aiohttp", "azure-data-tables", "azure-functions", "azure-identity", "azure-storage-queue")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, tell it, write the report; the exit code. A goal that is missed is no failure."""
    args, began = _parser().parse_args(arguments), time.monotonic()
    try:
        about = _about(args)
        results = {"run": about, **_measured(args)}
        about["minutes"] = (time.monotonic() - began) / 60
    except (AzuriteError, BenchError, ProcessError, OSError, subprocess.SubprocessError) as error:
        reason = _last_words(error) if isinstance(error, ProcessError) else " ".join(str(error).split())
        print(f"bench: failed: {reason}", file=sys.stderr)
        return 1
    print(tables(results))
    if args.report:
        Path(args.report).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _measured(args: argparse.Namespace) -> Json:
    """The parts that were asked for. Each imports what it needs when its turn comes: this process stays small."""
    results: Json = {}
    if "cold-start" in args.parts:
        from bench.cold_start import INSTALLED, measure  # noqa: PLC0415 (see above)

        results["cold_start"] = measure(INSTALLED if INSTALLED.exists() else Path(sys.executable), 2 * args.rounds + 1)
    if "keep-alive" in args.parts:
        found = dict(contest(args.sizes, args.rounds, args.workers, sdk=SDK.exists()))
        results |= {"pace": found.pop("pace"), "keep_alive": found}
    if "outage" in args.parts:
        from bench.outage import outage  # noqa: PLC0415 (see above)

        results["outage"] = outage(min(max(args.sizes), MOST_OF_OUTAGE))
    if "webhook" in args.parts:
        from bench.webhook import webhook  # noqa: PLC0415 (see above)

        results["webhook"] = webhook(args.calls, args.rounds)
    if "tenants" in args.parts:
        from bench.tenants import tenants  # noqa: PLC0415 (see above)

        results["tenants"] = tenants(min(max(args.sizes), MOST_OF_TENANTS))
    if "hang-up" in args.parts:
        from bench.hang_up import hang_up  # noqa: PLC0415 (see above)

        results["hang_up"] = hang_up(min(max(args.sizes), MOST_OF_HANG_UP))
    if "profile" in args.parts:
        from bench.profiled import profile  # noqa: PLC0415 (see above)

        results["profile"] = profile(min(max(args.sizes), MOST_OF_PROFILE), args.calls)
    return results


def _last_words(error: ProcessError) -> str:
    return ": ".join([error.reason, *error.said.strip().splitlines()[-1:]])


def _about(args: argparse.Namespace) -> Json:
    """When and where it was measured, and how busy the machine was with other things before."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "revision": _revision(),
        "cores": os.process_cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "load_before": os.getloadavg()[0],
        "rounds": args.rounds,
        "notified_calls": args.calls,
        "began": time.strftime("%H:%M", time.gmtime()),
        "minutes": 0.0,
    }


def _revision() -> str | None:
    """The commit that is measured, with a + if files differ from it; None outside of a clone."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--match="]
    if shutil.which("git") is None:
        return None
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout  # noqa: S603 - our own command
    return said.strip() or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Call Keeper on this machine.")
    parser.add_argument("--sizes", type=_sizes, default=[1_000, 10_000, 100_000], help="numbers of calls to keep alive")
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"some of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=_positive, default=3, help="how often each is measured (default: %(default)s)")
    parser.add_argument("--workers", type=_positive, default=2, help="queue instances for a fan-out (default: 2)")
    parser.add_argument(
        "--calls", type=_positive, default=500, help="calls that are notified of (default: %(default)s)"
    )
    parser.add_argument("--report", metavar="PATH", help="write the results as JSON too")
    return parser


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]*[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _sizes(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"parts are {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
