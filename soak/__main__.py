"""Run many seeds in virtual time, each a random schedule of faults, and report violations and figures."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
from dataclasses import replace

from soak.fault_schedule import FaultProfile
from soak.intervals import MINUTE
from soak.presets import PRESETS
from soak.runner import Totals, run_seed, runs

MIN_HELD = 0.7  # the share of the time in which the condition must hold: else the runs prove too little
MIN_CHECKED_ENDS = 0.1  # of the ends without a notification, the share whose time must be checked
MAX_SHOWN = 3  # violations of a run


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds. Return the exit code: 0 if no run has a violation and enough was checked."""
    options = _parse_options(arguments)
    profile = replace(PRESETS[options.preset], hours=options.hours, calls=options.calls)
    seeds = options.seeds
    if options.trace:
        return _print_trace(seeds[0], profile)
    start, totals = time.monotonic(), Totals()
    for findings in runs(seeds, profile, options.workers):
        totals.add(findings)
        if findings.violations:
            _print_failure(findings.seed, findings.violations, _replay_command(options, findings.seed))
        _print_progress(totals, len(seeds), time.monotonic() - start)
    _print_totals(totals, profile, time.monotonic() - start)
    unproven = _find_unproven(totals)
    print(*unproven, sep="\n", end="\n" if unproven else "")
    return 1 if totals.failed or unproven else 0


def _find_unproven(totals: Totals) -> list[str]:
    """Return what these runs do not prove, because they checked it too rarely."""
    found = []
    if totals.held < MIN_HELD:
        found.append(
            f"soak: the condition held in only {totals.held:.0%} of the time (at least {MIN_HELD:.0%} are needed), so "
            "these runs do not prove that no lease lapses."
        )
    if totals.counts["ends in time"] < MIN_CHECKED_ENDS * totals.ends_without_notification:
        found.append(
            f"soak: only {totals.counts['ends in time']} ends were checked, so these runs do not prove that ends are "
            "found in time."
        )
    return found


def _parse_options(arguments: list[str] | None) -> argparse.Namespace:
    usual = FaultProfile()
    parser = argparse.ArgumentParser(
        prog="python -m soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=_seeds, default="0-499", help="a number, or first-last (default %(default)s)")
    parser.add_argument("--hours", type=_hours, default=usual.hours, help="hours of a run (default %(default)s)")
    parser.add_argument("--calls", type=_count, default=usual.calls, help="calls alive at a time (default %(default)s)")
    presets = "\n".join(["the kind of faults (default %(default)s), one of:", *PRESETS])
    parser.add_argument("--preset", choices=PRESETS, default="usual", metavar="NAME", help=presets)
    parser.add_argument("--workers", type=_count, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    parser.add_argument("--trace", action="store_true", help="print every event of the first seed's run")
    return parser.parse_args(arguments)


def _seeds(text: str) -> range:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor first-last, such as 0-499")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def _hours(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number of hours above 0")


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]*[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def _print_trace(seed: int, profile: FaultProfile) -> int:
    findings, lines = run_seed(seed, profile, trace=True)
    print("\n".join(lines))
    print(f"\n{len(findings.violations)} violations", *findings.violations, sep="\n  ")
    return 1 if findings.violations else 0


def _replay_command(options: argparse.Namespace, seed: int) -> str:
    preset = "" if options.preset == "usual" else f" --preset {options.preset}"
    return f".venv/bin/python -m soak --seeds {seed} --hours {options.hours:g} --calls {options.calls}{preset} --trace"


def _print_failure(seed: int, violations: list[str], replay: str) -> None:
    hidden = len(violations) - MAX_SHOWN
    shown = [*violations[:MAX_SHOWN], *([f"and {hidden} more"] if hidden > 0 else [])]
    print(f"\nseed {seed}: {len(violations)} violations", *shown, sep="\n  ")
    print(f"  to see its trace: {replay}", flush=True)


def _print_progress(totals: Totals, of: int, seconds: float) -> None:
    line = f"soak: {totals.runs} of {of} runs, {len(totals.failed)} failed, {seconds:.0f} s"
    if sys.stderr.isatty():
        print(f"\r{line}", end="" if totals.runs < of else "\n", file=sys.stderr, flush=True)
    elif totals.runs % max(of // 20, 1) == 0:
        print(line, file=sys.stderr, flush=True)


def _print_totals(totals: Totals, profile: FaultProfile, seconds: float) -> None:
    counts, silent_ends = totals.counts, totals.ends_without_notification
    violations = sum(len(each.violations) for each in totals.failed)
    rows = (
        ("runs", f"{totals.runs} of {profile.hours:g} hours, {profile.calls} calls alive, in {seconds:.0f} s"),
        ("violations", f"{violations} in {len(totals.failed)} runs"),
        (
            "smallest margin",
            f"{totals.margin / MINUTE:.1f} minutes (seed {totals.margin_seed}), while the condition held",
        ),
        ("condition held", f"{totals.held:.1%} of the time"),
        ("calls", f"{counts['calls']:,}; {counts['keepAlives']:,} keepAlives; {counts['closed']:,} ended on record"),
        (
            "lapses",
            f"{counts['lapses excused']:,} excused by the condition; {counts['lapses unknown']:,} not on record",
        ),
        ("ends in time", f"{counts['ends in time']:,} checked, of {silent_ends:,} without a notification"),
        ("faults", f"{counts['faults']:,}; {counts['kills']:,} kills; {counts['function time-outs']:,} time-outs"),
        ("messages", f"{counts['messages']:,}; {counts['lost']:,} lost; {counts['poisoned']:,} poisoned"),
        ("on the queue", f"at most {counts['most watchdogs']} watchdogs, {counts['most messages']} messages"),
    )
    for name, what in rows:
        print(f"  {name:<16} {what}")


if __name__ == "__main__":
    sys.exit(main())
