"""Settings: what is read, what is refused, and that no message repeats a value."""

import re
from datetime import timedelta

import pytest
from pydantic import ValidationError

from shared.config.settings import Settings, load_settings, setting_name
from shared.domain.scopes import UNRESTRICTED, Scope
from shared.errors import SettingsInvalid

APP = "aaaaaaaa-1111-2222-3333-444444444444"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
LEAST = {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": APP, "CALLS_STORAGE": "UseDevelopmentStorage=true"}
NO_SECRET = "hush-hush"


def test_the_app_id_and_a_storage_are_enough() -> None:
    settings = load_settings(LEAST)

    assert settings.graph_root == "https://graph.microsoft.com"
    assert settings.graph_scope == "https://graph.microsoft.com/.default"
    assert settings.authority == "https://login.microsoftonline.com"
    assert settings.notification_audiences == (APP,)
    assert settings.notification_issuers == ("https://api.botframework.com", "https://graph.microsoft.com")
    assert settings.notification_metadata_urls == ("https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration",)
    assert settings.graph_timeout == timedelta(seconds=10)
    assert settings.timing.lease == timedelta(minutes=45)
    assert settings.management_audience == ()


def test_every_setting_has_a_description_and_an_own_name() -> None:
    names = [setting_name(field) for field in Settings.model_fields]

    assert all(field.description for field in Settings.model_fields.values())
    assert len({name.lower() for name in names}) == len(names)
    assert {"GRAPH_APP_ID", "CALLS_STORAGE__tableServiceUri", "MANAGEMENT_METADATA_URL"} <= set(names)


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEEP_ALIVE_CONCURRENCY", "7")

    assert load_settings().keep_alive_concurrency == 7


def test_what_is_passed_hides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEEP_ALIVE_CONCURRENCY", "7")

    assert load_settings(LEAST).keep_alive_concurrency == 32


def test_they_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings(LEAST).graph_cloud = "global"  # type: ignore[misc]  # that is what is tried


def test_an_empty_variable_is_an_absent_one() -> None:
    assert load_settings({**LEAST, "GRAPH_BASE_URL": "", "KEEP_ALIVE_CONCURRENCY": ""}).graph_base_url is None


@pytest.mark.parametrize(
    ("cloud", "root", "authority"),
    [
        ("usgov-l4", "https://graph.microsoft.us", "https://login.microsoftonline.us"),
        ("usgov-l5", "https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
    ],
)
def test_a_government_cloud_has_its_own_addresses(cloud: str, root: str, authority: str) -> None:
    settings = load_settings({**LEAST, "GRAPH_CLOUD": cloud})

    assert (settings.graph_root, settings.authority) == (root, authority)
    assert settings.graph_scope == f"{root}/.default"
    assert settings.cloud.assertion_audience == "api://AzureADTokenExchangeUSGov"
    assert len(settings.notification_metadata_urls) == 2


@pytest.mark.parametrize(
    "url",
    ["https://graph.microsoft.us", "https://dod-graph.microsoft.us/", "https://127.0.0.1:8443/x", "http://localhost:1"],
)
def test_graphs_own_addresses_and_this_machine_need_no_permission(url: str) -> None:
    assert load_settings({**LEAST, "GRAPH_BASE_URL": url}).graph_root == url.rstrip("/")


def test_any_other_host_gets_graphs_tokens_only_where_that_is_said() -> None:
    gateway = {**LEAST, "GRAPH_BASE_URL": "https://gateway.example/graph"}
    for said in ({}, {"ALLOW_CUSTOM_ENDPOINTS": "false"}):
        with pytest.raises(SettingsInvalid, match="set ALLOW_CUSTOM_ENDPOINTS=true"):
            load_settings({**gateway, **said})

    assert load_settings({**gateway, "ALLOW_CUSTOM_ENDPOINTS": "true"}).graph_scope == (
        "https://gateway.example/.default"
    )


def test_any_other_authority_gets_the_apps_secret_only_where_that_is_said() -> None:
    elsewhere = {**LEAST, "AZURE_AUTHORITY_HOST": "login.example"}
    with pytest.raises(SettingsInvalid, match=r"AZURE_AUTHORITY_HOST .* set ALLOW_CUSTOM_ENDPOINTS=true"):
        load_settings(elsewhere)

    assert load_settings({**elsewhere, "ALLOW_CUSTOM_ENDPOINTS": "true"}).authority == "https://login.example"


def test_china_is_refused_with_the_reason() -> None:
    with pytest.raises(SettingsInvalid, match=r"GRAPH_CLOUD china: .* not available .* call-keepAlive page"):
        load_settings({**LEAST, "GRAPH_CLOUD": "china"})


def test_a_simulator_may_be_http_on_this_machine_with_a_path() -> None:
    settings = load_settings({**LEAST, "GRAPH_BASE_URL": "http://127.0.0.1:8080/graph/"})

    assert settings.graph_root == "http://127.0.0.1:8080/graph"
    assert settings.graph_scope == "http://127.0.0.1:8080/.default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRAPH_CLOUD", "gcch"),
        ("GRAPH_CLOUD", "Global"),
        ("GRAPH_BASE_URL", "http://graph.example"),
        ("GRAPH_BASE_URL", "http://127.0.0.1.evil.example"),
        ("GRAPH_BASE_URL", "https://user:hush-hush@graph.example"),
        ("GRAPH_BASE_URL", "https://graph.example?hush-hush"),
        ("GRAPH_BASE_URL", "https://graph.example:hush-hush"),
        ("GRAPH_BASE_URL", "https://"),
        ("GRAPH_BASE_URL", "https://[hush-hush"),
        ("GRAPH_BASE_URL", "https://hush-hush.example"),
        ("GRAPH_BASE_URL", "https://graph.microsoft.com.hush-hush.example"),
        ("GRAPH_BASE_URL", "https://graph.microsoft.com:444"),
        ("ALLOW_CUSTOM_ENDPOINTS", "hush-hush"),
        ("GRAPH_APP_ID", "hush-hush"),
        ("GRAPH_TENANT_ID", "common"),
        ("GRAPH_TENANT_ID", "contoso.onmicrosoft.com"),
        ("GRAPH_TENANT_ID", "a/../b.example"),
        ("GRAPH_CREDENTIAL", "hush-hush"),
        ("AZURE_CLIENT_ID", "hush-hush"),
        ("AZURE_AUTHORITY_HOST", "http://127.0.0.1"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com.hush-hush.example"),
        ("AZURE_AUTHORITY_HOST", "https://graph.microsoft.com"),
        ("GRAPH_RECORD_API", "hush-hush"),
        ("GRAPH_TIMEOUT", "10"),
        ("GRAPH_TIMEOUT", "PT0S"),
        ("GRAPH_TIMEOUT", "PT2M"),
        ("GRAPH_TIMEOUT", "Phush-hush"),
        ("GRAPH_REQUESTS_PER_SECOND", "0"),
        ("GRAPH_REQUESTS_PER_SECOND", "10001"),
        ("KEEP_ALIVE_CONCURRENCY", "0"),
        ("KEEP_ALIVE_CONCURRENCY", "257"),
        ("KEEP_ALIVE_CONCURRENCY", "hush-hush"),
        ("KEEP_ALIVE_SCHEDULE", "*/15 * * * *"),
        ("KEEP_ALIVE_SCHEDULE", "00:15:00"),
        ("LEASE_DURATION", "PT46M"),
        ("LEASE_DURATION", "PT0S"),
        ("SWEEP_BUDGET", "-PT1M"),
        ("SWEEP_FAN_OUT_THRESHOLD", "-1"),
        ("ENDED_CALL_RETENTION", "hush-hush"),
        ("NOTIFICATION_METADATA_URLS", "https://good.example,http://hush-hush.example"),
        ("NOTIFICATION_ISSUERS", " , "),
        ("ALLOWED_TENANT_IDS", ","),
        ("MANAGEMENT_AUDIENCE", " "),
        ("ALLOWED_TENANT_IDS", f"{TENANT},hush-hush"),
        ("MANAGEMENT_TENANT_ID", "contoso.example"),
        ("CALLS_STORAGE__tableServiceUri", "http://hush-hush.example"),
        ("CALLS_STORAGE__credential", "hush-hush"),
        ("CALLS_STORAGE__clientId", "hush-hush"),
    ],
)
def test_a_wrong_value_is_named_but_not_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({**LEAST, name: value})

    assert re.search(rf"\b{name}\b", str(caught.value))
    assert NO_SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SWEEP_BUDGET", "PT10M", "SWEEP_BUDGET must be at most PT4M10S."),
        ("GRAPH_TIMEOUT", "PT0S", "GRAPH_TIMEOUT must be more than PT0S."),
        ("KEEP_ALIVE_CONCURRENCY", "0", "KEEP_ALIVE_CONCURRENCY must be at least 1."),
    ],
)
def test_the_message_about_a_value_out_of_bounds_has_the_bound_as_a_setting_has_it(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsInvalid, match=re.escape(expected)):
        load_settings({**LEAST, name: value})


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({"GRAPH_CREDENTIAL": "secret", "GRAPH_TIMEOUT": "soon", "MANAGEMENT_AUDIENCE": "api://keeper"})

    for name in (
        "GRAPH_APP_ID",
        "GRAPH_CLIENT_SECRET",
        "GRAPH_TIMEOUT",
        "CALLS_STORAGE__tableServiceUri",
        "CALLS_STORAGE__queueServiceUri",
        "MANAGEMENT_ISSUERS",
        "MANAGEMENT_METADATA_URL",
    ):
        assert name in str(caught.value)
        assert name in dict(caught.value.faults)
    assert "NOTIFICATION_AUDIENCES" not in str(caught.value)  # it only lacks the app id, which is named


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"GRAPH_CREDENTIAL": "certificate"}, "GRAPH_CERTIFICATE_PATH is missing: GRAPH_CREDENTIAL=certificate"),
        ({"GRAPH_CREDENTIAL": "secret"}, "GRAPH_CLIENT_SECRET is missing: GRAPH_CREDENTIAL=secret"),
        ({"CALLS_STORAGE__tableServiceUri": "https://a.example"}, "CALLS_STORAGE__tableServiceUri and CALLS_STORAGE"),
        ({"CALLS_STORAGE__clientId": TENANT}, "CALLS_STORAGE__credential=managedidentity"),
        (
            {"CALLS_STORAGE": "", "CALLS_STORAGE__queueServiceUri": "https://a.example"},
            "CALLS_STORAGE__tableServiceUri is",
        ),
        ({"MANAGEMENT_AUDIENCE": "a", "MANAGEMENT_METADATA_URL": "https://a.example"}, "MANAGEMENT_ISSUERS is missing"),
        ({"MANAGEMENT_AUDIENCE": "a", "MANAGEMENT_ISSUERS": "b"}, "MANAGEMENT_METADATA_URL is missing"),
    ],
    ids=[
        *("certificate without a path", "no secret", "connection string and URI", "client id without a credential"),
        *("queue without a table", "no issuers", "no metadata"),
    ],
)
def test_settings_that_need_each_other_say_so(more: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsInvalid, match=re.escape(named)):
        load_settings({**LEAST, **more})


def test_storage_may_be_reached_by_identity() -> None:
    settings = load_settings(
        {
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": APP,
            "CALLS_STORAGE__tableServiceUri": "https://account.table.core.windows.net/",
            "CALLS_STORAGE__queueServiceUri": "https://account.queue.core.windows.net",
            "CALLS_STORAGE__credential": "managedidentity",
            "CALLS_STORAGE__clientId": TENANT.upper(),
        }
    )

    assert settings.calls_storage_table_service_uri == "https://account.table.core.windows.net"
    assert settings.calls_storage_client_id == TENANT


def test_lists_are_separated_by_commas() -> None:
    settings = load_settings({**LEAST, "NOTIFICATION_AUDIENCES": f" {APP} , api://bot,"})

    assert settings.notification_audiences == (APP, "api://bot")


def test_management_tokens_are_by_default_those_of_the_tenant_in_both_versions() -> None:
    settings = load_settings(
        {
            **LEAST,
            "MANAGEMENT_AUDIENCE": "api://keeper",
            "MANAGEMENT_TENANT_ID": TENANT,
            "AZURE_AUTHORITY_HOST": "login.microsoftonline.us",
        }
    )

    assert settings.management_issuers == (
        f"https://login.microsoftonline.us/{TENANT}/v2.0",
        f"https://sts.windows.net/{TENANT}/",
    )
    assert (
        settings.management_metadata_url
        == f"https://login.microsoftonline.us/{TENANT}/v2.0/.well-known/openid-configuration"
    )


def test_management_tokens_may_come_from_elsewhere() -> None:
    settings = load_settings(
        {
            **LEAST,
            "MANAGEMENT_AUDIENCE": "api://keeper",
            "MANAGEMENT_ISSUERS": "http://127.0.0.1/issuer",
            "MANAGEMENT_METADATA_URL": "http://127.0.0.1/metadata",
        }
    )

    assert settings.management_issuers == ("http://127.0.0.1/issuer",)


def with_callers(text: str) -> Settings:
    audience = {"MANAGEMENT_AUDIENCE": "api://keeper", "MANAGEMENT_TENANT_ID": TENANT}
    return load_settings({**LEAST, **audience, "MANAGEMENT_CALLERS": text})


def test_callers_are_bound_by_their_client_ids() -> None:
    settings = with_callers(f'{{"{APP.upper()}": {{"tenants": ["{TENANT.upper()}"]}}, "*": "all"}}')

    assert settings.management_callers == {APP: Scope(frozenset({TENANT})), "*": UNRESTRICTED}


def test_callers_are_bound_to_apps_alone_or_with_tenants() -> None:
    settings = with_callers(
        f'{{"{APP}": {{"apps": ["{APP.upper()}"]}}, "*": {{"apps": ["{APP}"], "tenants": ["{TENANT}"]}}}}'
    )

    assert settings.management_callers == {
        APP: Scope(apps=frozenset({APP})),
        "*": Scope(frozenset({TENANT}), frozenset({APP})),
    }


def test_without_the_setting_no_caller_is_bound() -> None:
    assert load_settings(LEAST).management_callers is None
    assert with_callers("").management_callers is None


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "{}",
        "7",
        "NaN",
        "[" * 9_999,
        '{"a-name": "all"}',
        f'{{"{APP}": "none"}}',
        f'{{"{APP}": {{}}}}',
        f'{{"{APP}": {{"tenants": []}}}}',
        f'{{"{APP}": {{"tenants": "{TENANT}"}}}}',
        f'{{"{APP}": {{"tenants": ["contoso.com"]}}}}',
        f'{{"{APP}": {{"tenants": [null]}}}}',
        f'{{"{APP}": {{"tenants": ["{TENANT}"], "apps": []}}}}',
        f'{{"{APP}": {{"tenants": [{", ".join([f'"{TENANT}"'] * 11)}]}}}}',
        f'{{"{APP}": {{"tenants": [{", ".join([f'"{TENANT}"'] * 5)}], "apps": [{", ".join([f'"{APP}"'] * 6)}]}}}}',
        f'{{"{APP}": {{"apps": []}}}}',
        f'{{"{APP}": {{"apps": ["{APP}"], "bots": ["{APP}"]}}}}',
        f'{{"{APP}": {{"apps": {{"{APP}": "all"}}}}}}',
        f'{{"{APP}": ["{TENANT}"]}}',
        f'{{"{APP}": "all", "{APP.upper()}": {{"tenants": ["{TENANT}"]}}}}',
    ],
)
def test_callers_that_are_off_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        with_callers(text)

    assert [name for name, _ in refused.value.faults] == ["MANAGEMENT_CALLERS"]
    assert APP not in str(refused.value)
    assert TENANT not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MANAGEMENT_CALLERS", '{"*": "all"}'),
        ("MANAGEMENT_TENANT_ID", TENANT),
        ("MANAGEMENT_ISSUERS", "https://login.example"),
        ("MANAGEMENT_METADATA_URL", "https://login.example/openid"),
    ],
)
@pytest.mark.parametrize("audience", [{}, {"MANAGEMENT_AUDIENCE": ""}], ids=["missing", "empty"])
def test_a_guard_without_the_audience_that_enables_it_is_refused(
    name: str, value: str, audience: dict[str, str]
) -> None:
    with pytest.raises(SettingsInvalid, match=f"{name} needs MANAGEMENT_AUDIENCE") as refused:
        load_settings({**LEAST, **audience, name: value})
    assert [setting for setting, _ in refused.value.faults] == [name]


def test_secrets_do_not_show() -> None:
    settings = load_settings(
        {**LEAST, "CALLS_STORAGE": NO_SECRET, "GRAPH_CLIENT_SECRET": NO_SECRET, "GRAPH_CERTIFICATE_PASSWORD": NO_SECRET}
    )

    assert NO_SECRET not in repr(settings)
    assert NO_SECRET not in settings.model_dump_json()
