"""`make audit`: the report is clean only if every package was looked up."""

import subprocess

import pytest

from release import audit
from release.audit import Dependency, summarize

CLEAN: Dependency = {"name": "good", "version": "1", "vulns": []}
BAD: Dependency = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
WORSE: Dependency = {"name": "worse", "version": "2", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNKNOWN: Dependency = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "message"),
    [
        pytest.param(
            [CLEAN, CLEAN], 0, "ok: 2 packages of requirements.txt, no known vulnerability", id="no vulnerability"
        ),
        pytest.param(
            [CLEAN, BAD, WORSE],
            1,
            "bad 2: PYSEC-1, fixed in 3 | worse 2: PYSEC-2, fixed in no version yet",
            id="two vulnerabilities",
        ),
        pytest.param(
            [BAD, UNKNOWN],
            1,
            "bad 2: PYSEC-1, fixed in 3 | not audited: unknown",
            id="vulnerability and unknown package",
        ),
        pytest.param([CLEAN, UNKNOWN], 2, "not audited: unknown", id="one unknown package"),
        pytest.param([UNKNOWN, UNKNOWN], 2, "nothing was audited", id="only unknown packages"),
        pytest.param([], 2, "nothing was audited", id="no packages"),
    ],
)
def test_the_report_is_clean_only_if_all_packages_were_looked_up(
    dependencies: list[Dependency], code: int, message: str
) -> None:
    found, lines = summarize(dependencies)

    assert found == code
    assert " | ".join(lines).startswith(message)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("", id="empty"),
        pytest.param("Traceback", id="no JSON"),
        pytest.param("{}", id="empty object"),
        pytest.param("[]", id="array"),
    ],
)
def test_an_unusable_answer_is_not_clean(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = subprocess.CompletedProcess([], 0, answer)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    assert audit.main() == 2
    assert "nothing was audited" in capsys.readouterr().out
