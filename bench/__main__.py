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

from bench.comparison import SDK, compare_keep_alives
from bench.processes import ROOT, BenchError, Json
from bench.table import tables
from local.stack.azurite import AzuriteError
from local.stack.processes import ProcessError

PARTS = ("keep-alive", "outage", "webhook", "relay", "tenants", "hang-up", "profile", "cold-start")
MAX_OUTAGE_CALLS = 5_000
MAX_PROFILE_CALLS = 10_000
MAX_TENANTS = 5_000
MAX_HANG_UP_CALLS = 4_000  # that are swept meanwhile
_LIBRARIES = ("aiohttp", "azure-data-tables", "azure-functions", "azure-identity", "azure-storage-queue")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the parts that the arguments name, print the tables, write the report, and return the exit code.

    A missed goal is no failure.
    """
    args, began = _parser().parse_args(arguments), time.monotonic()
    try:
        conditions = _conditions(args)
        results = {"run": conditions, **_measure(args)}
        conditions["minutes"] = (time.monotonic() - began) / 60
    except (AzuriteError, BenchError, ProcessError, OSError, subprocess.SubprocessError) as error:
        reason = _reason_of(error) if isinstance(error, ProcessError) else " ".join(str(error).split())
        print(f"bench: failed: {reason}", file=sys.stderr)
        return 1
    print(tables(results))
    if args.report:
        Path(args.report).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(args: argparse.Namespace) -> Json:
    """Measure the parts that the arguments name. Each is imported just before, so that this process stays small."""
    results: Json = {}
    if "cold-start" in args.parts:
        from bench.cold_start import INSTALLED, measure_cold_start  # noqa: PLC0415 (see above)

        python = INSTALLED if INSTALLED.exists() else Path(sys.executable)
        results["cold_start"] = measure_cold_start(python, 2 * args.rounds + 1)
    if "keep-alive" in args.parts:
        found = dict(compare_keep_alives(args.sizes, args.rounds, args.workers, sdk=SDK.exists()))
        results |= {"pace": found.pop("pace"), "keep_alive": found}
    if "outage" in args.parts:
        from bench.outage import measure_outage  # noqa: PLC0415 (see above)

        results["outage"] = measure_outage(min(max(args.sizes), MAX_OUTAGE_CALLS))
    if "webhook" in args.parts:
        from bench.webhook import measure_webhook  # noqa: PLC0415 (see above)

        results["webhook"] = measure_webhook(args.calls, args.rounds)
    if "relay" in args.parts:
        from bench.relay import measure_relay  # noqa: PLC0415 (see above)

        results["relay"] = measure_relay(args.calls, args.rounds)
    if "tenants" in args.parts:
        from bench.tenants import measure_tenants  # noqa: PLC0415 (see above)

        results["tenants"] = measure_tenants(min(max(args.sizes), MAX_TENANTS))
    if "hang-up" in args.parts:
        from bench.hang_up import measure_hang_ups  # noqa: PLC0415 (see above)

        results["hang_up"] = measure_hang_ups(min(max(args.sizes), MAX_HANG_UP_CALLS))
    if "profile" in args.parts:
        from bench.profiling import profile  # noqa: PLC0415 (see above)

        results["profile"] = profile(min(max(args.sizes), MAX_PROFILE_CALLS), args.calls)
    return results


def _reason_of(error: ProcessError) -> str:
    return ": ".join([error.reason, *error.said.strip().splitlines()[-1:]])


def _conditions(args: argparse.Namespace) -> Json:
    """Return the conditions of this run: date, commit, machine, versions, arguments, and the load before it."""
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
    """Return the commit that is measured, with a + if files differ from it; None outside a clone."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--match="]
    if shutil.which("git") is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    return done.stdout.strip() or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Call Keeper on this machine.")
    parser.add_argument("--sizes", type=_sizes, default=[1_000, 10_000, 100_000], help="numbers of calls to keep alive")
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"parts to measure, of {','.join(PARTS)}")
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="how often each part is measured (default: %(default)s)"
    )
    parser.add_argument("--workers", type=_positive, default=2, help="queue instances for a fan-out (default: 2)")
    parser.add_argument(
        "--calls",
        type=_positive,
        default=500,
        help="number of calls whose notifications are sent (default: %(default)s)",
    )
    parser.add_argument("--report", metavar="PATH", help="also write the results as JSON to this file")
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
