"""The upload of a package: what is repeated, what ends the wait, and what fails at once."""

import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from release import push
from release.azure import App, AzureError
from tests.release.fake_azure import Reply, Site, SteppedClock

TAKEN = (202, json.dumps("d-1"))


class TestUpload:
    def test_a_package_is_uploaded_without_a_remote_build_and_awaited(
        self, site: Site, package: Path, stepped: SteppedClock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.builds = [404, 503, {"status": 0}, {"status": 1}, {"status": 2}, {"status": 4}]
        push.push(site.app, package, "a-token", clock=stepped.clock)
        assert site.uploaded == [package.read_bytes()]
        assert site.authorization == "Bearer a-token"
        assert site.asked[0] == "POST /api/publish?RemoteBuild=false&Deployer=call-keeper"
        assert site.asked[1:] == ["GET /api/deployments/d-1"] * 6
        assert stepped.passed == 5 * timedelta(seconds=1), "azd polls each second"
        assert "builds" not in capsys.readouterr().out

    def test_a_remote_build_is_requested_and_reported(
        self, site: Site, package: Path, stepped: SteppedClock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        push.push(site.app, package, "a-token", remote_build=True, clock=stepped.clock)
        assert site.asked[0].startswith("POST /api/publish?RemoteBuild=true&")
        assert "Azure builds it" in capsys.readouterr().out

    @pytest.mark.parametrize("status", [0, 404, 502, 503], ids=["no answer", "404", "502", "503"])
    def test_an_upload_is_repeated_while_a_new_site_starts(
        self, site: Site, package: Path, stepped: SteppedClock, capsys: pytest.CaptureFixture[str], status: int
    ) -> None:
        site.publishing = [(status, "starting"), (status, "starting"), TAKEN]
        push.push(site.app, package, "a-token", clock=stepped.clock)
        assert len(site.uploaded) == 3
        assert capsys.readouterr().out.count("the upload is repeated in 10 s") == 2

    def test_it_is_repeated_for_three_minutes_and_no_longer(
        self, site: Site, package: Path, stepped: SteppedClock
    ) -> None:
        site.publishing = [(503, "Site Unavailable")]
        with pytest.raises(AzureError, match="app took no package within 3 minutes: 503 Site Unavailable"):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert stepped.passed == timedelta(minutes=3)

    def test_a_repeated_upload_waits_for_the_deployment_of_the_first_that_got_no_answer(
        self, site: Site, package: Path, stepped: SteppedClock
    ) -> None:
        """Azure may have accepted the first upload. It answers 409 until that deployment ends, here after 30 x 10 s."""
        site.publishing = [(0, ""), *[(409, "busy")] * 30, TAKEN]
        push.push(site.app, package, "a-token", clock=stepped.clock)
        assert len(site.uploaded) == 1 + 30 + 1  # no answer, 409s, accepted
        assert site.asked[-1] == "GET /api/deployments/d-1"

    def test_a_deployment_that_never_ends_ends_the_repetition(
        self, site: Site, package: Path, stepped: SteppedClock
    ) -> None:
        site.publishing = [(0, ""), (409, "busy")]
        with pytest.raises(AzureError, match=r"within 15 minutes: 409: another deployment is running"):
            push.push(site.app, package, "a-token", clock=stepped.clock)

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ((403, "Ip Forbidden"), r"app refused the package: 403: .*Website Contributor.* Ip Forbidden"),
            ((409, ""), "app refused the package: 409: another deployment is running"),
            ((400, "no zip"), "app refused the package: 400 no zip"),
            ((200, "<html>Sign in</html>"), "app refused the package: 200 <html>Sign in"),
            ((201, json.dumps("d-1")), "app refused the package: 201"),
        ],
        ids=["403", "409", "400", "200", "201"],
    )
    def test_a_refusal_fails_at_once(
        self, site: Site, package: Path, stepped: SteppedClock, reply: Reply, message: str
    ) -> None:
        site.publishing = [reply]
        with pytest.raises(AzureError, match=message) as caught:
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert "a-token" not in str(caught.value)
        assert stepped.seconds == 0

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_a_refusal_and_gets_no_token(
        self, site: Site, package: Path, stepped: SteppedClock, status: int
    ) -> None:
        site.publishing = [(status, f"{site.app.scm}/sign-in?nonce=1")]
        with pytest.raises(
            AzureError, match=rf"refused the package: {status}: it redirects to http://\S+/sign-in, which is not"
        ):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert site.asked == ["POST /api/publish?RemoteBuild=false&Deployer=call-keeper"]

    def test_an_unreachable_app_fails_after_three_minutes(self, package: Path, stepped: SteppedClock) -> None:
        app = App("app", "group", "", "http://127.0.0.1:9")
        with pytest.raises(AzureError, match="within 3 minutes: it cannot be reached"):
            push.push(app, package, "a-token", clock=stepped.clock)

    def test_a_package_without_libraries_needs_a_remote_build(
        self, site: Site, package: Path, stepped: SteppedClock
    ) -> None:
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("host.json", "{}")
        with pytest.raises(AzureError, match=r"carries no libraries: run make package, .* --remote-build$"):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert site.asked == []
        push.push(site.app, package, "a-token", remote_build=True, clock=stepped.clock)

    def test_a_file_that_is_not_a_zip_is_not_uploaded(self, site: Site, package: Path) -> None:
        package.write_text("<html>not found</html>", encoding="utf-8")
        with pytest.raises(AzureError, match="is not a zip"):
            push.push(site.app, package, "a-token")
        assert site.asked == []


class TestEnd:
    @pytest.mark.parametrize("running", [0, 1, 2])
    def test_a_404_after_a_status_is_the_end(
        self, site: Site, package: Path, stepped: SteppedClock, running: int
    ) -> None:
        site.builds = [404, {"status": running}, 404]
        push.push(site.app, package, "a-token", clock=stepped.clock)
        assert stepped.seconds < 5  # three polls, one second apart

    def test_a_404_without_a_status_is_not_the_end(self, site: Site, package: Path, stepped: SteppedClock) -> None:
        site.builds = [404]
        with pytest.raises(AzureError, match="Azure accepted the package, but does not list its deployment"):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert stepped.passed == timedelta(minutes=1)

    def test_an_outage_after_a_status_is_not_the_end(self, site: Site, package: Path, stepped: SteppedClock) -> None:
        site.builds = [{"status": 1}, 503, 502, {"status": 3, "status_text": "no space"}]
        with pytest.raises(AzureError, match="no space"):
            push.push(site.app, package, "a-token", clock=stepped.clock)

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (-1, "the deployment was cancelled"),
            (3, "the deployment failed: .*what Azure says"),
            (5, "the deployment was overtaken by another deployment"),
            (6, "the deployment succeeded only in part"),
        ],
        ids=["cancelled", "failed", "overtaken", "partly succeeded"],
    )
    def test_a_deployment_that_fails_says_so_at_once(
        self, site: Site, package: Path, stepped: SteppedClock, status: int, message: str
    ) -> None:
        site.builds = [{"status": status, "status_text": "what Azure says"}]
        with pytest.raises(AzureError, match=message):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert stepped.seconds == 0

    @pytest.mark.parametrize("reply", [{"status": 1}, 502, ["nonsense"]], ids=["still running", "502", "not a status"])
    def test_it_is_awaited_for_fifteen_minutes(
        self, site: Site, package: Path, stepped: SteppedClock, monkeypatch: pytest.MonkeyPatch, reply: object
    ) -> None:
        monkeypatch.setattr(push, "POLL", timedelta(seconds=30))  # fewer polls, because each is a request
        site.builds = [reply]
        with pytest.raises(AzureError, match="the deployment did not end in 15 minutes"):
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert stepped.passed == timedelta(minutes=15)

    @pytest.mark.parametrize("status", [302, 401, 403])
    def test_three_refusals_in_a_row_end_the_wait(
        self, site: Site, package: Path, stepped: SteppedClock, status: int
    ) -> None:
        """An expired token or a revoked right does not come back during the wait."""
        site.builds = [status, status, {"status": 1}, status, 503, status, status, status]
        with pytest.raises(AzureError, match=rf"refuses to report its deployment: {status}: ") as caught:
            push.push(site.app, package, "a-token", clock=stepped.clock)
        assert "a-token" not in str(caught.value)
        assert len(site.asked) == 1 + 8  # the upload, and one poll for each of the answers above

    def test_without_an_id_the_latest_deployment_is_polled(
        self, site: Site, package: Path, stepped: SteppedClock
    ) -> None:
        site.publishing = [(202, "")]
        push.push(site.app, package, "a-token", clock=stepped.clock)
        assert site.asked[-1] == "GET /api/deployments/latest"
