"""Checks the deployed libraries for known vulnerabilities, by pip-audit: `python -m release.audit`, `make audit`.

pip-audit reports success even if it could look up nothing. This command then fails with its own exit code.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

REQUIREMENTS = "requirements.txt"  # it pins every package, also indirect ones, so that pip-audit resolves nothing
MAX_DURATION = timedelta(minutes=5)


class Vulnerability(TypedDict):
    """A vulnerability as pip-audit prints it; `id` is its id in the Python advisory database."""

    id: str
    fix_versions: list[str]


class Dependency(TypedDict, total=False):
    """A package with its vulnerabilities, or with the reason why it was not looked up."""

    name: str
    version: str
    vulns: list[Vulnerability]
    skip_reason: str


def summarize(dependencies: Sequence[Dependency]) -> tuple[int, list[str]]:
    """Return the exit code and the lines to print.

    The code is 0 if all packages were looked up and have no vulnerability, 1 if one has, 2 if some were not looked up.
    """
    lines = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for vulnerability in each.get("vulns", [])
    ]
    unknown = [each["name"] for each in dependencies if "vulns" not in each]
    audited = len(dependencies) - len(unknown)
    if not audited:
        return 2, ["nothing was audited: the vulnerability service cannot be reached, or knows none of the packages"]
    code = 1 if lines else 0
    if unknown:
        lines.append(f"not audited: {', '.join(unknown)}")
        code = code or 2
    return code, lines or [f"ok: {audited} packages of {REQUIREMENTS}, no known vulnerability"]


def main() -> int:
    """Run pip-audit, print the summary, and return the exit code."""
    options = ["-r", REQUIREMENTS, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [sys.executable, "-m", "pip_audit", *options]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False, timeout=MAX_DURATION.total_seconds()
        )
        code, lines = summarize(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        # Without a network pip-audit prints a traceback, or nothing.
        code, lines = summarize(())
    for line in lines:
        print(f"audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main())
