"""`python -m soak`: many lives, side by side; what they showed; how to see one of them again."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
from dataclasses import replace

from soak.fault_schedule import Climate
from soak.intervals import MINUTE
from soak.presets import PRESETS
from soak.runner import Sum, live, lives

HELD = 0.7  # the least part of the time in which the condition must hold: a proof about nothing proves nothing
FOUND = 0.1  # of the ends that no notification told, the least part of which it must be judged when they were found
SHOWN = 3  # violations of a life


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if no life showed a violation."""
    options = _options(arguments)
    climate = replace(PRESETS[options.preset], hours=options.hours, calls=options.calls)
    seeds = options.seeds
    if options.trace:
        return _trace(seeds[0], climate)
    began, total = time.monotonic(), Sum()
    for findings in lives(seeds, climate, options.workers):
        total.add(findings)
        if findings.violations:
            _tell_failure(findings.seed, findings.violations, _replay(options, findings.seed))
        _progress(total, len(seeds), time.monotonic() - began)
    _tell(total, climate, time.monotonic() - began)
    empty = _empty(total)
    print(*empty, sep="\n", end="\n" if empty else "")
    return 1 if total.failed or empty else 0


def _empty(total: Sum) -> list[str]:
    """What these lives do not prove, because it was hardly judged."""
    found = []
    if total.held < HELD:
        found.append(f"soak: the condition held in only {total.held:.0%} of the time: no lapse is proved.")
    if total.counts["ends in time"] < FOUND * total.silent:
        found.append(f"soak: only {total.counts['ends in time']} ends were judged: found in time is not proved.")
    return found


def _options(arguments: list[str] | None) -> argparse.Namespace:
    usual = Climate()
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default="0-499", help="a number, or first-last (default %(default)s)")
    parser.add_argument("--hours", type=_hours, default=usual.hours, help="of a life (default %(default)s)")
    parser.add_argument("--calls", type=_many, default=usual.calls, help="alive at any time (default %(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="usual", help="the kind of life (default %(default)s)")
    parser.add_argument("--workers", type=_many, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    parser.add_argument("--trace", action="store_true", help="tell the whole life of the first seed")
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
    raise argparse.ArgumentTypeError(f"'{text}' is no number of hours above 0")


def _many(text: str) -> int:
    if not re.fullmatch(r"[0-9]*[1-9][0-9]*", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def _trace(seed: int, climate: Climate) -> int:
    findings, lines = live(seed, climate, trace=True)
    print("\n".join(lines))
    print(f"\n{len(findings.violations)} violations", *findings.violations, sep="\n  ")
    return 1 if findings.violations else 0


def _replay(options: argparse.Namespace, seed: int) -> str:
    preset = "" if options.preset == "usual" else f" --preset {options.preset}"
    return f".venv/bin/python -m soak --seeds {seed} --hours {options.hours:g} --calls {options.calls}{preset} --trace"


def _tell_failure(seed: int, violations: list[str], replay: str) -> None:
    shown = [*violations[:SHOWN], *([f"and {len(violations) - SHOWN} more"] if len(violations) > SHOWN else [])]
    print(f"\nseed {seed}: {len(violations)} violations", *shown, sep="\n  ")
    print(f"  see it: {replay}", flush=True)


def _progress(total: Sum, of: int, seconds: float) -> None:
    line = f"soak: {total.lives} of {of} lives, {len(total.failed)} failed, {seconds:.0f} s"
    if sys.stderr.isatty():
        print(f"\r{line}", end="" if total.lives < of else "\n", file=sys.stderr, flush=True)
    elif total.lives % max(of // 20, 1) == 0:
        print(line, file=sys.stderr, flush=True)


def _tell(total: Sum, climate: Climate, seconds: float) -> None:
    counts = total.counts
    rows = (
        ("lives", f"{total.lives} of {climate.hours:g} hours, {climate.calls} calls alive, in {seconds:.0f} s"),
        ("violations", f"{sum(len(each.violations) for each in total.failed)} in {len(total.failed)} lives"),
        ("smallest margin", f"{total.margin / MINUTE:.1f} minutes (seed {total.narrowest}), while the condition held"),
        ("condition held", f"{total.held:.1%} of the time"),
        ("calls", f"{counts['calls']:,}; {counts['keepAlives']:,} keepAlives; {counts['closed']:,} closed"),
        (
            "lapses",
            f"{counts['lapses excused']:,} excused by the condition; {counts['lapses unknown']:,} not yet known",
        ),
        ("found in time", f"{counts['ends in time']:,} ends judged, of {total.silent:,} of which no notification told"),
        ("faults", f"{counts['faults']:,}; {counts['kills']:,} deaths; {counts['function time-outs']:,} time-outs"),
        ("messages", f"{counts['messages']:,}; {counts['lost']:,} lost; {counts['poisoned']:,} poisoned"),
        ("on the queue", f"at most {counts['most switches']} switches, {counts['most messages']} messages"),
    )
    for name, what in rows:
        print(f"  {name:<16} {what}")


if __name__ == "__main__":
    sys.exit(main())
