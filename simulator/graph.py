"""Graph's calls API: the routes, what each checks, and what it answers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from simulator import graph_models as bodies
from simulator.authorization import MEDIA, PLACE_CALLS, Authorization, Caller
from simulator.calls import NewCall
from simulator.faults import OperationName
from simulator.operations import Operations, RecordingRequest
from simulator.records import Call, Kind, Operation, State
from simulator.refusals import (
    Refusal,
    as_graph,
    bad_request,
    call_not_found,
    graph_headers,
    invalid_argument,
    missing_permission,
    not_established,
    other_tenant,
    unauthorized,
)
from simulator.resources import call_resource, operation_resource
from simulator.wire import canonical_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.routing import Route

    from simulator.calls import Calls
    from simulator.gate import Gate, Handler

ROOTS = tuple(
    f"/{version}{path}"
    for version in ("v1.0", "beta")
    for path in ("/communications/calls", "/app/calls", "/applications/{app_id}/calls")
)
_CHUNK = 64 * 1024
_LIMIT_ERRORS = {"greater_than_equal", "less_than_equal", "string_too_long", "too_long", "too_short"}


def routes(calls: Calls, operations: Operations, authorization: Authorization, gate: Gate) -> list[Route]:
    """Graph's routes, under both versions and all three paths, and the recordings' own."""
    served = _Routes(calls, operations, authorization)
    table: list[tuple[str, str, OperationName, Handler]] = [
        ("POST", "", OperationName.CREATE, served.create),
        ("GET", "/{call_id}", OperationName.GET, served.get),
        ("DELETE", "/{call_id}", OperationName.DELETE, served.delete),
        ("POST", "/{call_id}/keepAlive", OperationName.KEEP_ALIVE, served.keep_alive),
        ("POST", "/{call_id}/answer", OperationName.ANSWER, served.answer),
        ("POST", "/{call_id}/recordResponse", OperationName.RECORD_RESPONSE, served.record_response),
        ("POST", "/{call_id}/record", OperationName.RECORD, served.record),
        ("POST", "/{call_id}/playPrompt", OperationName.PLAY_PROMPT, served.play_prompt),
        ("POST", "/{call_id}/cancelMediaProcessing", OperationName.CANCEL, served.cancel),
        ("GET", "/{call_id}/operations/{operation_id}", OperationName.GET_OPERATION, served.get_operation),
    ]
    found = [
        gate.route(method, root + path, name, handler, as_graph)
        for root in ROOTS
        for method, path, name, handler in table
    ]
    download = gate.route("GET", "/recordings/{file_id}", OperationName.DOWNLOAD, served.download, as_graph)
    return [*found, download]


@dataclass(frozen=True, slots=True)
class _Routes:
    calls: Calls
    operations: Operations
    authorization: Authorization

    async def create(self, request: Request) -> Response:
        """201 with the call, which is establishing; what becomes of it is notified."""
        caller = self._caller(request)
        if not caller.may(*PLACE_CALLS):
            raise missing_permission()
        sent = await _read(request, bodies.CreateCall)
        if isinstance(sent.media_config, bodies.AppHosted) and not caller.may(MEDIA):
            raise missing_permission()
        _check_callback(sent.callback_uri)
        if (sent.tenant_id or caller.tenant_id).lower() != caller.tenant_id:
            raise other_tenant("Request authorization tenant mismatch.")
        details = sent.model_dump(mode="json", by_alias=True, exclude_unset=True)
        call = self.calls.create(NewCall(caller.tenant_id, caller.app_id, sent.callback_uri, details=details))
        location = f"{str(request.url).rstrip('/')}/{call.id}"
        content = call_resource(call) | {"@odata.context": f"{request.base_url}v1.0/$metadata#app/calls/$entity"}
        return JSONResponse(content, 201, headers=graph_headers(request) | {"Location": location})

    async def get(self, request: Request) -> Response:
        """200 with the call."""
        call = self._call(request)
        context = f"{request.base_url}v1.0/$metadata#communications/calls/$entity"
        return JSONResponse(call_resource(call) | {"@odata.context": context}, headers=graph_headers(request))

    async def delete(self, request: Request) -> Response:
        """204; the call is terminating, and soon over."""
        self.calls.hang_up(self._call(request))
        return Response(status_code=204, headers=graph_headers(request))

    async def keep_alive(self, request: Request) -> Response:
        """200 with nothing, as text/plain (observed); the lease begins anew."""
        call = self._living(request)
        if call.state is State.INCOMING:
            raise not_established()
        self.calls.keep_alive(call)
        return Response(b"", media_type="text/plain", headers=graph_headers(request))

    async def answer(self, request: Request) -> Response:
        """202; the call is establishing, and its notifications go to the new callbackUri if one is given."""
        call = self._living(request)
        sent = await _read(request, bodies.Answer)
        if call.state is not State.INCOMING:
            raise Refusal(409, "8585", "The call is not in a state to be answered.")
        if sent.callback_uri is not None:
            _check_callback(sent.callback_uri)
        call.details = {**call.details, "mediaConfig": sent.media_config.model_dump(by_alias=True, exclude_unset=True)}
        self.calls.answer(call, sent.callback_uri)
        return Response(status_code=202, headers=graph_headers(request))

    async def record_response(self, request: Request) -> Response:
        """200 with the operation and its Location."""
        call = self._with_media(request)
        sent = await _read(request, bodies.RecordResponse)
        return self._queued(request, call, _recording(Kind.RECORD_RESPONSE, sent, request))

    async def record(self, request: Request) -> Response:
        """202 with a Location and nothing else, as in 2018."""
        call = self._with_media(request)
        sent = await _read(request, bodies.Record)
        return self._queued(request, call, _recording(Kind.RECORD, sent, request))

    async def play_prompt(self, request: Request) -> Response:
        """200 with the operation."""
        call = self._established(request)
        sent = await _read(request, bodies.PlayPrompt)
        return _accepted(request, self.operations.play(call, len(sent.prompts), sent.client_context))

    async def cancel(self, request: Request) -> Response:
        """200 with an operation that is completed already."""
        call = self._established(request)
        sent = await _read(request, bodies.CancelMediaProcessing)
        return _accepted(request, self.operations.cancel(call, sent.client_context))

    async def get_operation(self, request: Request) -> Response:
        """200 with the operation."""
        operation = self._call(request).operations.get(canonical_id(request.path_params["operation_id"]))
        if operation is None:
            raise Refusal(404, "8522", "Operation not found.")
        return JSONResponse(operation_resource(operation), headers=graph_headers(request))

    async def download(self, request: Request) -> Response:
        """200 with the .wav, in chunks; opened by the recording's own token, not by Graph's."""
        found = self.operations.file(request.path_params["file_id"])
        if found is None:
            raise Refusal(404, "ResourceNotFound", "There is no recording here (any more).")
        operation, wav = found
        token = operation.recording.access_token if operation.recording else ""
        if request.headers.get("authorization") != f"Bearer {token}":
            raise unauthorized("The recording's access token is needed.")
        return StreamingResponse(_chunks(wav), media_type="application/octet-stream")

    def _caller(self, request: Request) -> Caller:
        caller = self.authorization.check(request)
        if canonical_id(request.path_params.get("app_id", caller.app_id)) != caller.app_id:
            raise Refusal(404, "ResourceNotFound", "The application in the path is not the one of the token.")
        return caller

    def _call(self, request: Request) -> Call:
        """The call in the path; another app's does not exist for this one. Permissions were checked at creation."""
        caller = self._caller(request)
        call = self.calls.find(request.path_params["call_id"])
        if call is None or call.over or call.app_id != caller.app_id:
            raise call_not_found()
        if call.tenant_id != caller.tenant_id:
            raise other_tenant()
        return call

    def _living(self, request: Request) -> Call:
        """A call that is not about to end: one that is terminating is already gone for every action."""
        call = self._call(request)
        if call.state is State.TERMINATING:
            raise call_not_found()
        return call

    def _established(self, request: Request) -> Call:
        call = self._living(request)
        if call.state is not State.ESTABLISHED:
            raise not_established()
        media = call.details.get("mediaConfig")
        if isinstance(media, dict) and media.get("@odata.type") == "#microsoft.graph.appHostedMediaConfig":
            raise bad_request("This action needs a call with serviceHostedMediaConfig.")
        return call

    def _with_media(self, request: Request) -> Call:
        if not self._caller(request).may(MEDIA):
            raise missing_permission()
        return self._established(request)

    def _queued(self, request: Request, call: Call, wanted: RecordingRequest) -> Response:
        operation = self.operations.record(call, wanted)
        if operation.kind is Kind.RECORD:
            headers = graph_headers(request) | {"Location": _operation_url(request, operation)}
            return Response(status_code=202, headers=headers)
        return _accepted(request, operation)


async def _read[Body: bodies.GraphModel](request: Request, model: type[Body]) -> Body:
    """The body, or 400: 8523 for a value outside of its limits, BadRequest for everything else."""
    raw = await request.body()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        if first["type"] == "extra_forbidden":
            raise bad_request(f"Could not find a property named '{where}' on this type.") from error
        if first["type"] in _LIMIT_ERRORS:
            raise invalid_argument(f"Invalid argument: '{where}': {first['msg']}.") from error
        raise bad_request(f"Unable to read the request payload: '{where}': {first['msg']}.") from error


def _recording(kind: Kind, sent: bodies.RecordResponse | bodies.Record, request: Request) -> RecordingRequest:
    return RecordingRequest(
        kind=kind,
        base_url=str(request.base_url).rstrip("/"),
        client_context=sent.client_context,
        prompts=len(sent.prompts or []),
        max_duration=sent.max_record_duration_in_seconds,
        max_silence=sent.max_silence_timeout_in_seconds,
        barge_in=sent.barge_in_allowed,
        stream=isinstance(sent, bodies.Record) and sent.stream_while_recording,
    )


def _accepted(request: Request, operation: Operation) -> Response:
    headers = graph_headers(request) | {"Location": _operation_url(request, operation)}
    return JSONResponse(operation_resource(operation), headers=headers)


def _operation_url(request: Request, operation: Operation) -> str:
    call_url = str(request.url.replace(query="")).rpartition("/")[0]
    return f"{call_url}/operations/{operation.id}"


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _check_callback(uri: str) -> None:
    """Graph: must be https. Here http too, to a loopback address."""
    parts = urlsplit(uri)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
        raise invalid_argument("callbackUri must be https (or http, to this machine).")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
