"""`python -m release.publish`: `az` finds the app, the commands work from end to end, and need no installed package."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from release import azure, publish
from release.azure import App, AzureError
from tests.release.fake_azure import ADDRESSES, KEY, NAMES, Az, Site, SteppedClock


def test_an_app_is_found_by_name_with_both_addresses(az: Az) -> None:
    assert azure.find_app("app", "group") == App(
        "app", "group", "https://app.azurewebsites.net", "https://app.scm.azurewebsites.net"
    )
    assert "/subscriptions/{subscriptionId}/resourceGroups/group/providers/Microsoft.Web/sites/app?" in az.asked
    assert azure.get_token() == "a-token"


def test_a_short_failure_of_azure_is_retried(az: Az, stepped: SteppedClock, capsys: pytest.CaptureFixture[str]) -> None:
    az.knows_the_app("down", "down", ADDRESSES)
    az.gives_a_token("down", ["a-token"])
    assert azure.find_app("app", "group", stepped.clock).name == "app"
    assert azure.get_token(stepped.clock) == "a-token"
    assert stepped.passed == 3 * azure.RETRY_PAUSE
    assert capsys.readouterr().out.count("publish: next attempt in 5 s: az ") == 3, "each repetition is explained"


def test_an_unknown_app_fails_after_a_minute(az: Az, stepped: SteppedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure may not know a new app for some seconds."""
    monkeypatch.setattr(azure, "RETRY_PAUSE", timedelta(seconds=30))  # fewer polls, because each starts a process
    az.refuses("ERROR: (ResourceNotFound) The Resource 'Microsoft.Web/sites/app' was not found.")
    with pytest.raises(AzureError, match=r"az rest failed: ERROR: \(ResourceNotFound\) The Resource"):
        azure.find_app("app", "group", stepped.clock)
    assert stepped.passed == timedelta(minutes=1)


def test_a_permanent_failure_is_not_retried(az: Az, stepped: SteppedClock) -> None:
    az.refuses("ERROR: Please run\n'az login'")
    with pytest.raises(AzureError, match="az rest failed: ERROR: Please run 'az login'"):
        azure.find_app("app", "group", stepped.clock)
    assert stepped.seconds == 0


def test_output_of_az_that_is_not_json_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "az"
    script.write_text("#!/bin/sh\necho 'A new version is available'\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(AzureError, match="not JSON: update the Azure CLI"):
        azure.get_token()


def test_without_az_the_message_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AzureError, match="az is not installed: see https://"):
        azure.get_token()


def test_the_commands_work_from_end_to_end(
    site: Site, az: Az, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        azure, "find_app", lambda _name, _group: site.app
    )  # the real one returns https, and this site has http
    expected = package.with_suffix(".functions.txt")
    expected.write_text("\n".join(NAMES), encoding="utf-8")
    app = ["--app", "app", "--group", "group"]
    assert publish.main(["push", *app, "--package", str(package)]) == 0
    assert publish.main(["push", *app, "--package", str(package), "--remote-build"]) == 0
    assert publish.main(["push", *app, "--package", str(package), "--remote-build-if-needed"]) == 0
    assert re.findall(r"RemoteBuild=(\w+)", "".join(site.asked)) == ["false", "true", "false"]
    assert publish.main(["prove", *app, "--expected", str(expected), "--steady", "0"]) == 0
    assert publish.main(["push", *app, "--package", str(package.with_name("none.zip"))]) == 1
    az.has_settings(["AzureWebJobsStorage"])
    assert publish.main(["prove", *app, "--expected", str(expected), "--steady", "0"]) == 1
    printed = capsys.readouterr()
    assert "publish: failed: app has a setting that breaks it" in printed.err
    assert KEY not in printed.out + printed.err


def test_the_expected_build_is_read_from_the_file_next_to_the_names(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(azure, "find_app", lambda _name, _group: site.app)
    monkeypatch.setattr(publish, "prove", lambda _app, _names, build, _steady: asked.append(build))
    (tmp_path / "call-keeper.functions.txt").write_text("\n".join(NAMES), encoding="utf-8")
    prove = ["prove", "--app", "app", "--group", "g", "--expected", str(tmp_path / "call-keeper.functions.txt")]
    assert publish.main(prove) == 0
    assert "call-keeper.build.txt does not exist: the package has no build id" in capsys.readouterr().out
    (tmp_path / "call-keeper.build.txt").write_text("0123456789abcdef\n", encoding="utf-8")
    assert publish.main(prove) == 0
    assert asked == [None, "0123456789abcdef"]


def test_the_workflows_can_run_it_without_any_package(tmp_path: Path) -> None:
    """The job that may deploy installs no package, so Python alone must suffice."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); import release.publish"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
