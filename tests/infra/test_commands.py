"""Running `az`, `gh` and our scripts: an error is one line, and a missing object is no error."""

from pathlib import Path

import pytest

from infra import commands
from infra.commands import CommandError, NotFoundError


@pytest.fixture
def az(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of an empty program `az`; only the shell is on the PATH beside it."""
    program = tmp_path / "az"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return program


def test_the_output_of_a_program_is_read_as_json(az: Path) -> None:
    az.write_text('#!/bin/sh\necho "WARNING: old" >&2\necho "[\\"$1\\", \\"$GRAPH_APP_ID\\"]"\n')
    assert commands.run_json("az", "show", env={"PATH": "/bin", "GRAPH_APP_ID": "id"}) == ["show", "id"]


def test_an_error_is_shown_without_the_warnings_before_it(az: Path) -> None:
    stderr = "WARNING: main.bicep(3,7) : Warning BCP037: long\nERROR: (InvalidTemplate)\nIt is off."
    az.write_text(f"#!/bin/sh\necho '{stderr}' >&2\nexit 1\n")
    with pytest.raises(CommandError) as failed:
        commands.run("az", "deployment", "group", "create")
    assert str(failed.value) == "az deployment group failed: ERROR: (InvalidTemplate) It is off."


@pytest.mark.parametrize(
    "stderr",
    ["ERROR: (ResourceNotFound) The Resource is gone.", "gh: Not Found (HTTP 404)", "ERROR: Group could not be found."],
    ids=["az, by code", "gh", "az, by text"],
)
def test_a_missing_object_is_none_and_no_error(az: Path, stderr: str) -> None:
    az.write_text(f"#!/bin/sh\necho '{stderr}' >&2\nexit 3\n")
    assert commands.find_json("az", "identity", "show") is None
    with pytest.raises(NotFoundError):
        commands.run_json("az", "identity", "show")


def test_a_refusal_is_an_error(az: Path) -> None:
    az.write_text("#!/bin/sh\necho 'ERROR: (AuthorizationFailed) No right.' >&2\nexit 1\n")
    with pytest.raises(CommandError, match="AuthorizationFailed"):
        commands.find_json("az", "identity", "show")


def test_a_program_that_fails_in_silence_is_an_error(az: Path) -> None:
    az.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(CommandError, match="az group exists failed: it printed no reason"):
        commands.run("az", "group", "exists")


def test_output_that_is_no_json_is_an_error(az: Path) -> None:
    az.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(CommandError, match="az group show printed no JSON: hello"):
        commands.run_json("az", "group", "show")


def test_a_missing_program_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"gh is not installed\. See https://cli\.github\.com"):
        commands.run("gh", "api")
