"""The tables of docs/doctor.md, generated from the checks. `python -m tests.doctor.documented` writes them."""

import re
from pathlib import Path

from doctor.check import Check
from doctor.runner import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
_BLOCK = re.compile(r"<!-- faults -->\n.*?<!-- /faults -->\n", re.DOTALL)


def regenerated(text: str) -> str:
    """Return the page with its tables generated again."""
    body = "\n".join(_section(each) for each in CHECKS)
    return _BLOCK.sub(lambda _: f"<!-- faults -->\n{body}<!-- /faults -->\n", text)


def _section(each: Check) -> str:
    scope = " For a deployed app only." if each.deployed_only else ""
    rows = "".join(
        f"| `{fault.name}` | {fault.severity} | {_cell(fault.meaning)} | {_cell(fault.fix)} |\n"
        for fault in each.faults
    )
    head = "| name | severity | what is wrong | fix |\n| --- | --- | --- | --- |\n"
    return f"### {each.name}\n\n{each.question}{scope}\n\n{head}{rows}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(regenerated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
