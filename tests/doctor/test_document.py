"""docs/doctor.md says what the doctor does."""

import re

from doctor.__main__ import _parser
from doctor.examination import CHECKS
from tests.docs.documents import code, read, rows
from tests.doctor.documented import PAGE, renewed


def test_every_fault_is_documented_with_its_meaning_and_fix() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == renewed(text), "run: .venv/bin/python -m tests.doctor.documented"
    assert [each.name for each in CHECKS if f"### {each.name}\n" not in text] == []


def test_every_option_is_documented() -> None:
    table = rows(re.split(r"^## ", read("docs/doctor.md"), flags=re.MULTILINE)[0])
    told = {option for row in table for option in code(row[0])}
    there = {option for action in _parser()._actions for option in action.option_strings if option.startswith("--")}
    assert told == there - {"--help"}


def test_every_fault_says_what_is_wrong_and_what_to_do_in_sentences() -> None:
    faults = {fault for each in CHECKS for fault in each.faults}
    assert [fault.name for fault in faults if not fault.meaning.endswith(".")] == []
    assert [fault.name for fault in faults if not fault.fix] == []
    assert len(faults) > 60


def test_the_readme_leads_to_the_doctor() -> None:
    assert "(docs/doctor.md)" in read("README.md")
