"""The doctor's report: lines for a person, or JSON for a program."""

import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

from doctor.finding import Finding, Severity
from doctor.redactor import Redactor
from doctor.runner import CheckResult

_COLOURS = {Severity.OK: "32", Severity.SKIP: "2", Severity.WARN: "33", Severity.FAIL: "31"}
_PROBLEMS = (Severity.WARN, Severity.FAIL)
_WIDTH = 140  # columns


def failed(results: Sequence[CheckResult]) -> bool:
    """True if any finding is a `FAIL`."""
    return any(result.severity is Severity.FAIL for result in results)


def as_json(results: Sequence[CheckResult], redactor: Redactor) -> str:
    """Return the report as a JSON object: `ok`, `findings`, `checked`, `notChecked` and `notes`."""
    document = {
        "ok": not failed(results),
        "findings": [
            _entry(result, each) for result in results for each in result.findings if each.severity in _PROBLEMS
        ],
        "checked": _checked(results),
        "notChecked": [{"check": each.name, "reason": each.message} for each in _findings(results, Severity.SKIP)],
        "notes": [{"check": each.name, "message": each.message} for each in _findings(results, Severity.OK)],
    }
    return redactor.redact(json.dumps(document, indent=2, ensure_ascii=False))


def as_text(results: Sequence[CheckResult], redactor: Redactor, out: TextIO, *, verbose: bool) -> None:
    """Print a line for each problem, in the order of the checks, and a summary.

    With `verbose`, print a line for each check without a problem too.
    """
    colour = out.isatty() and "NO_COLOR" not in os.environ
    shown = list(_findings(results, *(Severity if verbose else _PROBLEMS)))
    if verbose:
        shown += [
            Finding(Severity.OK, result.check.name, result.check.question) for result in results if not result.findings
        ]
    for finding in shown:
        severity = f"{finding.severity:<5}"
        painted = f"\x1b[{_COLOURS[finding.severity]}m{severity}\x1b[0m" if colour else severity
        fix = f" Fix: {finding.fix}" if finding.fix else ""
        print(redactor.redact(f"{painted} {finding.name}: {_sentence(finding.message)}{fix}"), file=out)
    for line in _summary(results, verbose=verbose):
        print(redactor.redact(line), file=out)


def _summary(results: Sequence[CheckResult], *, verbose: bool) -> list[str]:
    lines = [f"doctor: {_counts(results)}. Checked: {', '.join(_checked(results)) or 'nothing'}."]
    if not verbose:
        lines += [f"{each.name}: {each.message}" for each in _findings(results, Severity.OK) if each.name == "schedule"]
        lines += _not_checked(results)
    return [
        part for line in lines for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _counts(results: Sequence[CheckResult]) -> str:
    problems, warnings = (len(list(_findings(results, severity))) for severity in (Severity.FAIL, Severity.WARN))
    if not problems and not warnings:
        return "no problems"
    return f"{_plural(problems, 'problem')}, {_plural(warnings, 'warning')}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _not_checked(results: Sequence[CheckResult]) -> list[str]:
    """Return one line that groups the skipped checks by their reason; nothing if there are none."""
    names: dict[str, list[str]] = {}
    for finding in _findings(results, Severity.SKIP):
        names.setdefault(finding.message, []).append(finding.name)
    skipped = [f"{', '.join(checks)} ({reason})" for reason, checks in names.items()]
    return [f"Not checked: {'; '.join(skipped)}."] if skipped else []


def _entry(result: CheckResult, finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity.lower(),
        "name": finding.name,
        "check": result.check.name,
        "message": finding.message,
        "fix": finding.fix,
    }


def _checked(results: Sequence[CheckResult]) -> list[str]:
    return [result.check.name for result in results if result.severity is not Severity.SKIP]


def _findings(results: Sequence[CheckResult], *severities: Severity) -> Iterator[Finding]:
    return (each for result in results for each in result.findings if each.severity in severities)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
