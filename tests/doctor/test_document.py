"""docs/doctor.md describes every check, fault and option."""

import re

from doctor.__main__ import _parser
from doctor.runner import CHECKS
from tests.docs.documents import code, read, rows
from tests.doctor.documented import PAGE, regenerated

MANY_FAULTS = 60  # a lower number would mean that the list of checks was not loaded


def test_every_fault_is_documented_with_its_meaning_and_fix() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == regenerated(text), "run: .venv/bin/python -m tests.doctor.documented"
    assert [each.name for each in CHECKS if f"### {each.name}\n" not in text] == []


def test_every_option_is_documented() -> None:
    table = rows(re.split(r"^## ", read("docs/doctor.md"), flags=re.MULTILINE)[0])
    documented = {option for row in table for option in code(row[0])}
    accepted = {option for action in _parser()._actions for option in action.option_strings if option.startswith("--")}
    assert documented == accepted - {"--help"}


def test_every_fault_has_a_meaning_in_a_sentence_and_a_fix() -> None:
    faults = {fault for each in CHECKS for fault in each.faults}
    assert [fault.name for fault in faults if not fault.meaning.endswith(".")] == []
    assert [fault.name for fault in faults if not fault.fix] == []
    assert len(faults) > MANY_FAULTS


def test_the_readme_links_to_the_doctor() -> None:
    assert "(docs/doctor.md)" in read("README.md")
