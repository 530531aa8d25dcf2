"""Run many seeds in virtual time, each a random schedule of faults, and report violations and figures."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from soak.fault_schedule import FaultProfile
from soak.intervals import MINUTE
from soak.isolation import MAX_WORSE, measure_isolation
from soak.presets import PRESETS
from soak.runner import Totals, run_seed, runs

MIN_HELD = 0.7  # the share of the time in which the condition must hold: else the runs prove too little
MIN_CHECKED_ENDS = 0.1  # of the ends without a notification, the share whose time must be checked
MAX_SHOWN = 3  # violations of a run


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds. Return the exit code: 0 if no run has a violation and enough was checked."""
    options = _parse_options(arguments)
    profile = _profile(options)
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
    # The presets of the relay alone leave no path open for long: they prove nothing of leases.
    unproven = [] if options.preset.startswith("relay-") else _find_unproven(totals)
    if profile.relay and profile.relay.dead:
        unproven += _compare_bots(profile, seeds, options.workers)
    print(*unproven, sep="\n", end="\n" if unproven else "")
    return 1 if totals.failed or unproven else 0


def _profile(options: argparse.Namespace) -> FaultProfile:
    """Return the preset with the hours and calls of the command line."""
    profile = PRESETS[options.preset]
    return replace(profile, hours=options.hours or profile.hours, calls=options.calls or profile.calls)


def _compare_bots(profile: FaultProfile, seeds: range, workers: int) -> list[str]:
    """Print how much longer the other bots wait beside a dead one. Return what that violates."""
    found = measure_isolation(profile, seeds, workers)
    for name, (beside, well) in (("notifications", found.notifications), ("events", found.events)):
        p99 = f"p99 {beside.p99:.3f} s until the others hear, {well.p99:.3f} s without dead bots"
        print(f"  {name:<16} {p99}: {beside.p99 / well.p99:.2f} times; of {beside.deliveries:,} deliveries")
    return [] if found.is_kept else [f"soak: the others wait more than {MAX_WORSE:.2f} times as long, at p99."]


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
    parser = argparse.ArgumentParser(
        prog="python -m soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=_seeds, default="0-499", help="a number, or first-last (default %(default)s)")
    parser.add_argument("--hours", type=_hours, help="hours of a run (default: those of the preset)")
    parser.add_argument("--calls", type=_count, help="calls alive at a time (default: those of the preset)")
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
    profile = _profile(options)
    preset = "" if options.preset == "usual" else f" --preset {options.preset}"
    return f".venv/bin/python -m soak --seeds {seed} --hours {profile.hours:g} --calls {profile.calls}{preset} --trace"


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
    for name, what in (*rows, *(_relay_rows(counts) if profile.relay else ())):
        print(f"  {name:<16} {what}")


def _relay_rows(counts: Counter[str]) -> Iterable[tuple[str, str]]:
    dead = counts["deliveries dead"] + counts["dead: noTo"]
    attempts = f"{counts['attempts']:,} attempts, {counts['passed through']:,} with Graph's bearer"
    breakers = f"{counts['destinations open']:,} breakers opened, {counts['probes']:,} probes"
    outcomes = f"{counts['deliveries delivered']:,} delivered; {dead:,} dead by the rules"
    return (
        ("posts of Graph", f"{counts['posts acknowledged']:,} acknowledged; {counts['events']:,} events of ours"),
        ("deliveries", f"{counts['deliveries']:,}; {attempts}"),
        ("outcomes", f"{outcomes}; {counts['arrived twice']:,} arrived more than once"),
        ("bots in trouble", f"{breakers}; {counts['destinations gone']:,} switched off by 410"),
        ("relay's queue", f"{counts['relay messages']:,} messages; {counts['relay lost']:,} lost"),
    )


if __name__ == "__main__":
    sys.exit(main())
