"""The command line: one line per finding, a summary, and an exit code."""

from pathlib import Path

import pytest

from tools.bicep_check.__main__ import FINDINGS, NO_FINDINGS, NOTHING_TO_CHECK, main


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["bicep_check", str(folder)])
    return main()


def test_each_finding_is_one_line_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.bicep").write_text("var a = 1\n\nvar b = 2\n", encoding="utf-8")
    assert run(tmp_path, monkeypatch) == FINDINGS
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/main.bicep:1: var 'a' is never used",
        f"{tmp_path}/main.bicep:3: var 'b' is never used",
        "bicep_check: 1 files, 2 findings, 0 suppressed",
    ]


def test_without_a_finding_the_exit_code_is_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "main.bicep").write_text("@description('One.')\noutput a int = 1\n", encoding="utf-8")
    assert run(tmp_path, monkeypatch) == NO_FINDINGS
    assert capsys.readouterr().out == "bicep_check: 1 files, 0 findings, 0 suppressed\n"


def test_a_folder_without_bicep_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, monkeypatch) == NOTHING_TO_CHECK
    assert f"no .bicep or .bicepparam file in {tmp_path}" in capsys.readouterr().err
