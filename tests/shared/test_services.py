"""Composition: built lazily, by the settings, once a loop."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property

import pytest

from shared import services
from shared.auth.tokens import TokenVerifier
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.errors import SettingsInvalid
from shared.services import Services
from shared.storage.azure_table import AzureTable
from shared.telemetry import LIBRARY_LOG_LEVELS

APP = "aaaaaaaa-1111-2222-3333-444444444444"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
IDENTITY = "dddddddd-1111-2222-3333-444444444444"
SCHEDULE = {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *"}
STORAGE = SCHEDULE | {"CALLS_STORAGE": "AccountName=a;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"}
BY_IDENTITY = SCHEDULE | {
    "CALLS_STORAGE__tableServiceUri": "https://account.table.core.windows.net",
    "CALLS_STORAGE__queueServiceUri": "https://account.queue.core.windows.net",
}


def made(**settings: str) -> Services:
    return Services(
        load_settings({"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": APP, **settings}), SystemClock()
    )


async def test_storage_is_reached_by_the_identity_where_there_is_no_connection_string() -> None:
    parts = made(**BY_IDENTITY, AZURE_CLIENT_ID=IDENTITY)
    assert isinstance(parts.store._table, AzureTable)
    assert parts.store._table._client.url == "https://account.table.core.windows.net"
    assert parts.queue._client.url == "https://account.queue.core.windows.net/keep-alive"
    assert parts._identity is parts._identity
    await parts.store.close()
    await parts.queue._client.close()
    await parts._identity.close()


async def test_the_storage_may_have_an_identity_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    class Identity:
        def __init__(self, *, client_id: str | None) -> None:
            asked.append(client_id)

    monkeypatch.setattr("azure.identity.aio.ManagedIdentityCredential", Identity)
    own = {"CALLS_STORAGE__clientId": TENANT, "CALLS_STORAGE__credential": "managedidentity"}
    for parts in (
        made(**BY_IDENTITY, **own, AZURE_CLIENT_ID=IDENTITY),
        made(**BY_IDENTITY, AZURE_CLIENT_ID=IDENTITY),
        made(**BY_IDENTITY),
    ):
        assert isinstance(parts._identity, Identity)
    assert asked == [TENANT, IDENTITY, None]


async def test_each_part_is_made_once() -> None:
    parts = made(**STORAGE)
    assert (parts.keeper, parts.management, parts.webhook, parts.http, parts.graph) == (
        parts.keeper,
        parts.management,
        parts.webhook,
        parts.http,
        parts.graph,
    )
    await parts.http.close()
    await parts.store.close()
    await parts.queue._client.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"MANAGEMENT_AUDIENCE": "api://keeper", "MANAGEMENT_TENANT_ID": TENANT},
        {"MANAGEMENT_AUDIENCE": "api://keeper,api://second", "MANAGEMENT_TENANT_ID": TENANT},
        {
            "MANAGEMENT_AUDIENCE": "api://keeper",
            "MANAGEMENT_METADATA_URL": "https://login.example/openid",
            "MANAGEMENT_ISSUERS": "https://login.example",
        },
    ],
    ids=["tenant", "two audiences", "own metadata and issuer"],
)
async def test_once_an_audience_is_set_a_token_is_always_asked_for(settings: dict[str, str]) -> None:
    parts = made(**STORAGE, **settings)
    assert isinstance(parts.management_verifier, TokenVerifier)
    await parts.http.close()


async def test_even_settings_that_lost_their_metadata_leave_no_route_open() -> None:
    parts = made(**STORAGE, MANAGEMENT_AUDIENCE="api://keeper", MANAGEMENT_TENANT_ID=TENANT)
    parts.settings = parts.settings.model_copy(update={"management_metadata_url": None, "management_issuers": ()})
    assert parts.management_verifier is not None
    await parts.http.close()


@pytest.mark.parametrize("audience", [",", " ", " , ,"])
def test_an_audience_that_names_nothing_is_no_way_to_open_them(audience: str) -> None:
    with pytest.raises(SettingsInvalid, match="MANAGEMENT_AUDIENCE names nothing"):
        made(**STORAGE, MANAGEMENT_AUDIENCE=audience)


def test_without_an_audience_the_function_key_is_all_that_is_asked() -> None:
    assert made(**STORAGE).management_verifier is None


def test_another_loop_gets_services_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_current", None)
    for name, value in {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": APP, **STORAGE}.items():
        monkeypatch.setenv(name, value)

    async def twice() -> tuple[Services, Services]:
        return services.services(), services.services()

    first, again = asyncio.run(twice())
    second, _ = asyncio.run(twice())
    assert first is again
    assert first is not second


def test_the_libraries_that_log_each_request_are_silenced() -> None:
    for name in LIBRARY_LOG_LEVELS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    made(**STORAGE)
    for name in ("azure", "msal", "aiohttp", "httpx"):
        assert logging.getLogger(name).level == logging.WARNING
    assert logging.getLogger("azure.identity").level == logging.ERROR


def test_importing_the_app_loads_nothing_that_is_slow_and_needs_no_setting() -> None:
    """Every function pays for what its module imports at a cold start."""
    slow = ["azure.identity", "azure.data.tables", "azure.storage.queue", "aiohttp", "jwt", "cryptography", "httpx"]
    slow.append("opentelemetry.sdk")
    code = f"import sys, function_app; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _clocks_in(value: object, seen: set[int]) -> Iterator[tuple[str, object]]:
    """Yield each clock that an object of ours holds, at any depth, with the name of its holder."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, tuple | list | set | frozenset | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _clocks_in(item, seen)
    elif kind := next((kind for kind in type(value).__mro__ if kind.__module__.startswith("shared.")), None):
        for name in {*getattr(value, "__dict__", {}), *getattr(kind, "__slots__", ())}:
            member = getattr(value, name, None)
            if hasattr(member, "now") and hasattr(member, "sleep"):
                yield kind.__name__, member
            else:
                yield from _clocks_in(member, seen)


async def test_every_part_uses_the_clock_of_the_composition() -> None:
    """A part with a clock of its own would not notice that a test, or the soak, steps time."""
    parts = made(**STORAGE, MANAGEMENT_AUDIENCE="api://keeper", MANAGEMENT_TENANT_ID=TENANT)
    built = [getattr(parts, name) for name, value in vars(Services).items() if isinstance(value, cached_property)]
    found = list(_clocks_in(built, set()))
    assert {holder for holder, _ in found} >= {
        *("Keeper", "Renewer", "Management", "Webhook", "HealthCheck"),
        *("GraphCalls", "GraphTokens", "SigningKeys", "TokenVerifier"),
    }
    assert [holder for holder, clock in found if clock is not parts.clock] == []
    await parts.http.close()
    await parts.store.close()
    await parts.queue._client.close()
