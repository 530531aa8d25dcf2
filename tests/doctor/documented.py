"""The tables of docs/doctor.md, made from the checks. `python -m tests.doctor.documented` writes them anew."""

import re
from pathlib import Path

from doctor.check import Check
from doctor.examination import CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
_BLOCK = re.compile(r"<!-- faults -->\n.*?<!-- /faults -->\n", re.DOTALL)


def renewed(text: str) -> str:
    """The page with its tables written anew."""
    body = "\n".join(_section(each) for each in CHECKS)
    return _BLOCK.sub(lambda _: f"<!-- faults -->\n{body}<!-- /faults -->\n", text)


def _section(each: Check) -> str:
    where = " Of an app in Azure alone." if each.deployed else ""
    rows = "".join(
        f"| `{fault.name}` | {fault.mark} | {_cell(fault.meaning)} | {_cell(fault.fix)} |\n" for fault in each.faults
    )
    head = "| name | mark | what is wrong | fix |\n| --- | --- | --- | --- |\n"
    return f"### {each.name}\n\n{each.question}{where}\n\n{head}{rows}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
