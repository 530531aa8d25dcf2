"""`make smoke`: a host runs the app with all its functions, or the command prints what is missing."""

from pathlib import Path

import pytest

from release import smoke
from tests.functions.harness import ROUTES

NAMES = [*(route.name for route in ROUTES), "keep_alive_timer", "keep_alive_queue"]


def test_the_host_runs_the_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tmp_path / "names.txt"
    expected.write_text("\n".join(NAMES), encoding="utf-8")
    assert smoke.main(["--expected", str(expected)]) == 0, capsys.readouterr().err
    assert f"smoke: ok: {len(NAMES)} functions" in capsys.readouterr().out


def test_with_targets_the_host_runs_the_relay_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TARGETS", "not JSON")  # the environment does not matter
    expected = tmp_path / "names.txt"
    expected.write_text("\n".join(NAMES), encoding="utf-8")
    assert smoke.main(["--expected", str(expected), "--relay"]) == 0, capsys.readouterr().err
    assert f"smoke: ok: {len(NAMES) + 2} functions" in capsys.readouterr().out  # its queue and its timer


def test_a_function_that_is_not_there_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tmp_path / "names.txt"
    expected.write_text("\n".join([*NAMES, "one_more"]), encoding="utf-8")
    assert smoke.main(["--expected", str(expected)]) == 1
    assert "one_more" in capsys.readouterr().err


def test_a_package_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = tmp_path / "names.txt"
    expected.touch()
    assert smoke.main(["--expected", str(expected), "--package", "none.zip"]) == 1
    assert "none.zip" in capsys.readouterr().err


def test_without_a_package_the_message_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert smoke.main(["--expected", "none.txt"]) == 1
    assert "none.txt" in capsys.readouterr().err
