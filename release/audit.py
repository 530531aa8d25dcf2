"""Known vulnerabilities of what is deployed, by pip-audit: `python -m release.audit`, `make audit`.

pip-audit calls it well where it could look nothing up. Here that is a failure of its own: nothing was audited.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import TypedDict

REQUIREMENTS = "requirements.txt"  # pinned, with all that they need, so that nothing has to be resolved
LONGEST = 300  # seconds


class Vulnerability(TypedDict):
    """What pip-audit tells of one; `id` is that of the Python advisory database."""

    id: str
    fix_versions: list[str]


class Dependency(TypedDict, total=False):
    """A package, with either its vulnerabilities, or why it was not looked up."""

    name: str
    version: str
    vulns: list[Vulnerability]
    skip_reason: str


def judged(dependencies: Sequence[Dependency]) -> tuple[int, list[str]]:
    """The exit code and what is told: 0 all audited and clean, 1 vulnerable, 2 not (wholly) audited."""
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for one in each.get("vulns", [])
    ]
    unknown = [each["name"] for each in dependencies if "vulns" not in each]
    audited = len(dependencies) - len(unknown)
    if not audited:
        return 2, ["nothing is audited: the vulnerability service cannot be reached from here, or knows no package"]
    if unknown:
        found.append(f"not audited: {', '.join(unknown)}")
    code = 1 if len(found) > bool(unknown) else 2 * bool(unknown)
    return code, found or [f"ok: {audited} packages of {REQUIREMENTS}, no known vulnerability"]


def main() -> int:
    """Ask pip-audit, and tell."""
    asked = ["-r", REQUIREMENTS, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [sys.executable, "-m", "pip_audit", *asked]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST).stdout  # noqa: S603 our own words
        code, lines = judged(json.loads(answer)["dependencies"])
    except (
        subprocess.TimeoutExpired,
        ValueError,
        KeyError,
        TypeError,
    ):  # without a network: a traceback, or nothing
        code, lines = judged(())
    for line in lines:
        print(f"audit: {line}")
    return code


if __name__ == "__main__":
    sys.exit(main())
