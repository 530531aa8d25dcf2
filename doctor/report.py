"""The report: lines for a person, or JSON for a program."""

import json
import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

from doctor.examination import Result
from doctor.finding import Finding, Mark
from doctor.veil import Veil

_COLOURS = {Mark.OK: "32", Mark.SKIP: "2", Mark.WARN: "33", Mark.FAIL: "31"}
_BAD = (Mark.WARN, Mark.FAIL)


def failed(results: Sequence[Result]) -> bool:
    """Whether anything must be mended."""
    return any(result.mark is Mark.FAIL for result in results)


def as_json(results: Sequence[Result], veil: Veil) -> str:
    """All of it, for a program: `ok`, `findings`, and what was checked and what not."""
    document = {
        "ok": not failed(results),
        "findings": [_entry(result, each) for result in results for each in result.findings if each.mark in _BAD],
        "checked": [result.check.name for result in results if result.mark is not Mark.SKIP],
        "notChecked": [
            {"check": each.name, "reason": each.what} for result in results for each in result.findings if _skips(each)
        ],
        "notes": [{"check": each.name, "message": each.what} for each in _notes(results)],
    }
    return veil.over(json.dumps(document, indent=2, ensure_ascii=False))


def as_text(results: Sequence[Result], veil: Veil, out: TextIO, *, verbose: bool) -> None:
    """A line a finding, the bad ones first to last as the checks are ordered; then what was looked at."""
    colour = out.isatty() and "NO_COLOR" not in os.environ
    shown = [each for result in results for each in result.findings if verbose or each.mark in _BAD]
    if verbose:
        shown += [
            Finding(Mark.OK, result.check.name, result.check.question) for result in results if not result.findings
        ]
    for finding in shown:
        mark = f"{finding.mark:<5}"
        painted = f"\x1b[{_COLOURS[finding.mark]}m{mark}\x1b[0m" if colour else mark
        fix = f" Fix: {finding.fix}" if finding.fix else ""
        print(veil.over(f"{painted} {finding.name}: {_sentence(finding.what)}{fix}"), file=out)
    for line in _summary(results, verbose=verbose):
        print(veil.over(line), file=out)


def _summary(results: Sequence[Result], *, verbose: bool) -> list[str]:
    done = [result.check.name for result in results if result.mark is not Mark.SKIP]
    bad = [each.mark for result in results for each in result.findings]
    fails, warns = bad.count(Mark.FAIL), bad.count(Mark.WARN)
    head = "all well" if not fails + warns else f"{fails} to mend, {warns} to look at"
    lines = [f"doctor: {head}. Checked: {', '.join(done) or 'nothing'}."]
    notes = [f"{each.name}: {each.what}" for each in _notes(results) if each.name == "schedule"]
    reasons: dict[str, list[str]] = {}
    for finding in (each for result in results for each in result.findings if _skips(each)):
        reasons.setdefault(finding.what, []).append(finding.name)
    skipped = [f"{', '.join(names)} ({why})" for why, names in reasons.items()]
    if not verbose:
        lines += notes
        lines += [f"Not checked: {'; '.join(skipped)}."] if skipped else []
    return [part for line in lines for part in textwrap.wrap(line, 140, subsequent_indent="  ", break_on_hyphens=False)]


def _entry(result: Result, finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.mark.lower(),
        "name": finding.name,
        "check": result.check.name,
        "message": finding.what,
        "fix": finding.fix,
    }


def _notes(results: Sequence[Result]) -> list[Finding]:
    return [each for result in results for each in result.findings if each.mark is Mark.OK]


def _skips(finding: Finding) -> bool:
    return finding.mark is Mark.SKIP


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
