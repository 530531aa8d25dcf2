"""What `make audit` makes of pip-audit's answers: clean only where something was looked up."""

import subprocess

import pytest

from release import audit
from release.audit import Dependency, summarize

CLEAN: Dependency = {"name": "good", "version": "1", "vulns": []}
BAD: Dependency = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
WORSE: Dependency = {"name": "worse", "version": "2", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNKNOWN: Dependency = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "told"),
    [
        ([CLEAN, CLEAN], 0, "ok: 2 packages of requirements.txt, no known vulnerability"),
        ([CLEAN, BAD, WORSE], 1, "bad 2: PYSEC-1, fixed in 3 | worse 2: PYSEC-2, fixed in no version yet"),
        ([BAD, UNKNOWN], 1, "bad 2: PYSEC-1, fixed in 3 | not audited: unknown"),
        ([CLEAN, UNKNOWN], 2, "not audited: unknown"),
        ([UNKNOWN, UNKNOWN], 2, "nothing was audited"),
        ([], 2, "nothing was audited"),
    ],
)
def test_it_is_clean_only_if_all_was_looked_up(dependencies: list[Dependency], code: int, told: str) -> None:
    found, lines = summarize(dependencies)

    assert found == code
    assert " | ".join(lines).startswith(told)


@pytest.mark.parametrize("answer", ["", "Traceback", "{}", "[]"])
def test_an_answer_that_is_none_is_no_good_news(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], 0, answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    assert audit.main() == 2
    assert "nothing was audited" in capsys.readouterr().out
