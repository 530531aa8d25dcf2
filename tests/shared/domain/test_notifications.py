"""Graph's payloads: each variant becomes what it means, and nothing that is sent can do harm."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.domain.calls import canonical_id
from shared.domain.lifecycle import notification_event
from shared.domain.notifications import (
    MAX_FAULTS,
    MAX_NOTIFICATIONS,
    MAX_REQUEST_ID_LENGTH,
    CallNotification,
    LegacyFormat,
    OperationNotification,
    OtherNotification,
    ParsedBody,
    RequestIds,
    ResultInfo,
    parse_notifications,
)
from shared.errors import InvalidRequest, PayloadTooLarge
from shared.untrusted_json import MAX_DEPTH, MAX_MESSAGE_LENGTH
from tests.support.events import EventFile, event_files, readable, shown

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CALL = "3f6c1d20-8a44-4b0e-9d52-0b7e5a91c001"
URL = f"/communications/calls/{CALL}"
ERRORS = {"LegacyFormat": LegacyFormat, "InvalidRequest": InvalidRequest}


def body(*items: object) -> bytes:
    return json.dumps({"value": items}).encode()


def ended_with(**result: object) -> ResultInfo | None:
    item = {"changeType": "deleted", "resourceUrl": URL, "resourceData": {"resultInfo": result}}
    (notification,) = parse_notifications(body(item)).notifications
    assert isinstance(notification, CallNotification)
    return notification.result


@pytest.mark.parametrize("file", readable(), ids=lambda file: file.name)
def test_an_event_becomes_what_its_file_says(file: EventFile) -> None:
    parsed = file.parsed()

    assert [shown(notification) for notification in parsed.notifications] == file.expect
    assert list(parsed.faults) == file.faults


@pytest.mark.parametrize("file", [file for file in event_files() if file.error], ids=lambda file: file.name)
def test_a_body_that_is_no_list_of_notifications_is_refused_as_its_file_says(file: EventFile) -> None:
    with pytest.raises(ERRORS[file.error or ""]) as refusal:
        file.parsed()
    assert type(refusal.value) is ERRORS[file.error or ""]


def test_there_are_events_with_secrets_and_names_in_them() -> None:
    assert sum(b"secret" in file.body or b"Must Not Survive" in file.body for file in event_files()) > 8


@pytest.mark.parametrize("file", readable(), ids=lambda file: file.name)
def test_no_secret_and_no_personal_data_survives(file: EventFile) -> None:
    parsed = file.parsed()
    kept = repr([asdict(notification) for notification in parsed.notifications]) + repr(parsed.faults)

    assert "secret" not in kept
    assert "Must Not Survive" not in kept


@pytest.mark.parametrize("file", readable(), ids=lambda file: file.name)
def test_no_location_or_token_of_a_recording_is_in_a_repr_or_in_an_event(file: EventFile) -> None:
    for notification in file.parsed().notifications:
        text = repr(notification) + repr(notification_event(notification, NOON))
        assert "token-1" not in text
        assert "file.example.com" not in text


@pytest.mark.parametrize(
    ("written", "code", "raw"),
    [
        ("200", 200, None),
        ('"200"', 200, None),
        ('" 200 "', 200, None),
        ('"200.0"', 200, None),
        ("200.0", 200, None),
        ('"+200"', 200, None),
        ("-1", -1, None),
        ("0", 0, None),
        ('"200.5"', None, "200.5"),
        ("2147483647", 2**31 - 1, None),
        ("2147483648", None, "2147483648"),
        ("1" + "0" * 90, None, "1" + "0" * 90),
        ("1" + "0" * 5000, None, "1" + "0" * 99),
        ("1e999", None, "1e999"),
        ('"٢٠٠"', None, "٢٠٠"),
        ('"two hundred"', None, "two hundred"),
        ('"' + "x" * 500 + '"', None, "x" * 100),
        ("true", None, "true"),
        ('""', None, None),
        ("null", None, None),
        ("[200]", None, None),
        ('{"code": 200}', None, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_code_is_a_number_where_it_can_be_and_else_text(written: str, code: int | None, raw: str | None) -> None:
    item = {"resourceUrl": URL, "resourceData": {"resultInfo": {"code": "CODE", "subcode": 1}}}

    (notification,) = parse_notifications(body(item).replace(b'"CODE"', written.encode())).notifications

    assert isinstance(notification, CallNotification)
    assert notification.result == ResultInfo(code, 1, raw)


@pytest.mark.parametrize(
    ("message", "subcode"),
    [
        ("DiagCode: 0#5010.@", 5010),
        ("diagcode:0#5010", 5010),
        ("Over. DiagCode: 500#7117.@ DiagCode: 0#1", 7117),
        ("DiagCode: 0#99999999999", None),
        ("DiagCode: 0#9999999999", None),
        ("DiagCode: #5010", None),
        ("Code 0#5010", None),
    ],
)
def test_a_diagnosis_in_the_message_gives_the_subcode_where_no_field_does(message: str, subcode: int | None) -> None:
    assert ended_with(message=message) == ResultInfo(subcode=subcode, message=message)
    assert ended_with(code=200, message=message) == ResultInfo(200, subcode, message=message)
    assert ended_with(subcode=1, message=message) == ResultInfo(subcode=1, message=message)
    assert ended_with(subcode="none", message=message) == ResultInfo(raw_subcode="none", message=message)


def test_of_two_spellings_of_a_name_the_documented_one_counts_unless_it_is_null() -> None:
    assert ended_with(subCode=7000, subcode=5010) == ResultInfo(subcode=5010)
    assert ended_with(subCode=7000, subcode=None) == ResultInfo(subcode=7000)


@pytest.mark.parametrize("letter", ["a", "ä", "漢"])
def test_a_message_that_fits_storage_is_kept_whole(letter: str) -> None:
    assert ended_with(message=letter * MAX_MESSAGE_LENGTH) == ResultInfo(message=letter * MAX_MESSAGE_LENGTH)


def test_a_longer_message_is_cut_and_marked() -> None:
    assert ended_with(message="a" * (MAX_MESSAGE_LENGTH + 1)) == ResultInfo(
        message="a" * MAX_MESSAGE_LENGTH, message_truncated=True
    )


def test_a_message_is_measured_in_utf_16_and_no_character_is_cut_in_two() -> None:
    result = ended_with(message="a" + "😀" * MAX_MESSAGE_LENGTH)

    assert result == ResultInfo(message="a" + "😀" * (MAX_MESSAGE_LENGTH // 2 - 1), message_truncated=True)


def test_a_diagnosis_is_found_behind_the_cut() -> None:
    result = ended_with(message="a" * MAX_MESSAGE_LENGTH + " DiagCode: 0#5010.@")

    assert result is not None
    assert (result.subcode, result.message_truncated) == (5010, True)


def test_half_a_character_and_control_characters_are_replaced() -> None:
    assert ended_with(message="a\ud800b\udc00c\x00d\te") == ResultInfo(message="a\ufffdb\ufffdc\ufffdd\te")


def test_a_place_or_token_that_is_too_long_is_dropped_as_half_of_it_is_good_for_nothing() -> None:
    data = {"recordingLocation": "https://file.example.com/" + "a" * MAX_MESSAGE_LENGTH, "recordingAccessToken": "t"}
    (operation,) = parse_notifications(body({"resourceUrl": f"{URL}/operations/1", "resourceData": data})).notifications

    assert isinstance(operation, OperationNotification)
    assert (operation.recording_location, operation.recording_access_token) == (None, "t")


@pytest.mark.parametrize("code", range(8508, 8516))
def test_the_subcode_says_why_a_recording_ended_if_no_field_does(code: int) -> None:
    reasons = "operationCanceled maxSilenceTimeout initialSilenceTimeout playPromptFailed playBeepFailed"
    reasons += " mediaReceiveTimeout stopToneDetected maxRecordDurationReached"
    item: dict[str, object] = {"resourceUrl": f"{URL}/operations/1", "resourceData": {"resultInfo": {"subcode": code}}}
    (derived,) = parse_notifications(body(item)).notifications
    item["resourceData"] = {"resultInfo": {"subcode": code}, "completionReason": "StopToneDetected"}
    (explicit,) = parse_notifications(body(item)).notifications

    assert isinstance(derived, OperationNotification)
    assert isinstance(explicit, OperationNotification)
    assert derived.completion_reason == reasons.split()[code - 8508]
    assert explicit.completion_reason == "stopToneDetected"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"value"',
        b"\xff\xfe{}",
        b'{"value": [], "x": NaN}',
        b'{"value": [Infinity]}',
        b'{"value": [], "value": []}',
        b'{"value": [{"changeType": "deleted", "changeType": "updated"}]}',
        b'{"value": ' + b"[" * 100_000,  # too deep
        b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"value": null}',
        b'{"value": "a"}',
        b'{"value": {}}',
        b"{}",
        b'{"id": "1"}',
        b'{"id": "1", "value": 1, "type": "x"}',
        b'{"other": 1, "names": 2}',
    ],
)
def test_what_cannot_be_read_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_notifications(raw)
    assert type(refusal.value) is InvalidRequest


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_notifications(b'{"value": [{"token": "secret"]}')
    assert "secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_notifications(b"\xef\xbb\xbf" + body()) == ParsedBody((), ())


@pytest.mark.parametrize(
    "url",
    [
        "/communications/calls",
        "/communications/calls/",
        "/communications/calls/?x=/calls/1",
        "https://calls/1",
        "//calls",
        "/communications/presences/1",
        "calls",
        "",
        5,
        None,
        ["/communications/calls/1"],
        "/communications/calls/a%2Fb",
        "/communications/calls/a%00b",
        "/communications/calls/%ff",
        "/communications/calls/\ud800",
        "/communications/calls/a%20b",
        "/communications/calls/" + "a" * 201,
    ],
)
def test_an_item_without_a_good_id_is_a_fault_and_the_rest_is_taken(url: object) -> None:
    bad = {"changeType": "deleted", "resourceUrl": url, "resourceData": {"state": "terminated"}}
    good = {"changeType": "updated", "resourceUrl": URL, "resourceData": {"state": "established"}}

    parsed = parse_notifications(body(bad, good, bad))

    assert parsed.notifications == (CallNotification(CALL, deleted=False, state="established"),)
    assert [fault.split(":")[0] for fault in parsed.faults] == ["value[0]", "value[2]"]


def test_an_id_is_decoded_once_and_no_more() -> None:
    parsed = parse_notifications(body({"resourceUrl": "/communications/calls/a%253Ab"}))
    assert parsed.notifications == ()  # what is left, `a%3Ab`, is no id: storage refuses the percent sign

    assert parse_notifications(body({"resourceUrl": "/communications/calls/a%3Ab"})).notifications[0].call_id == "a:b"


def test_an_operation_with_a_bad_id_is_a_fault() -> None:
    parsed = parse_notifications(body({"resourceUrl": f"{URL}/operations/a%2Fb", "changeType": "deleted"}))

    assert parsed.notifications == ()
    assert len(parsed.faults) == 1


def test_an_unknown_resource_of_a_call_is_kept_by_its_name_alone() -> None:
    parsed = parse_notifications(body({"resourceUrl": f"{URL}/NewThings/secret-id/more", "changeType": "Created"}))

    assert parsed.notifications == (OtherNotification(CALL, "newThings", "created"),)


def test_a_list_of_several_states_is_taken_in_its_order() -> None:
    states = ["established", "hold", "established", "established"]
    data: list[object] = [{"state": state} for state in states]
    parsed = parse_notifications(body({"resourceUrl": URL, "resourceData": [*data, 5]}))

    parsed_states = [item.state for item in parsed.notifications if isinstance(item, CallNotification)]
    assert parsed_states == ["established", "hold", "established"]


def test_what_is_said_a_hundred_thousand_times_on_end_counts_once() -> None:
    parsed = parse_notifications(body({"resourceUrl": URL, "resourceData": [{}] * 100_000}))

    assert parsed.notifications == (CallNotification(CALL, deleted=False),)


@pytest.mark.parametrize("where", ["items", "entities"])
def test_a_body_of_too_many_is_refused_before_they_cost_anything(where: str) -> None:
    many = [{"resourceUrl": f"{URL[:-4]}{number:04}"} for number in range(MAX_NOTIFICATIONS + 1)]
    half = [{"state": f"s{number}"} for number in range(MAX_NOTIFICATIONS // 2 + 1)]
    halves: list[object] = [{"resourceUrl": URL, "resourceData": half}] * 2
    assert len(parse_notifications(body(*many[1:])).notifications) == MAX_NOTIFICATIONS

    with pytest.raises(PayloadTooLarge):
        parse_notifications(body(*(many if where == "items" else halves)))


@pytest.mark.parametrize(("path", "taken"), [("", False), ("/operations", False), ("/participants", True)])
def test_an_item_of_too_many_entities_is_a_fault_unless_it_is_a_roster(path: str, taken: bool) -> None:
    data = [{"id": str(number)} for number in range(MAX_NOTIFICATIONS + 1)]

    parsed = parse_notifications(body({"resourceUrl": URL + path, "resourceData": data}))

    assert (len(parsed.notifications), len(parsed.faults)) == ((1, 0) if taken else (0, 1))


@pytest.mark.parametrize(
    ("depth", "taken"), [(MAX_DEPTH - 1, True), (MAX_DEPTH, False), (300, False)], ids=["deep", "deeper", "deepest"]
)
def test_json_may_be_so_deep_and_no_deeper(depth: int, taken: bool) -> None:
    raw = b'{"x": ' + b"[" * depth + b"]" * depth + b', "value": []}'
    if taken:
        assert parse_notifications(raw) == ParsedBody((), ())
        return
    with pytest.raises(InvalidRequest, match="deep"):
        parse_notifications(raw)


def test_brackets_in_text_have_no_depth() -> None:
    assert parse_notifications(json.dumps({"value": [], "x": '[{"\\\\' * 200, "y": [[]] * 200}).encode()) == ParsedBody(
        (), ()
    )


def test_the_faults_of_a_body_are_bounded() -> None:
    parsed = parse_notifications(body(*[1] * MAX_NOTIFICATIONS))

    assert len(parsed.faults) == MAX_FAULTS + 1
    assert parsed.faults[-1] == f"and {MAX_NOTIFICATIONS - MAX_FAULTS} more"


def test_an_unknown_state_is_bounded() -> None:
    (notification,) = parse_notifications(
        body({"resourceUrl": URL, "resourceData": {"state": "S" * 1000}})
    ).notifications

    assert isinstance(notification, CallNotification)
    assert notification.state == "s" + "S" * 99


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
NAMES = [
    *("value", "Value", "resource", "resourceUrl", "changeType", "resourceData", "state", "STATE", "resultInfo"),
    *("code", "subcode", "subCode", "message", "direction", "status", "callChainId", "terminationReason", "id", "type"),
    *("@odata.type", "clientContext", "completionReason", "recordingLocation"),
]
words = st.sampled_from(
    ["deleted", "Terminated", "established", "200", "DiagCode: 0#5010", "completed", "#microsoft.graph.recordOperation"]
)
paths = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["", "/", "https://graph.microsoft.com/v1.0/", "//"]),
    st.sampled_from(["communications/calls/", "app/Calls/", "calls", "calls//"]),
    st.text(max_size=5) | st.just(CALL) | st.just("%41%zz"),
    st.sampled_from(["", "/", "/operations/1", "/operations/participants", "/participants/x", "/operations"]),
)
shaped = st.recursive(
    anything | words | paths | st.text(st.characters(categories=["Cs", "Cc", "Lu"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)
items = st.fixed_dictionaries(
    {"resourceUrl": paths}, optional={name: shaped for name in NAMES if name != "resourceUrl"}
)


def read_or_refuse(raw: bytes) -> ParsedBody:
    try:
        return parse_notifications(raw)
    except (InvalidRequest, LegacyFormat):
        return ParsedBody((), ())


@given(st.binary(max_size=200) | st.text().map(str.encode))
@example(b'{"value": [' + b'{"resourceData":' * 5000)
def test_no_bytes_do_harm(raw: bytes) -> None:
    assert isinstance(read_or_refuse(raw), ParsedBody)


@given(st.one_of(anything, shaped, st.fixed_dictionaries({"value": st.lists(items | shaped, max_size=5)})))
def test_no_json_does_harm_and_all_that_is_kept_fits_storage(content: object) -> None:
    for notification in read_or_refuse(json.dumps(content).encode()).notifications:
        assert canonical_id(notification.call_id) == notification.call_id
        assert notification_event(notification, NOON).digest
        for text in texts(asdict(notification)):
            assert len(text.encode("utf-16-le")) <= 2 * MAX_MESSAGE_LENGTH  # raises for half a character
            assert "\x00" not in text


def texts(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for member in value.values() for text in texts(member)]
        case _:
            return []


def test_the_ids_of_a_request_are_bounded_and_become_text_that_storage_takes() -> None:
    headers = {"Scenario-Id": " \ud800\x00scenario ", "X-Microsoft-Skype-Chain-ID": "c" * 1000}
    ids = RequestIds.from_headers(headers)

    assert ids.scenario_id == "\ufffd\ufffdscenario"
    assert ids.chain_id == "c" * MAX_REQUEST_ID_LENGTH
    assert RequestIds.from_headers({}) == RequestIds()
    assert RequestIds.from_headers({"Scenario-Id": "  "}) == RequestIds()
