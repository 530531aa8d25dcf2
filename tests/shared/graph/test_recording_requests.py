"""Requests for recordings over real HTTP, and the operations in Graph's answers."""

import pytest
from aiohttp import web

from shared import errors
from shared.api.validation import read_json
from shared.domain.notifications import ResultInfo
from shared.graph.recording import RecordRequest, caller_context
from tests.shared.graph.graph_answers import (
    CALL,
    DEFAULTS,
    OPERATION,
    TENANT,
    Connect,
    Serve,
    answering,
    done,
    found,
    recording,
)


async def test_a_recording_is_asked_for_in_graphs_words(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    body = {
        "@odata.type": "#microsoft.graph.recordOperation",
        "id": OPERATION.upper().replace("-", ""),
        "status": "running",
        "resultInfo": None,
        "recordingLocation": None,
        "clientContext": "mine",
    }
    graph = connect(await serve(answering(lambda: web.json_response(body), seen=seen)))
    request = read_json(RecordRequest, b'{"playBeep": false, "stopTones": ["#"]}', context="recordResponse")

    assert await graph.record(CALL, TENANT, request) == recording(client_context="mine")
    assert seen[0].raw_path == f"/v1.0/communications/calls/{CALL}/recordResponse"
    sent = await seen[0].json()
    assert caller_context(sent.pop("clientContext")) is None
    assert sent == {"playBeep": False, "stopTones": ["#"]}


async def test_each_recording_has_a_client_context_of_the_caller_or_of_our_own(serve: Serve, connect: Connect) -> None:
    """Bots on Microsoft's SDK answer 400 to a whole notification body whose operation has none."""
    seen: list[web.Request] = []
    graph = connect(await serve(answering(found({"id": OPERATION}), seen=seen)))

    for body in (b"{}", b"{}", b'{"clientContext": null}', b'{"clientContext": ""}', b'{"clientContext": "mine"}'):
        await graph.record(CALL, TENANT, read_json(RecordRequest, body, context="recordResponse"))

    *own, mine = [(await request.json())["clientContext"] for request in seen]
    assert mine == caller_context(mine) == "mine"
    assert len(set(own)) == len(own) == 4
    assert all(context and caller_context(context) is None for context in own)


async def test_a_recording_may_be_over_at_once(serve: Serve, connect: Connect) -> None:
    body = {
        "id": OPERATION,
        "status": "failed",
        "resultInfo": {"code": "400", "subcode": "8508", "message": "Cancelled."},
        "recordResourceLocation": "https://file.example/1",
        "recordResourceAccessToken": "s3cret",
    }
    graph = connect(await serve(answering(found(body))))

    operation = await graph.record(CALL, TENANT, DEFAULTS)

    assert operation.status == "failed"
    assert operation.result == ResultInfo(400, 8508, message="Cancelled.")
    assert (operation.recording_location, operation.recording_access_token) == ("https://file.example/1", "s3cret")
    assert "s3cret" not in repr(operation)


async def test_the_old_action_is_in_beta(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(
        await serve(answering(lambda: web.json_response({"id": OPERATION}), seen=seen)), GRAPH_RECORD_API="record"
    )

    await graph.record(CALL, TENANT, read_json(RecordRequest, b'{"streamWhileRecording": true}', context="record"))

    assert seen[0].raw_path == f"/beta/communications/calls/{CALL}/record"
    sent = await seen[0].json()
    assert sent.pop("clientContext")
    assert sent == {"streamWhileRecording": True}


@pytest.mark.parametrize(
    "location",
    [
        f"https://graph.microsoft.com/beta/app/calls/{CALL}/operations/{OPERATION}",
        f"/communications/calls/{CALL}/operations/{OPERATION.upper().replace('-', '')}/",
        f"operations/{OPERATION}?x=1",
    ],
)
@pytest.mark.parametrize("body", ["", "{}", '{"id": "a/b"}', '{"id": 5}'])
async def test_the_location_names_the_operation_where_the_body_does_not(
    serve: Serve, connect: Connect, location: str, body: str
) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=202, headers={"location": location}, text=body))))

    assert await graph.record(CALL, TENANT, DEFAULTS) == recording()


async def test_the_location_counts_even_if_the_body_breaks_off(serve_bytes: Serve, connect: Connect) -> None:
    answer = f"HTTP/1.1 200 OK\r\nlocation: /x/operations/{OPERATION}\r\ncontent-length: 99\r\n\r\n{{".encode()

    operation = await connect(await serve_bytes(answer)).record(CALL, TENANT, DEFAULTS)

    assert operation.operation_id == OPERATION


@pytest.mark.parametrize("location", ["", f"/communications/calls/{CALL}", "/operations/", "http://["])
async def test_a_recording_without_an_operation_may_have_started(serve: Serve, connect: Connect, location: str) -> None:
    graph = connect(await serve(answering(lambda: web.Response(status=202, headers={"location": location}))))

    with pytest.raises(errors.GraphUnavailable, match="may have started"):
        await graph.record(CALL, TENANT, DEFAULTS)


async def test_a_recording_is_not_sent_again_after_an_error(serve: Serve, connect: Connect) -> None:
    seen: list[web.Request] = []
    graph = connect(await serve(answering(lambda: web.Response(status=503), done, seen=seen)))

    with pytest.raises(errors.GraphUnavailable):
        await graph.record(CALL, TENANT, DEFAULTS)

    assert len(seen) == 1
