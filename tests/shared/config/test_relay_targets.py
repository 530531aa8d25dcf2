"""Relay targets: what RELAY_TARGETS may say, and that wrong relay settings turn off the relay alone."""

import base64
import json

import pytest

from shared.config.relay_targets import MAX_EVENTS_TARGETS, MAX_URL_LENGTH, RelayTarget, secret_key
from shared.config.settings import Settings, load_settings
from shared.domain.deliveries import EVENT_TYPES
from shared.errors import SettingsInvalid

FIRST = "aaaaaaaa-1111-2222-3333-444444444444"
SECOND = "bbbbbbbb-1111-2222-3333-444444444444"
THIRD = "cccccccc-1111-2222-3333-444444444444"
LEAST = {
    "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
    "GRAPH_APP_ID": FIRST,
    "CALLS_STORAGE": "x",
    "GRAPH_APPS": json.dumps([{"appId": SECOND, "credential": "federated"}]),
}
NO_SECRET = "hush-hush"
BOT: dict[str, object] = {"name": "bot", "url": "https://bot.example/calls/{to}", "format": "graph"}
EVENTS: dict[str, object] = {
    "name": "e",
    "url": "https://bot.example/events",
    "format": "events",
    "audience": "api://e",
}
SECRET = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"


def settings(*targets: object, **more: str) -> Settings:
    return load_settings({**LEAST, "RELAY_TARGETS": json.dumps(targets), **more})


def faults(*targets: object, **more: str) -> str:
    """Return the fault of the relay. The relay must be off."""
    found = settings(*targets, **more)
    assert found.relay_targets == ()
    assert found.relay_fault is not None
    return found.relay_fault


def test_without_targets_the_relay_is_off_and_no_fault() -> None:
    found = load_settings(LEAST)

    assert (found.relay_targets, found.relay_fault, found.relay_faults) == ((), None, ())
    assert found.relay.graph_target(FIRST) is None
    assert found.relay.events_targets(FIRST, "call.ended") == ()


def test_a_graph_target_serves_one_app_and_gets_tokens_for_it() -> None:
    found = settings(BOT, {**BOT, "name": "second", "appId": SECOND.upper(), "audience": "api://second"}).relay

    first, second = found.graph_target(None), found.graph_target(SECOND.upper())
    assert first is not None
    assert second is not None
    assert (first.name, first.app_id, first.audience) == ("bot", FIRST, FIRST)
    assert (second.name, second.app_id, second.audience) == ("second", SECOND, "api://second")
    assert found.get("second") is second
    assert (found.graph_target(THIRD), found.get("third")) == (None, None)


def test_events_go_to_each_target_of_the_app_and_the_type() -> None:
    found = settings(
        BOT,
        EVENTS,
        {**EVENTS, "name": "ends", "types": ["call.ended"]},
        {**EVENTS, "name": "second", "appId": SECOND},
    ).relay

    assert [target.name for target in found.events_targets(None, "call.ended")] == ["e", "ends"]
    assert [target.name for target in found.events_targets(SECOND, "call.at_risk")] == ["e", "second"]


def test_a_target_signs_with_the_secret_of_the_setting_that_it_names() -> None:
    (target,) = settings({**EVENTS, "audience": None, "secretSetting": "My_Secret"}, MY_SECRET=SECRET).relay_targets

    assert target.secret is not None
    assert secret_key(target.secret) == bytes(range(24))
    assert SECRET not in repr(target) + str(target) + repr(settings(BOT, MY_SECRET=SECRET))


def test_the_address_has_the_instance_in_its_path() -> None:
    target = RelayTarget.model_validate(BOT)
    plain = RelayTarget.model_validate({**BOT, "url": "https://bot.example/calls"})

    assert target.wants_to
    assert target.url_for("pod-7") == "https://bot.example/calls/pod-7"
    assert not plain.wants_to
    assert plain.url_for("pod-7") == plain.url_for(None) == "https://bot.example/calls"


@pytest.mark.parametrize("to", [None, "", "..", "a/b", "a?b", "a" * 65, "é", "a\n"])
def test_an_address_that_wants_an_instance_takes_no_other_text(to: str | None) -> None:
    with pytest.raises(ValueError, match="needs a valid `to`"):
        RelayTarget.model_validate(BOT).url_for(to)


@pytest.mark.parametrize(
    "url",
    [
        "https://bot.example",
        "https://Bot.Example:8443/a/{to}/b",
        "https://xn--bcher-kva.example/pod-{to}",
        "https://bot_1.example/%7E!$&'()*+,;=:@",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]:443/x",
        "https://127.0.0.1/x",
        "http://127.0.0.1:8080/x/{to}",
        "http://[::1]:8080/x",
        "http://localhost/x",
        "https://localhost/x",
    ],
)
def test_a_good_address_is_taken_unchanged(url: str) -> None:
    assert [target.url for target in settings({**BOT, "url": url}).relay_targets] == [url]


@pytest.mark.parametrize(
    "url",
    [
        "hush-hush",
        "ftp://hush-hush.example",
        "//hush-hush.example/x",
        "HTTPS://hush-hush.example/x",
        "https:hush-hush.example",
        "https:///hush-hush",
        "https://user:hush-hush@bot.example/",
        "https://hush-hush@bot.example/",
        "https://@hush-hush.example/",
        "https://bot.example/?code=hush-hush",
        "https://bot.example/?",
        "https://bot.example/#hush-hush",
        "https://bot.example/#",
        "https://bot.example:hush-hush/",
        "https://bot.example:/",
        "https://bot.example:0/",
        "https://bot.example:65536/",
        "https://hush-hush.example./",
        "https://hush-hush..example/",
        "https://-hush.example/",
        f"https://{'a' * 64}.example/",
        "https://hush-hush.example/a b",
        "https://hush-hush.example/a\nb",
        "https://hush-hush\t.example/",
        "https://hush-hush.example\\@bot.example/",
        "https://hush-hüsh.example/",
        "https://hush-hush.example/ü",
        'https://hush-hush.example/"x"',
        "https://[hush-hush]/",
        "https://[hush-hush/",
        "https://hush-hush.example/{t}",
        "https://hush-hush.example/{to}/{to}",
        "https://hush-hush.example/{{to}}",
        "https://hush-hush.example/{to",
        "https://hush-hush.example/to}",
        "https://{to}.hush-hush.example/",
        "https://hush-hush.example:{to}/",
        "https://hush-hush.example/?to={to}",
        "https://hush-hush.example/#{to}",
        f"https://bot.example/{'a' * MAX_URL_LENGTH}",
        *("http://hush-hush.example/", "http://93.184.216.34/", "http://10.0.0.1/", "http://LOCALHOST/"),
        *("http://localhost./", "http://127.1/", "http://127.0.0.2/", "http://[0:0:0:0:0:0:0:1]/", "http://[::1%251]/"),
        *("http://127.0.0.1.hush-hush.example/", "http://localhost.hush-hush.example/", "http://0x7f.0.0.1/"),
        *("https://LOCALHOST/", "https://localhost./", "https://127.0.0.1./", "https://127.1/", "https://2130706433/"),
        *("https://0x7f.0.0.1/", "https://017700000001/", "https://127.0.0.2/", "https://0/", "https://0.0.0.0/"),
        *("https://10.1.2.3/", "https://100.64.0.1/", "https://192.168.1.1/", "https://169.254.169.254/"),
        *("https://168.63.129.16/", "https://[::ffff:10.0.0.1]/", "https://[::ffff:a00:1]/", "https://[fd00::1]/"),
        *("https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[64:ff9b::10.0.0.1]/", "https://[2002:a00:1::]/"),
        *("https://[::]/", "https://[::127.0.0.1]/", "https://[0:0:0:0:0:0:0:1]/", "https://%31%32%37.0.0.1/"),
        *("https://１２７.0.0.1/", "https://127。0。0。1/", "https://①②⑦.0.0.1/"),  # noqa: RUF001 (IDNA maps these)
        *("https://1.2.3.4.5/", "https://256.1.1.1/", "https://08.8.8.8/", "https://0x08080808/", "https://8.8.2056/"),
    ],
    ids=ascii,
)
def test_a_wrong_address_turns_the_relay_off_and_is_not_repeated(url: str) -> None:
    fault = faults({**BOT, "url": url})

    assert fault.startswith("Settings to correct: RELAY_TARGETS target 1: url ")
    assert fault.count("RELAY_TARGETS target") == 1
    assert "hush" not in fault


@pytest.mark.parametrize("url", ["https://10.1.2.3/", "https://[fd00::1]/", "https://127.0.0.2/"])
def test_a_private_address_is_taken_over_https_if_that_is_said(url: str) -> None:
    allowed = {"RELAY_ALLOW_PRIVATE_ADDRESSES": "true"}

    assert settings({**BOT, "url": url}, **allowed).relay_fault is None
    assert "url must begin with https://" in faults({**BOT, "url": url.replace("https", "http")}, **allowed)
    assert "RELAY_ALLOW_PRIVATE_ADDRESSES=true" in faults({**BOT, "url": url})


@pytest.mark.parametrize("url", ["https://169.254.169.254/", "https://[fe80::1]/", "https://[::ffff:169.254.1.1]/"])
def test_a_link_local_address_is_never_taken(url: str) -> None:
    assert "never allowed" in faults({**BOT, "url": url}, RELAY_ALLOW_PRIVATE_ADDRESSES="true")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (NO_SECRET, "target 1: is wrong"),
        ({}, "target 1: name is missing; RELAY_TARGETS target 1: url is missing; RELAY_TARGETS target 1: format is"),
        ({**BOT, "name": "Hush-hush"}, "target 1: name is wrong"),
        ({**BOT, "name": ""}, "target 1: name is wrong"),
        ({**BOT, "name": "a" * 41}, "target 1: name is wrong"),
        ({**BOT, "name": "bot\n"}, "target 1: name is wrong"),
        ({**BOT, "format": NO_SECRET}, "target 1: format is wrong"),
        ({**BOT, "url": 5}, "target 1: url is wrong"),
        ({**BOT, "appId": NO_SECRET}, "target 1: appId must be a GUID"),
        ({**BOT, "appId": THIRD}, "target 1: appId is neither GRAPH_APP_ID nor an app of GRAPH_APPS"),
        ({**EVENTS, "appId": THIRD}, "target 1: appId is neither GRAPH_APP_ID nor an app of GRAPH_APPS"),
        ({**BOT, "unknown": NO_SECRET}, "target 1: unknown is wrong"),
        ({**BOT, "app_id": FIRST}, "target 1: appId is wrong"),
        ({**BOT, "types": ["call.ended"]}, "target 1: types is only for the format events"),
        ({**EVENTS, "types": []}, "target 1: types must be a list of event types, of call.established, "),
        ({**EVENTS, "types": ["call.ended", NO_SECRET]}, "target 1: types must be a list of event types"),
        ({**EVENTS, "types": "call.ended"}, "target 1: types is wrong"),
        ({**EVENTS, "audience": None}, "target 1: audience is missing: a target of the format events needs it, or"),
        ({**BOT, "audience": NO_SECRET}, "target 1: audience must be an application id, or an App ID URI"),
        ({**BOT, "audience": "api://hush-hush/.default"}, "target 1: audience must be"),
        ({**BOT, "audience": "api://hush hush"}, "target 1: audience must be"),
        ({**BOT, "audience": ""}, "target 1: audience must be"),
        ({**BOT, "secret": NO_SECRET}, "target 1: secret must not be here"),
        ({**BOT, "secretSetting": "SECRET", "secret": NO_SECRET}, "target 1: secret must not be here"),
        ({**BOT, "secretSetting": "NOT_SET"}, "target 1: secret is missing: secretSetting must name a setting that is"),
        ({**EVENTS, "audience": None, "secretSetting": "NOT_SET"}, "target 1: secret is missing"),
        ({**BOT, "secretSetting": NO_SECRET}, "target 1: secretSetting is wrong"),
        ({**BOT, "secretSetting": ["SECRET"]}, "target 1: secretSetting is wrong"),
        ({**BOT, "secretSetting": "PLAIN"}, "target 1: secret must be whsec_ and base64 of 24 to 64 random bytes"),
        ({**BOT, "secretSetting": "NO_BASE64"}, "target 1: secret must be whsec_"),
        ({**BOT, "secretSetting": "SHORT"}, "target 1: secret must be whsec_"),
        ({**BOT, "secretSetting": "LONG"}, "target 1: secret must be whsec_"),
        ({**BOT, "secretSetting": "BARE"}, "target 1: secret must be whsec_"),
    ],
    ids=[
        *("text", "empty object", "capital in the name", "empty name", "long name", "line feed in the name"),
        *("unknown format", "url no text", "app id no GUID", "unknown app", "unknown app of events", "unknown member"),
        *("Python name of a member", "types of a graph target", "no types", "unknown type", "types no list"),
        *("no proof of the sender", "audience no URI", "scope as audience", "blank in the audience", "empty audience"),
        *("secret in the list", "secret in the list beside the setting", "secret not set", "events secret not set"),
        *("setting with no name of a setting", "setting in an array", "secret without prefix", "secret no base64"),
        *("secret of 23 bytes", "secret of 65 bytes", "base64 without prefix"),
    ],
)
def test_the_message_names_the_member_and_repeats_no_value(target: object, named: str) -> None:
    secrets = {
        "SECRET": SECRET,
        "PLAIN": NO_SECRET,
        "NO_BASE64": f"whsec_{NO_SECRET * 4}",
        "SHORT": f"whsec_{base64.b64encode(bytes(23)).decode()}",
        "LONG": f"whsec_{base64.b64encode(bytes(65)).decode()}",
        "BARE": SECRET.removeprefix("whsec_"),
    }
    fault = faults(target, **secrets)

    assert f"RELAY_TARGETS {named}" in fault
    assert "hush" not in fault.lower()
    assert settings(target, **secrets).relay_faults[0][0] == "RELAY_TARGETS"


def test_the_faults_between_targets_are_named_at_once() -> None:
    fault = faults(
        BOT, BOT, {**EVENTS, "name": "bot", "appId": THIRD, "url": "https://10.0.0.1/"}, {**BOT, "name": "b2"}
    )

    assert fault == (
        "Settings to correct: RELAY_TARGETS target 2: name is that of an earlier target; "
        "target 2: the app has an earlier target of the format graph; "
        "target 3: name is that of an earlier target; "
        "target 3: appId is neither GRAPH_APP_ID nor an app of GRAPH_APPS; "
        "target 3: url has a private address: use a public one, or set RELAY_ALLOW_PRIVATE_ADDRESSES=true; "
        "target 4: the app has an earlier target of the format graph."
    )


def test_the_number_of_events_targets_has_a_limit() -> None:
    several = [{**EVENTS, "name": f"events-{number}"} for number in range(MAX_EVENTS_TARGETS + 1)]

    assert faults(*several) == "Settings to correct: RELAY_TARGETS must have at most 12 targets of the format events."
    assert len(settings(*several[1:]).relay_targets) == MAX_EVENTS_TARGETS


@pytest.mark.parametrize(
    "text", [NO_SECRET, "{}", "5", '"hush-hush"', "[" * 100_000, '[{"name": "hush-hush", "name": "b"}]', "null"]
)
def test_what_is_no_list_is_refused_in_words(text: str) -> None:
    found = load_settings({**LEAST, "RELAY_TARGETS": text})

    assert found.relay_targets == ()
    assert (found.relay_fault or "").startswith("Settings to correct: RELAY_TARGETS must be a JSON list of targets")
    assert NO_SECRET not in (found.relay_fault or "")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RELAY_BUDGET", "PT0S", "RELAY_BUDGET must be more than PT0S."),
        ("RELAY_BUDGET", "PT10.1S", "RELAY_BUDGET must be at most PT10S."),
        ("RELAY_BUDGET", "1.5", "RELAY_BUDGET must be an ISO 8601 duration"),
        ("RELAY_SYNC_BUDGET", "PT0S", "RELAY_SYNC_BUDGET must be more than PT0S."),
        ("RELAY_SYNC_BUDGET", "PT13S", "RELAY_SYNC_BUDGET must be at most PT12S."),
        ("RELAY_BODY_RETENTION", "P0D", "RELAY_BODY_RETENTION must be more than PT0S."),
        ("RELAY_ALLOW_PRIVATE_ADDRESSES", NO_SECRET, "RELAY_ALLOW_PRIVATE_ADDRESSES is wrong"),
    ],
)
def test_any_other_wrong_relay_setting_turns_the_relay_off(name: str, value: str, expected: str) -> None:
    fault = faults(BOT, **{name: value})

    assert expected in fault
    assert NO_SECRET not in fault


def test_the_faults_of_all_relay_settings_are_named_at_once_and_the_rest_is_kept() -> None:
    found = settings({**BOT, "url": "x"}, RELAY_BUDGET="PT1M", KEEP_ALIVE_CONCURRENCY="7", RELAY_SYNC_BUDGET="PT5S")

    assert [name for name, _ in found.relay_faults] == ["RELAY_TARGETS", "RELAY_BUDGET"]
    assert found.relay_fault == (
        "Settings to correct: RELAY_TARGETS target 1: url must be a URL such as https://host/path; "
        "RELAY_BUDGET must be at most PT10S."
    )
    assert (found.keep_alive_concurrency, found.relay_sync_budget.total_seconds()) == (7, 10)


def test_if_other_settings_are_wrong_too_all_faults_are_raised() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        settings({**BOT, "url": "https://hush-hush.example:x"}, GRAPH_TIMEOUT="soon", RELAY_BUDGET="PT1M")

    assert {name for name, _ in caught.value.faults} == {"GRAPH_TIMEOUT", "RELAY_TARGETS", "RELAY_BUDGET"}
    assert NO_SECRET not in str(caught.value)


def test_a_wrong_list_of_bots_is_the_only_fault_of_targets_that_name_them() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        settings({**BOT, "appId": SECOND}, GRAPH_APPS="x")

    assert [name for name, _ in caught.value.faults] == ["GRAPH_APPS"]


def test_every_type_of_events_can_be_asked_for() -> None:
    (target,) = settings({**EVENTS, "types": list(EVENT_TYPES)}).relay_targets

    assert target.types == EVENT_TYPES
