"""Several bots: what GRAPH_APPS may say, and which app an id or an audience means."""

import json

import pytest

from shared.clock import SystemClock
from shared.config.settings import Settings, load_settings
from shared.domain.calls import Call
from shared.errors import SettingsInvalid

FIRST = "aaaaaaaa-1111-2222-3333-444444444444"
SECOND = "bbbbbbbb-1111-2222-3333-444444444444"
THIRD = "cccccccc-1111-2222-3333-444444444444"
LEAST = {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": FIRST, "CALLS_STORAGE": "x", "GRAPH_TENANT_ID": THIRD}
NO_SECRET = "hush-hush"


def settings(*apps: object, **more: str) -> Settings:
    return load_settings({**LEAST, "GRAPH_APPS": json.dumps(apps), **more})


def test_without_a_list_the_one_app_is_that_of_graph_app_id() -> None:
    apps = load_settings({**LEAST, "GRAPH_CREDENTIAL": "secret", "GRAPH_CLIENT_SECRET": "s"}).apps

    assert not apps.has_several
    assert apps.get(None) is apps.get(FIRST.upper()) is apps.default
    assert (apps.default.app_id, apps.default.tenant_id, apps.default.credential) == (FIRST, THIRD, "secret")
    assert apps.get(SECOND) is None
    assert apps.audiences == (FIRST,)


def test_each_app_has_its_own_credential_tenant_and_audience() -> None:
    apps = settings(
        {"appId": SECOND.upper(), "credential": "secret", "clientSecretSetting": "SALES_SECRET", "tenantId": FIRST},
        {
            "appId": THIRD,
            "credential": "certificate",
            "certificatePath": "/secrets/third.pfx",
            "certificatePasswordSetting": "third_password",
            "notificationAudiences": [f"api://{THIRD.upper()}", "other"],
        },
        SALES_SECRET="one",
        THIRD_PASSWORD="two",
    ).apps

    second, third = apps.get(SECOND), apps.get(THIRD)
    assert second is not None
    assert second.client_secret is not None
    assert (second.client_secret.get_secret_value(), second.tenant_id) == ("one", FIRST)
    assert third is not None
    assert third.certificate_password is not None
    assert (third.certificate_path, third.certificate_password.get_secret_value()) == ("/secrets/third.pfx", "two")
    assert {
        audience: apps.app_id_of_audience(audience) for audience in (*apps.audiences, f"API://{THIRD}", "none")
    } == {
        FIRST: FIRST,
        SECOND: SECOND,
        f"api://{THIRD}": THIRD,
        "other": THIRD,
        f"API://{THIRD}": None,
        "none": None,
    }


def test_an_empty_list_is_no_further_app() -> None:
    assert not settings().apps.has_several


def test_a_call_that_says_no_app_is_the_firsts() -> None:
    now, apps = SystemClock().now(), settings({"appId": SECOND, "credential": "federated"}).apps

    assert apps.with_app_id(Call("a", "t", "x", now, now)).app_id == FIRST
    assert apps.with_app_id(Call("a", "t", "x", now, now, app_id=SECOND)).app_id == SECOND


@pytest.mark.parametrize(
    ("app", "named"),
    [
        (NO_SECRET, "app 1: is wrong"),
        ({}, "app 1: appId is missing; GRAPH_APPS app 1: credential is missing"),
        ({"appId": NO_SECRET, "credential": "federated"}, "app 1: appId must be a GUID"),
        ({"appId": SECOND, "credential": NO_SECRET}, "app 1: credential is wrong"),
        ({"appId": SECOND, "credential": "federated", "secret": NO_SECRET}, "app 1: secret is wrong"),
        (
            {"appId": SECOND, "credential": "secret", "clientSecret": NO_SECRET},
            "app 1: clientSecret must not be here: put it into a setting of its own",
        ),
        (
            {"appId": SECOND, "credential": "secret", "client_secret": NO_SECRET},
            "app 1: clientSecret is missing: clientSecretSetting must name a setting that is set",
        ),
        ({"appId": SECOND, "credential": "secret", "clientSecretSetting": NO_SECRET}, "app 1: clientSecretSetting is"),
        ({"appId": SECOND, "credential": "secret", "clientSecretSetting": ["a"]}, "app 1: clientSecretSetting is"),
        (
            {"appId": SECOND, "credential": "secret", "clientSecretSetting": "NOT_SET"},
            "app 1: clientSecret is missing: clientSecretSetting must name a setting that is set",
        ),
        ({"appId": SECOND, "credential": "certificate"}, "app 1: certificatePath is missing"),
        (
            {"appId": SECOND, "credential": "federated", "certificatePasswordSetting": "NOT_SET"},
            "app 1: certificatePassword is missing",
        ),
        ({"appId": FIRST.upper(), "credential": "federated"}, "names an app twice"),
        ({"appId": SECOND, "credential": "federated", "notificationAudiences": [FIRST]}, "shares an audience"),
    ],
    ids=[
        *("text", "empty object", "app id no GUID", "unknown credential", "unknown member", "secret in the list"),
        *("secret under its Python name", "setting with no name of a setting", "setting in an array"),
        *("secret not set", "certificate without a path", "password not set", "the first app again"),
        "audience of the first app",
    ],
)
def test_the_message_about_a_wrong_list_names_the_member_and_repeats_no_value(app: object, named: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        settings(app)

    assert f"GRAPH_APPS {named}" in str(caught.value)
    assert NO_SECRET not in str(caught.value)
    assert dict(caught.value.faults).keys() == {"GRAPH_APPS"}


@pytest.mark.parametrize("text", [NO_SECRET, "{}", "5", '"hush-hush"', "[" * 100_000, '[{"appId": "hush-hush"'])
def test_what_is_no_list_is_refused_in_words(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="GRAPH_APPS must be a JSON list of apps") as caught:
        load_settings({**LEAST, "GRAPH_APPS": text})

    assert NO_SECRET not in str(caught.value)


def test_a_secret_of_the_list_is_in_no_repr() -> None:
    found = settings(
        {"appId": SECOND, "credential": "secret", "clientSecretSetting": "SALES_SECRET"}, SALES_SECRET=NO_SECRET
    )

    assert NO_SECRET not in repr(found) + str(found) + repr(found.apps.get(SECOND))
