"""Requests for a recording, in the new form and in the old one."""

import json

import pytest
from pydantic import TypeAdapter

from shared.api.validation import read_json
from shared.errors import InvalidRequest
from shared.graph.recording import RecordRequest
from tests.support.recording_examples import RECORD_OF_2018

# The example of Graph's call-record page, v1.0.
NEW = {
    "bargeInAllowed": True,
    "clientContext": "d45324c1-fcb5-430a-902c-f20af696537c",
    "prompts": [
        {
            "@odata.type": "#microsoft.graph.mediaPrompt",
            "mediaInfo": {
                "@odata.type": "#microsoft.graph.mediaInfo",
                "uri": "https://cdn.contoso.com/beep.wav",
                "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
            },
        }
    ],
    "maxRecordDurationInSeconds": 10,
    "initialSilenceTimeoutInSeconds": 5,
    "maxSilenceTimeoutInSeconds": 2,
    "playBeep": True,
    "stopTones": ["#", "1", "*"],
}


def read(body: object, api: str = "recordResponse") -> RecordRequest:
    return read_json(RecordRequest, json.dumps(body).encode(), context=api)


def test_the_documents_examples_are_sent_as_they_are() -> None:
    assert read(NEW).graph_body() == NEW
    assert read(NEW, "record").graph_body() == NEW
    assert read(RECORD_OF_2018, "record").graph_body() == RECORD_OF_2018


def test_the_old_example_is_refused_by_the_new_action_with_each_reason() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(RECORD_OF_2018)

    faults = dict(caught.value.errors)
    assert set(faults) == {
        "/prompts/0/loop",
        "/maxRecordDurationInSeconds",
        "/recordingFormat",
        "/streamWhileRecording",
        "/stopTones/1",
    }
    assert "GRAPH_RECORD_API=record" in faults["/streamWhileRecording"]
    assert "1 to 120 seconds" in faults["/maxRecordDurationInSeconds"]


@pytest.mark.parametrize("body", [b"{}", b'{"prompts": null, "playBeep": null}'])
def test_what_is_not_set_is_not_sent(body: bytes) -> None:
    assert read_json(RecordRequest, body, context="recordResponse").graph_body() == {}


def test_a_prompt_is_given_the_type_that_graph_wants() -> None:
    body = read({"prompts": [{"mediaInfo": {"uri": "https://cdn.example/a.wav"}}]}).graph_body()

    assert body == {
        "prompts": [{"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "https://cdn.example/a.wav"}}]
    }


@pytest.mark.parametrize("api", ["recordResponse", "record"])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        pytest.param({"prompts": [{"mediaInfo": {"uri": "https://a.example"}}] * 2}, "/prompts", id="two prompts"),
        ({"prompts": [{"mediaInfo": {"uri": "http://a.example"}}]}, "/prompts/0/mediaInfo/uri"),
        ({"prompts": [{"mediaInfo": {"uri": "https://"}}]}, "/prompts/0/mediaInfo/uri"),
        ({"prompts": [{"mediaInfo": {"uri": "https://[::"}}]}, "/prompts/0/mediaInfo/uri"),
        pytest.param(
            {"prompts": [{"mediaInfo": {"uri": "https://a.example/ b"}}]},
            "/prompts/0/mediaInfo/uri",
            id="space in the URI",
        ),
        ({"prompts": [{"mediaInfo": {}}]}, "/prompts/0/mediaInfo/uri"),
        ({"prompts": [{}]}, "/prompts/0/mediaInfo"),
        pytest.param(
            {"prompts": [{"@odata.type": "x", "mediaInfo": {"uri": "https://a.example"}}]},
            "/prompts/0/@odata.type",
            id="type of no prompt",
        ),
        ({"prompts": {}}, "/prompts"),
        ({"bargeInAllowed": "yes"}, "/bargeInAllowed"),
        ({"bargeInAllowed": 1}, "/bargeInAllowed"),
        ({"maxRecordDurationInSeconds": 0}, "/maxRecordDurationInSeconds"),
        ({"maxRecordDurationInSeconds": 1.5}, "/maxRecordDurationInSeconds"),
        ({"maxRecordDurationInSeconds": "5"}, "/maxRecordDurationInSeconds"),
        ({"maxRecordDurationInSeconds": 2**31}, "/maxRecordDurationInSeconds"),
        ({"initialSilenceTimeoutInSeconds": -1}, "/initialSilenceTimeoutInSeconds"),
        ({"maxSilenceTimeoutInSeconds": True}, "/maxSilenceTimeoutInSeconds"),
        ({"stopTones": ["#", "x"]}, "/stopTones/1"),
        ({"stopTones": [""]}, "/stopTones/0"),
        ({"stopTones": [5]}, "/stopTones/0"),
        ({"stopTones": "#"}, "/stopTones"),
        pytest.param({"stopTones": ["#"] * 17}, "/stopTones", id="17 stop tones"),
        pytest.param({"clientContext": "x" * 257}, "/clientContext", id="257 characters of context"),
        ({"maxDuration": 5}, "/maxDuration"),
        ({"a/b~c": 5}, "/a~1b~0c"),
        ({"max_record_duration_in_seconds": 5}, "/max_record_duration_in_seconds"),
        ([], ""),
    ],
)
def test_a_fault_is_named_by_its_place(body: object, pointer: str, api: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body, api)

    assert [where for where, _ in caught.value.errors] == [pointer]


@pytest.mark.parametrize("tone", [*"0123456789*#ABCD"])
def test_every_dtmf_tone_may_stop_it(tone: str) -> None:
    assert read({"stopTones": [tone]}).graph_body() == {"stopTones": [tone]}


@pytest.mark.parametrize("seconds", [1, 120])
def test_the_limits_are_within(seconds: int) -> None:
    body = {"maxRecordDurationInSeconds": seconds, "clientContext": "x" * 256}

    assert read(body).graph_body() == body


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b"nothing", b"[" * 100_000])
def test_what_is_no_json_is_said_to_be_none(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        read_json(RecordRequest, raw, context="recordResponse")


def test_the_parameters_are_those_of_graphs_action() -> None:
    names = set(TypeAdapter(RecordRequest).json_schema()["properties"])

    assert names == NEW.keys() | {"recordingFormat", "streamWhileRecording"}


def test_faults_do_not_repeat_what_was_sent() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({"clientContext": "s3cret" * 99, "prompts": [{"mediaInfo": {"uri": "http://s3cret.example"}}]})

    assert "s3cret" not in str(caught.value) + str(caught.value.errors)


@pytest.mark.parametrize("api", ["recordResponse", "record"])
def test_members_that_are_null_count_as_left_out(api: str) -> None:
    """Clients made by NSwag write each member that was not set as null."""
    names = [field.alias for field in RecordRequest.model_fields.values()]
    prompt = {
        "@odata.type": None,
        "loop": None,
        "mediaInfo": {"@odata.type": None, "uri": "https://cdn.contoso.com/beep.wav", "resourceId": None},
    }
    body = dict.fromkeys(names) | {"prompts": [prompt], "playBeep": False}
    wish = read_json(RecordRequest, json.dumps(body).encode(), context=api)
    assert wish.graph_body() == {
        "prompts": [
            {"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "https://cdn.contoso.com/beep.wav"}}
        ],
        "playBeep": False,
    }
