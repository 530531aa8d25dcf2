"""The proof of a deployment: settings, functions, a minute of health, and a host that accepts its own key."""

import re
from datetime import timedelta

import pytest

from functions.routing import Route
from release import azure, flex, proof
from release.azure import App, AzureError
from tests.functions.harness import ROUTES
from tests.release.fake_azure import KEY, NAMES, NO_TOKEN, SETTINGS, Az, Reply, Site, SteppedClock
from tests.release.reading import ROOT


@pytest.fixture
def three_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits to three polls, because each starts `az`."""
    for limit in ("MAX_FUNCTIONS_WAIT", "MAX_KEYS_WAIT"):
        monkeypatch.setattr(proof, limit, 2 * proof.POLL)


class TestSettings:
    @pytest.mark.parametrize("name", [*flex.BREAKING_SETTINGS, "AZUREWEBJOBSSTORAGE"])
    def test_one_that_breaks_the_app_fails_at_once(self, site: Site, az: Az, stepped: SteppedClock, name: str) -> None:
        az.has_settings([*SETTINGS, name])
        with pytest.raises(AzureError, match=rf"(?i)appsettings delete .*--setting-names {name}$"):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert site.asked == []
        assert stepped.seconds == 0

    def test_one_that_the_deployment_adds_is_found_in_the_end(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.has_settings(SETTINGS, [*SETTINGS, "AzureWebJobsStorage"])
        with pytest.raises(AzureError, match=r"--setting-names AzureWebJobsStorage$"):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert site.keys == {KEY}, "everything else was proved before"

    @pytest.mark.usefixtures("three_polls")
    def test_one_that_the_deployment_adds_is_the_cause_of_unreadable_keys(
        self, site: Site, az: Az, stepped: SteppedClock
    ) -> None:
        az.has_settings(SETTINGS, [*SETTINGS, "AzureWebJobsStorage"])
        site.keyed = [(401, "")]
        with pytest.raises(AzureError, match=r"--setting-names AzureWebJobsStorage$"):
            proof.prove(site.app, NAMES, clock=stepped.clock)

    def test_a_short_failure_of_azure_is_retried(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.has_settings("down", "down", SETTINGS, "down", SETTINGS)
        proof.prove(site.app, NAMES, clock=stepped.clock)
        assert az.asked.count("appsettings/list") == 5

    def test_an_azure_that_stays_away_fails_the_proof_after_a_minute(
        self, site: Site, az: Az, stepped: SteppedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(azure, "RETRY_PAUSE", timedelta(seconds=30))  # fewer polls, because each starts a process
        az.has_settings("down")
        with pytest.raises(AzureError, match=r"\(ServiceUnavailable\) from host runtime"):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert stepped.passed == timedelta(minutes=1)

    def test_an_identity_is_none_that_breaks(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.has_settings(["AzureWebJobsStorage__accountName", "AzureWebJobsStorage__credential"])
        proof.prove(site.app, NAMES, clock=stepped.clock)

    def test_one_that_flex_refuses_is_only_a_warning(
        self, site: Site, az: Az, stepped: SteppedClock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        az.has_settings([*SETTINGS, *flex.REFUSED_SETTINGS])
        proof.prove(site.app, NAMES, clock=stepped.clock)
        printed = capsys.readouterr().out
        assert [name for name in flex.REFUSED_SETTINGS if f"the setting {name} has no effect" not in printed] == []

    def test_the_lists_do_not_overlap(self) -> None:
        assert not flex.BREAKING_SETTINGS.keys() & flex.REFUSED_SETTINGS.keys()


class TestFunctions:
    def test_they_are_awaited_in_any_order(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.finds([], ["health"], NAMES)
        proof.prove(site.app, NAMES[::-1], clock=stepped.clock)
        assert stepped.passed >= 2 * proof.POLL + proof.STEADY_TIME
        assert site.asked == [*["GET /api/health"] * 13, "GET /api/termination-codes"]

    def test_a_host_that_restarts_does_not_fail_the_proof(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.finds("down", ["health"], "down", NAMES)
        proof.prove(site.app, NAMES, clock=stepped.clock)
        assert stepped.passed >= 3 * proof.POLL + proof.STEADY_TIME

    @pytest.mark.usefixtures("three_polls")
    def test_a_host_that_stays_away_fails_with_azures_message(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.finds("down")
        with pytest.raises(AzureError, match=r"app: its functions cannot be listed: az rest failed: .*host runtime"):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert az.asked.count("/functions?") == 3
        assert site.asked == []

    def test_a_missing_sign_in_is_not_retried(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.refuses("ERROR: Please run 'az login' to setup account.")
        with pytest.raises(AzureError, match="az login"):
            proof._await_functions(site.app, NAMES, stepped.clock)
        assert stepped.seconds == 0

    @pytest.mark.parametrize("relay", [[], sorted(proof.RELAY_FUNCTIONS)], ids=["older package", "this version"])
    def test_those_of_the_relay_are_allowed_if_it_has_targets(
        self, site: Site, az: Az, stepped: SteppedClock, relay: list[str]
    ) -> None:
        az.has_settings([*SETTINGS, "RELAY_TARGETS"])
        az.finds([*NAMES, *relay])
        proof.prove(site.app, NAMES, clock=stepped.clock)

    @pytest.mark.usefixtures("three_polls")
    def test_those_of_the_relay_are_not_allowed_if_it_has_no_targets(
        self, site: Site, az: Az, stepped: SteppedClock
    ) -> None:
        az.finds([*NAMES, *proof.RELAY_FUNCTIONS])
        with pytest.raises(AzureError, match="missing none; extra relay_queue, relay_timer"):
            proof.prove(site.app, NAMES, clock=stepped.clock)

    def test_the_functions_of_the_relay_are_those_of_its_module(self) -> None:
        text = (ROOT / "functions" / "relay.py").read_text(encoding="utf-8")
        assert set(re.findall(r"^async def (\w+)", text, re.MULTILINE)) == proof.RELAY_FUNCTIONS

    @pytest.mark.parametrize(
        ("found", "message"),
        [
            ([], "0 functions found: the code does not load in Azure"),
            (["health", "list_calls", "old_one"], "missing keep_alive_timer; extra old_one"),
        ],
        ids=["none found", "one missing, one extra"],
    )
    @pytest.mark.usefixtures("three_polls")
    def test_others_than_expected_fail(
        self, site: Site, az: Az, stepped: SteppedClock, found: list[str], message: str
    ) -> None:
        az.finds(found)
        with pytest.raises(AzureError, match=message):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert site.asked == []


class TestHealth:
    def test_one_bad_answer_restarts_the_minute(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        site.health = [200] * 10 + [503] + [200]
        proof.prove(site.app, NAMES, clock=stepped.clock)
        assert stepped.passed >= 11 * proof.POLL + proof.STEADY_TIME
        assert "listkeys" in az.asked

    @pytest.mark.parametrize("status", [404, 500, 503])
    def test_health_that_never_lasts_fails(self, site: Site, az: Az, stepped: SteppedClock, status: int) -> None:
        site.health = [200, status] * 500
        with pytest.raises(AzureError, match="was not well for 60 s without a break"):
            proof.prove(site.app, NAMES, clock=stepped.clock)
        assert "listkeys" not in az.asked

    @pytest.mark.usefixtures("az")
    def test_an_app_that_cannot_be_reached_fails(self, stepped: SteppedClock) -> None:
        with pytest.raises(AzureError, match="it cannot be reached"):
            proof.prove(App("app", "group", "http://127.0.0.1:9", ""), NAMES, clock=stepped.clock)


class TestBuild:
    def test_the_minute_begins_with_the_build_that_was_deployed(
        self, site: Site, az: Az, stepped: SteppedClock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        site.runs = ["old"] * 40 + [None] + ["new"] * 5 + ["old", "new"]
        proof.prove(site.app, NAMES, "new", clock=stepped.clock)
        assert stepped.passed >= 47 * proof.POLL + proof.STEADY_TIME
        printed = capsys.readouterr().out
        assert printed.count("health: another build answers: old, and new was deployed") == 41
        assert "another build answers: one without an id, and new" in printed
        assert "listkeys" in az.asked

    @pytest.mark.parametrize(
        ("runs", "build"), [("old", "new"), (None, "new"), ("new", None)], ids=lambda build: build or "without an id"
    )
    @pytest.mark.usefixtures("az")
    def test_code_that_ran_before_is_not_proved(
        self, site: Site, stepped: SteppedClock, runs: str | None, build: str | None
    ) -> None:
        """The deployment has ended, all functions are found, and health is good, but the old code still answers."""
        site.runs = [runs]
        message = (
            f"another build answers: {runs or 'one without an id'}, and {build or 'one without an id'} was deployed"
        )
        with pytest.raises(AzureError, match=f"was not well for 60 s without a break: {message}"):
            proof.prove(site.app, NAMES, build, clock=stepped.clock)
        assert site.keys == set()

    @pytest.mark.usefixtures("az")
    def test_a_package_without_an_id_is_proved_by_a_health_without_an_id(
        self, site: Site, stepped: SteppedClock
    ) -> None:
        proof.prove(site.app, NAMES, None, clock=stepped.clock)


class TestKeys:
    """Tests of `_await_keys` alone. The stepped before it take a minute, and are tested above."""

    @pytest.mark.parametrize(
        "reply",
        [(200, '{"value": []}'), (401, NO_TOKEN), (403, '{"status": 403}')],
        ids=["200", "401 with a body", "403 with a body"],
    )
    @pytest.mark.usefixtures("az")
    def test_an_answer_of_the_app_shows_that_the_host_accepted_the_key(
        self, site: Site, stepped: SteppedClock, capsys: pytest.CaptureFixture[str], reply: Reply
    ) -> None:
        site.keyed = [reply]
        proof._await_keys(site.app, stepped.clock)
        assert site.keys == {KEY}
        assert stepped.seconds == 0
        assert "the host accepts its function key" in capsys.readouterr().out

    def test_a_host_that_cannot_read_its_keys_yet_is_polled(self, site: Site, az: Az, stepped: SteppedClock) -> None:
        az.has_keys("down", [], [KEY])
        site.keyed = [(401, ""), (503, ""), (401, NO_TOKEN)]
        proof._await_keys(site.app, stepped.clock)
        assert stepped.passed == 4 * proof.POLL

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ((401, ""), r"401 without a body: .*named exactly AzureWebJobsStorage if.*Storage Blob .*restart the app"),
            ((401, " \n"), "401 without a body"),
            ((403, "<html>Ip Forbidden</html>"), "was not answered by the app: 403"),
            ((200, "<html>Your app is up</html>"), "was not answered by the app: 200"),
            ((404, ""), "was not answered by the app: 404"),
        ],
        ids=["401 without a body", "401 with a blank body", "403 by the firewall", "200 of another page", "404"],
    )
    @pytest.mark.usefixtures("three_polls")
    def test_a_host_that_never_accepts_its_key_fails_the_proof(
        self, site: Site, az: Az, stepped: SteppedClock, reply: Reply, message: str
    ) -> None:
        site.keyed = [reply]
        with pytest.raises(AzureError, match=message) as caught:
            proof._await_keys(site.app, stepped.clock)
        assert KEY not in str(caught.value)
        assert az.asked.count("listkeys") == 3

    @pytest.mark.usefixtures("az", "three_polls")
    def test_a_redirect_gets_no_key(self, site: Site, stepped: SteppedClock) -> None:
        site.keyed = [(302, f"{site.app.address}/sign-in")]
        with pytest.raises(AzureError, match="was not answered by the app: 302: it redirects to http://"):
            proof._await_keys(site.app, stepped.clock)
        assert set(site.asked) == {f"GET {proof.KEYED_ROUTE}"}

    @pytest.mark.parametrize(
        ("keys", "message"),
        [("down", "cannot be listed: az rest failed"), ([], "has no function key named default")],
        ids=["Azure fails", "no key"],
    )
    @pytest.mark.usefixtures("three_polls")
    def test_keys_that_cannot_be_listed_fail_the_proof(
        self, site: Site, az: Az, stepped: SteppedClock, keys: list[str] | str, message: str
    ) -> None:
        az.has_keys(keys)
        with pytest.raises(AzureError, match=message):
            proof._await_keys(site.app, stepped.clock)
        assert site.asked == []

    def test_the_route_that_is_asked_wants_the_key(self) -> None:
        (route,) = [route for route in ROUTES if f"/api/{route.path}" == proof.KEYED_ROUTE]
        assert isinstance(route, Route)
        assert (route.method, route.auth_level.value) == ("GET", "function")
