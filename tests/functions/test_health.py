"""Health: what it shows, and what it hides."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from functions.problems import RETRY_LATER_DETAIL
from shared import health as shared_health
from shared import services
from shared.domain.leases import Watermark
from shared.services import Services
from tests.functions.harness import KEY, App, asking_for_tokens, close

CHECKS = ("settings", "storage", "keys", "sweeps", "calls")
DEAD = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=c2VjcmV0LWFjY291bnQta2V5;"
    "TableEndpoint=http://127.0.0.1:9/devstoreaccount1;QueueEndpoint=http://127.0.0.1:9/devstoreaccount1;"
)


@pytest.fixture
async def app(app: App, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """The app with a table of its own: health tells of all calls, of other tests' too."""
    monkeypatch.setattr(services, "TABLE_NAME", f"health{uuid4().hex}")
    async with app.configured() as alone:
        yield alone


@pytest.mark.parametrize("path", ["health", "openapi.json", "calls", "termination-codes"])
async def test_a_route_that_answers_get_answers_head_without_a_body(app: App, path: str) -> None:
    got = await app.http.get(f"/api/{path}", headers=KEY)
    headed = await app.http.head(f"/api/{path}", headers=KEY)
    assert (headed.status_code, headed.headers["content-type"]) == (200, got.headers["content-type"])
    assert headed.content == b""


async def test_health_is_healthy_after_a_sweep(app: App) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    health: Any = await app.asked("GET", "health", headers={})
    assert (health["status"], health["checks"]) == ("healthy", dict.fromkeys(CHECKS, "ok"))
    assert health["version"]
    assert health["build"] is None  # this is a working copy


async def test_health_has_the_id_of_the_package(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_health, "BUILD", "0123456789abcdef")
    assert (await app.asked("GET", "health", headers={}))["build"] == "0123456789abcdef"


@pytest.mark.parametrize(
    ("away", "kind"),
    [
        pytest.param({"NOTIFICATION_METADATA_URLS": "http://127.0.0.1:9/metadata"}, "legacy", id="legacy"),
        pytest.param({"AZURE_AUTHORITY_HOST": "https://localhost:9"}, "entra", id="entra"),
        pytest.param(
            {**asking_for_tokens(), "MANAGEMENT_METADATA_URL": "http://127.0.0.1:9/metadata"},
            "management",
            id="management",
        ),
    ],
)
async def test_keys_of_one_kind_of_token_that_are_not_loaded_degrade_it(
    app: App, away: dict[str, str], kind: str
) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    async with app.configured(Services, **away) as without:
        health: Any = await without.asked("GET", "health", headers={})
    assert health["status"] == "degraded"
    assert health["checks"]["keys"].startswith(f"keys of {kind} tokens are not loaded yet")


async def test_sweeps_that_are_late_degrade_it(app: App) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    await app.clock.sleep(31 * 60)
    health: Any = await app.asked("GET", "health", headers={})
    assert health["status"] == "degraded"
    assert health["checks"]["sweeps"] == "16 of 16 shards were not swept for 30 minutes"


async def test_a_few_calls_that_could_not_be_renewed_leave_it_healthy(app: App) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    now = app.clock.now()
    await app.parts.store.put_watermark(3, Watermark(now, now, renewed=1, unwritten=frozenset({"a call"})))
    await app.parts.store.put_watermark(4, Watermark(now, now, renewed=8, failing=8))
    health: Any = await app.asked("GET", "health", headers={})
    assert (health["status"], health["checks"]["calls"]) == ("healthy", "ok")


@pytest.mark.parametrize(
    "excepted",
    [
        pytest.param({"failing": 2}, id="two calls fail"),
        pytest.param({"unwritten": frozenset({"a call", "another"})}, id="two calls are not written"),
    ],
)
async def test_a_sweep_that_could_not_renew_most_calls_degrades_it_until_the_next(
    app: App, excepted: dict[str, Any]
) -> None:
    """Graph may be down for all calls. Health must not be healthy then."""
    await app.ask("POST", "keep-alive", expect=200)
    now = app.clock.now()
    await app.parts.store.put_watermark(3, Watermark(now, now, **excepted))
    await app.parts.store.put_watermark(4, Watermark(now, now, renewed=1))
    health: Any = await app.asked("GET", "health", headers={})
    assert (health["status"], health["checks"]["sweeps"]) == ("degraded", "ok")
    assert "keep_alive.call.failing" in health["checks"]["calls"]
    assert "2" not in health["checks"]["calls"]  # the route is open, so it shows no numbers of calls
    await app.ask("POST", "keep-alive", expect=200)
    await app.clock.sleep(5)
    assert (await app.asked("GET", "health", headers={}))["status"] == "healthy"


async def test_a_shard_whose_watermark_is_of_the_future_degrades_it(app: App) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    ahead = app.clock.now() + timedelta(hours=3)
    await app.parts.store.put_watermark(5, Watermark(ahead, ahead))
    health: Any = await app.asked("GET", "health", headers={})
    assert health["checks"]["sweeps"].startswith("1 of 16 shards")
    await app.ask("POST", "keep-alive", expect=200)
    await app.clock.sleep(5)
    assert (await app.asked("GET", "health", headers={}))["status"] == "healthy"


async def test_one_check_serves_all_requests_within_five_seconds(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route is open to everybody, and one check is 16 reads."""
    pings = 0

    async def ping() -> None:
        nonlocal pings
        pings += 1

    monkeypatch.setattr(app.parts.queue, "ping", ping)
    asked = [app.asked("GET", "health", headers={}) for _ in range(20)]
    assert len({str(health["status"]) for health in await asyncio.gather(*asked)}) == 1
    assert pings == 1
    await app.clock.sleep(5)
    await app.asked("GET", "health", headers={})
    assert pings == 2


async def test_one_shard_that_was_never_swept_degrades_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    monkeypatch.setattr(shared_health, "SHARDS", 17)
    health: Any = await app.asked("GET", "health", headers={})
    assert health["status"] == "degraded"
    assert health["checks"]["sweeps"] == "1 of 17 shards have not been swept yet: the next run of the timer does it"


async def test_settings_that_are_missing_are_named(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("GRAPH_APP_ID", "CALLS_STORAGE", "GRAPH_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRAPH_CREDENTIAL", "secret")
    monkeypatch.setenv("GRAPH_CERTIFICATE_PASSWORD", "a-secret")
    before = services._current
    services.replace_services(None)
    try:
        health: Any = await app.asked("GET", "health", expect=503, headers={})
        refused: Any = await app.asked("GET", "calls", expect=500)
        notified = await app.http.post("/api/notifications", json={"value": []})
    finally:
        services._current = before
    assert health["status"] == "unhealthy"
    for text in (health["checks"]["settings"], refused["detail"], caplog.text):
        assert "GRAPH_APP_ID is missing" in text
        assert "GRAPH_CLIENT_SECRET" in text
        assert "a-secret" not in text
    assert (notified.status_code, notified.json()["detail"]) == (500, RETRY_LATER_DETAIL)  # an open route


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        pytest.param({"RELAY_TARGETS": '[{"name": "bot", "url": "http://a-secret"}]'}, "RELAY_TARGETS", id="targets"),
        pytest.param({"RELAY_BUDGET": "PT1M"}, "RELAY_BUDGET must be at most PT10S", id="another setting of the relay"),
    ],
)
async def test_wrong_settings_of_the_relay_are_unhealthy_and_everything_else_works(
    app: App, wrong: dict[str, str], named: str
) -> None:
    await app.ask("POST", "keep-alive", expect=200)
    async with app.configured(Services, **wrong) as off:
        health: Any = await off.asked("GET", "health", expect=503, headers={})
        await off.ask("POST", "keep-alive", expect=200)
        await off.ask("GET", "calls", expect=200)
    assert health["status"] == "unhealthy"
    assert health["checks"].pop("settings").startswith(f"Settings to correct: {named}")
    assert health["checks"] == dict.fromkeys(CHECKS[1:], "ok")
    assert "a-secret" not in str(health)


async def test_the_process_composes_itself_from_its_environment(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared import services  # noqa: PLC0415 as above

    monkeypatch.setenv("GRAPH_APP_ID", "11111111-2222-3333-4444-555555555555")
    monkeypatch.setenv("CALLS_STORAGE", app.storage)
    monkeypatch.setenv("KEEP_ALIVE_SCHEDULE", "0 */15 * * * *")
    before = services._current
    services.replace_services(None)
    try:
        first = services.services()
        assert services.services() is first
        assert (await app.asked("GET", "health", headers={}))["status"] in {"healthy", "degraded"}
        await close(first)
        await first.queue._client.close()
    finally:
        services._current = before


async def test_storage_that_is_down_is_unhealthy(app: App) -> None:
    async with app.configured(CALLS_STORAGE=DEAD) as cut_off:
        health: Any = await cut_off.asked("GET", "health", expect=503, headers={})
        assert (health["status"], health["checks"]["settings"]) == ("unhealthy", "ok")
        assert "Table Storage" in health["checks"]["storage"]
        assert "c2VjcmV0LWFjY291bnQta2V5" not in str(health)
        problem = await cut_off.ask("GET", "calls", expect=503)
        assert problem.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("nonsense", id="no pairs"),
        pytest.param("UseProtocol=https", id="no account"),
        pytest.param("AccountName=x;AccountKey=not-base64", id="key not in base64"),
    ],
)
async def test_an_invalid_connection_string_is_a_setting_to_correct(app: App, broken: str) -> None:
    async with app.configured(CALLS_STORAGE=broken) as wrong:
        health: Any = await wrong.asked("GET", "health", expect=503, headers={})
        assert health["status"] == "unhealthy"
        assert "not-base64" not in str(health)
        assert (
            await wrong.http.get("/api/calls", headers={"x-functions-key": "a-function-key-for-tests"})
        ).status_code in {500, 503}
