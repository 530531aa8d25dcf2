"""Which tokens the webhook and the management routes take, by the settings."""

import pytest

from shared.auth.signing_keys import SigningKeys
from shared.auth.token_kinds import ENTRA_KIND, LEGACY_KIND, TokenKind, management_token_kinds, notification_token_kinds
from shared.clock import SystemClock
from shared.config.settings import load_settings
from shared.errors import SettingsInvalid
from shared.http_client import HttpClient

APP = "aaaaaaaa-1111-2222-3333-444444444444"
OTHER_APP = "dddddddd-1111-2222-3333-444444444444"
TENANT, OTHER_TENANT = "bbbbbbbb-1111-2222-3333-444444444444", "cccccccc-1111-2222-3333-444444444444"
SERVICE, GOV_SERVICE = "26a18ebc-cdf7-4a6a-91cb-beb352805e81", "e736143e-5e30-4821-9609-0b032986a3a3"
COM, US = "https://login.microsoftonline.com", "https://login.microsoftonline.us"
METADATA = "/common/v2.0/.well-known/openid-configuration"
SKYPE = "https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration"
LEAST = {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": APP, "CALLS_STORAGE": "x"}


def make_keys(urls: tuple[str, ...]) -> SigningKeys:
    return SigningKeys(urls, HttpClient(1), SystemClock())


def notifications(**settings: str) -> dict[str, TokenKind]:
    """The kinds by name, in their order."""
    return {kind.name: kind for kind in notification_token_kinds(load_settings(LEAST | settings), make_keys)}


def urls(kind: TokenKind) -> tuple[str, ...]:
    """Its metadata: none of it is loaded here."""
    return kind.keys.unloaded_urls()


@pytest.mark.parametrize(
    ("cloud", "authority", "callers", "legacy"),
    [
        ("global", COM, frozenset({SERVICE}), 1),
        ("usgov-l4", US, frozenset({SERVICE, GOV_SERVICE}), 2),
        ("usgov-l5", US, frozenset({SERVICE, GOV_SERVICE}), 2),
    ],
    ids=["global", "usgov-l4", "usgov-l5"],
)
def test_both_kinds_are_taken_in_every_cloud(cloud: str, authority: str, callers: frozenset[str], legacy: int) -> None:
    kinds = notifications(GRAPH_CLOUD=cloud)
    entra = kinds[ENTRA_KIND]

    assert list(kinds) == [ENTRA_KIND, LEGACY_KIND]  # Entra's is asked first, with its list of callers
    assert urls(entra) == (authority + METADATA,)
    assert entra.callers == callers
    for tenant in (TENANT, OTHER_TENANT):
        assert entra.is_issued_by(f"{authority}/{tenant}/v2.0", tenant)
        assert entra.is_issued_by(f"https://sts.windows.net/{tenant}", tenant)
        assert not entra.is_issued_by(f"{authority}/{tenant}/v2.0", APP)
    assert not entra.is_issued_by(f"{US if authority == COM else COM}/{TENANT}/v2.0", TENANT)
    assert kinds[LEGACY_KIND].callers is None
    assert len(urls(kinds[LEGACY_KIND])) == legacy


def test_explicit_audiences_are_those_of_the_legacy_kind_and_bare_ids_count_for_both() -> None:
    kinds = notifications(NOTIFICATION_AUDIENCES=f"api://{APP},{OTHER_APP}")

    assert kinds[LEGACY_KIND].audiences == {f"api://{APP}", OTHER_APP}
    assert kinds[ENTRA_KIND].audiences == {APP, OTHER_APP}


def test_explicit_callers_are_those_of_both_kinds() -> None:
    kinds = notifications(NOTIFICATION_APP_IDS=OTHER_APP.upper())

    assert {kind.callers for kind in kinds.values()} == {frozenset({OTHER_APP})}


@pytest.mark.parametrize(
    "issuer",
    [
        f"{COM}/{TENANT}/v2.0",
        f"https://sts.windows.net/{TENANT}/",
        f"{US}/{TENANT}/v2.0",
        f"https://login.partner.microsoftonline.cn/{TENANT}/v2.0",
    ],
)
def test_an_issuer_of_entra_that_a_setting_names_does_not_go_around_the_list_of_callers(issuer: str) -> None:
    kinds = notifications(NOTIFICATION_ISSUERS=f"https://api.botframework.com,{issuer}")

    assert kinds[ENTRA_KIND].is_issued_by(issuer.removesuffix("/"), TENANT)
    assert kinds[ENTRA_KIND].callers == frozenset({SERVICE})
    assert kinds[LEGACY_KIND].issuers == ("https://api.botframework.com",)


def test_an_issuer_of_another_cloud_brings_that_clouds_keys() -> None:
    named = f"https://api.botframework.com,{COM}/{TENANT}/v2.0"
    kinds = notifications(GRAPH_CLOUD="usgov-l4", NOTIFICATION_ISSUERS=named)

    assert urls(kinds[ENTRA_KIND]) == (US + METADATA, COM + METADATA)


def test_metadata_of_entra_that_a_setting_names_belong_to_entras_kind() -> None:
    own = f"{COM}/{TENANT}/v2.0/.well-known/openid-configuration"
    kinds = notifications(NOTIFICATION_METADATA_URLS=f"{SKYPE},{own}")

    assert urls(kinds[LEGACY_KIND]) == (SKYPE,)
    assert urls(kinds[ENTRA_KIND]) == (COM + METADATA, own)
    assert list(notifications(NOTIFICATION_METADATA_URLS=own)) == [ENTRA_KIND]


@pytest.mark.parametrize(
    ("authority", "used"),
    [
        ("https://login.microsoftonline.com/contoso", COM),
        ("https://login.microsoftonline.us", US),
        ("https://login.windows.net", COM),  # an alias, which is in no issuer
        ("https://proxy.example", COM),
        ("https://localhost:8443", "https://localhost:8443"),  # a simulator
    ],
)
def test_the_authority_of_notifications_is_a_clouds_or_a_simulators(authority: str, used: str) -> None:
    kinds = notifications(AZURE_AUTHORITY_HOST=authority, ALLOW_CUSTOM_ENDPOINTS="true")

    assert urls(kinds[ENTRA_KIND]) == (used + METADATA,)
    assert kinds[ENTRA_KIND].is_issued_by(f"{used}/{TENANT}/v2.0", TENANT)


def test_a_template_in_a_setting_is_no_issuer_of_any_tenant() -> None:
    settings = {"MANAGEMENT_AUDIENCE": "api://x", "MANAGEMENT_TENANT_ID": TENANT}
    settings |= {"MANAGEMENT_ISSUERS": COM + "/{tenantid}/v2.0"}
    (management,) = management_token_kinds(load_settings(LEAST | settings), make_keys)

    assert not management.is_issued_by(f"{COM}/{TENANT}/v2.0", TENANT)


HOME, AWAY = f"{COM}/{TENANT}/v2.0", f"{COM}/{OTHER_TENANT}/v2.0"


@pytest.mark.parametrize(
    ("issuers", "tenant_id", "tenant", "written"),
    [
        pytest.param(None, TENANT, TENANT, APP, id="the default"),
        pytest.param(f"{HOME},{AWAY}", TENANT, TENANT, APP, id="of several, the home tenant"),
        pytest.param(f"{HOME},{AWAY}", TENANT, OTHER_TENANT, f"{APP}@{OTHER_TENANT}", id="of several, another"),
        pytest.param(AWAY, TENANT, OTHER_TENANT, APP, id="one tenant, not the home tenant"),
        pytest.param("https://issuer.example", TENANT, OTHER_TENANT, APP, id="an issuer without a tenant"),
    ],
)
def test_a_client_is_written_with_its_tenant_only_if_several_issue_tokens(
    issuers: str | None, tenant_id: str, tenant: str, written: str
) -> None:
    settings = {"MANAGEMENT_AUDIENCE": "api://x", "MANAGEMENT_TENANT_ID": tenant_id}
    settings |= {"MANAGEMENT_ISSUERS": issuers} if issuers else {}

    assert load_settings(LEAST | settings).management_client(APP, tenant) == written


def test_a_client_of_the_home_tenant_may_be_named_with_its_tenant_but_not_twice() -> None:
    settings = LEAST | {"MANAGEMENT_AUDIENCE": "api://x", "MANAGEMENT_TENANT_ID": TENANT}
    named = load_settings(
        settings | {"MANAGEMENT_CALLERS": f'{{"{APP}@{TENANT}": "all", "{APP}@{OTHER_TENANT}": "all"}}'}
    )

    assert set(named.management_callers or ()) == {APP, f"{APP}@{OTHER_TENANT}"}
    with pytest.raises(SettingsInvalid, match="twice"):
        load_settings(settings | {"MANAGEMENT_CALLERS": f'{{"{APP}@{TENANT}": "all", "{APP}": "all"}}'})
