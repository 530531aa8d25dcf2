"""Graph's calls API: the routes, their checks and their responses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from simulator import graph_models as models
from simulator.authorization import CREATE_CALL_ROLES, MEDIA_ROLE, Authorization, Caller
from simulator.calls import NewCall
from simulator.faults import OperationName
from simulator.operations import Operations, RecordingRequest
from simulator.records import Call, CallState, Operation, OperationKind
from simulator.refusals import (
    Refusal,
    bad_request,
    call_not_found,
    graph_error,
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
    from simulator.middleware import Handler, Middleware

CALL_PATHS = tuple(
    f"/{version}{path}"
    for version in ("v1.0", "beta")
    for path in ("/communications/calls", "/app/calls", "/applications/{app_id}/calls")
)
_CHUNK_SIZE = 64 * 1024
# pydantic's types of errors for a value outside of its limits
_LIMIT_ERRORS = {"greater_than_equal", "less_than_equal", "string_too_long", "too_long", "too_short"}


def routes(calls: Calls, operations: Operations, authorization: Authorization, middleware: Middleware) -> list[Route]:
    """Return Graph's routes, under both versions and all three paths, and the route of recordings' files."""
    handlers = _Handlers(calls, operations, authorization)
    table: list[tuple[str, str, OperationName, Handler]] = [
        ("POST", "", OperationName.CREATE, handlers.create),
        ("GET", "/{call_id}", OperationName.GET, handlers.get),
        ("DELETE", "/{call_id}", OperationName.DELETE, handlers.delete),
        ("POST", "/{call_id}/keepAlive", OperationName.KEEP_ALIVE, handlers.keep_alive),
        ("POST", "/{call_id}/answer", OperationName.ANSWER, handlers.answer),
        ("POST", "/{call_id}/reject", OperationName.REJECT, handlers.reject),
        ("POST", "/{call_id}/recordResponse", OperationName.RECORD_RESPONSE, handlers.record_response),
        ("POST", "/{call_id}/record", OperationName.RECORD, handlers.record),
        ("POST", "/{call_id}/playPrompt", OperationName.PLAY_PROMPT, handlers.play_prompt),
        ("POST", "/{call_id}/cancelMediaProcessing", OperationName.CANCEL, handlers.cancel),
        ("POST", "/{call_id}/subscribeToTone", OperationName.SUBSCRIBE_TO_TONE, handlers.subscribe_to_tone),
        ("GET", "/{call_id}/operations/{operation_id}", OperationName.GET_OPERATION, handlers.get_operation),
    ]
    call_routes = [
        middleware.route(method, calls_path + path, name, handler, graph_error)
        for calls_path in CALL_PATHS
        for method, path, name, handler in table
    ]
    file_path = "/recordings/{file_id}"
    download = middleware.route("GET", file_path, OperationName.DOWNLOAD, handlers.download, graph_error)
    return [*call_routes, download]


@dataclass(frozen=True, slots=True)
class _Handlers:
    calls: Calls
    operations: Operations
    authorization: Authorization

    async def create(self, request: Request) -> Response:
        """Create a call: 201 with the call, which is establishing. Its further states are notified."""
        caller = self._caller(request)
        if not caller.has_any_role(*CREATE_CALL_ROLES):
            raise missing_permission()
        body = await _read_body(request, models.CreateCall)
        if isinstance(body.media_config, models.AppHosted) and not caller.has_any_role(MEDIA_ROLE):
            raise missing_permission()
        _check_callback(body.callback_uri)
        if (body.tenant_id or caller.tenant_id).lower() != caller.tenant_id:
            raise other_tenant("Request authorization tenant mismatch.")
        details = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
        call = self.calls.create(NewCall(caller.tenant_id, caller.app_id, body.callback_uri, details=details))
        location = f"{str(request.url).rstrip('/')}/{call.id}"
        content = call_resource(call) | {"@odata.context": f"{request.base_url}v1.0/$metadata#app/calls/$entity"}
        return JSONResponse(content, 201, headers=graph_headers(request) | {"Location": location})

    async def get(self, request: Request) -> Response:
        """Return a call: 200."""
        call = self._call(request)
        context = f"{request.base_url}v1.0/$metadata#communications/calls/$entity"
        return JSONResponse(call_resource(call) | {"@odata.context": context}, headers=graph_headers(request))

    async def delete(self, request: Request) -> Response:
        """Hang up: 204. The call is terminating, and then terminated."""
        self.calls.hang_up(self._call(request))
        return Response(status_code=204, headers=graph_headers(request))

    async def keep_alive(self, request: Request) -> Response:
        """Renew the lease: 200 with an empty body, as text/plain (observed)."""
        call = self._active_call(request)
        if call.state is CallState.INCOMING:
            raise not_established()
        self.calls.keep_alive(call)
        return Response(b"", media_type="text/plain", headers=graph_headers(request))

    async def answer(self, request: Request) -> Response:
        """Answer an incoming call: 202. The call is establishing. A callbackUri replaces the present one."""
        call, body = await self._incoming_call(request, models.Answer)
        call.details = {**call.details, "mediaConfig": body.media_config.model_dump(by_alias=True, exclude_unset=True)}
        self.calls.answer(call, body.callback_uri)
        return Response(status_code=202, headers=graph_headers(request))

    async def reject(self, request: Request) -> Response:
        """Reject an incoming call: 202. The call is over."""
        call, body = await self._incoming_call(request, models.Reject)
        self.calls.reject(call, body.callback_uri)
        return Response(status_code=202, headers=graph_headers(request))

    async def record_response(self, request: Request) -> Response:
        """Start a recording: 200 with the operation and its Location."""
        call = self._media_call(request)
        body = await _read_body(request, models.RecordResponse)
        return self._record(request, call, _recording_request(OperationKind.RECORD_RESPONSE, body, request))

    async def record(self, request: Request) -> Response:
        """Start a recording as in 2018: 202 with a Location and an empty body."""
        call = self._media_call(request)
        body = await _read_body(request, models.Record)
        return self._record(request, call, _recording_request(OperationKind.RECORD, body, request))

    async def play_prompt(self, request: Request) -> Response:
        """Play prompts: 200 with the operation."""
        call = self._established_call(request)
        body = await _read_body(request, models.PlayPrompt)
        return _operation_response(request, self.operations.play(call, len(body.prompts), body.client_context))

    async def cancel(self, request: Request) -> Response:
        """Cancel the media operations: 200 with an operation that is completed already."""
        call = self._established_call(request)
        body = await _read_body(request, models.CancelMediaProcessing)
        return _operation_response(request, self.operations.cancel(call, body.client_context))

    async def subscribe_to_tone(self, request: Request) -> Response:
        """Notify the bot of the keys that the person presses: 200 with an operation that is completed already."""
        call = self._media_call(request)
        body = await _read_body(request, models.SubscribeToTone)
        return _operation_response(request, self.operations.subscribe_to_tone(call, body.client_context))

    async def get_operation(self, request: Request) -> Response:
        """Return an operation: 200."""
        operation = self._call(request).operations.get(canonical_id(request.path_params["operation_id"]))
        if operation is None:
            raise Refusal(404, "8522", "Operation not found.")
        return JSONResponse(operation_resource(operation), headers=graph_headers(request))

    async def download(self, request: Request) -> Response:
        """Return a recording's .wav in chunks: 200. It needs the recording's own token, not one for Graph."""
        stored = self.operations.file(request.path_params["file_id"])
        if stored is None:
            raise Refusal(404, "ResourceNotFound", "This recording does not exist, or no longer exists.")
        operation, wav = stored
        token = operation.recording.access_token if operation.recording else ""
        if request.headers.get("authorization") != f"Bearer {token}":
            raise unauthorized("The recording's access token is required.")
        return StreamingResponse(_chunks(wav), media_type="application/octet-stream")

    def _caller(self, request: Request) -> Caller:
        caller = self.authorization.authenticate(request)
        if canonical_id(request.path_params.get("app_id", caller.app_id)) != caller.app_id:
            raise Refusal(404, "ResourceNotFound", "The application in the path is not the application of the token.")
        return caller

    def _call(self, request: Request) -> Call:
        """Return the call in the path. The calls of other apps are not found.

        No role is required: roles were checked at the creation of the call.
        """
        caller = self._caller(request)
        call = self.calls.find(request.path_params["call_id"])
        if call is None or call.is_over or call.app_id != caller.app_id:
            raise call_not_found()
        if call.tenant_id != caller.tenant_id:
            raise other_tenant()
        return call

    def _active_call(self, request: Request) -> Call:
        """Return the call in the path for an action. A terminating call is not found any more."""
        call = self._call(request)
        if call.state is CallState.TERMINATING:
            raise call_not_found()
        return call

    def _established_call(self, request: Request) -> Call:
        call = self._active_call(request)
        if call.state is not CallState.ESTABLISHED:
            raise not_established()
        media = call.details.get("mediaConfig")
        if isinstance(media, dict) and media.get("@odata.type") == "#microsoft.graph.appHostedMediaConfig":
            raise bad_request("This action needs a call with serviceHostedMediaConfig.")
        return call

    async def _incoming_call[Body: models.Answer | models.Reject](
        self, request: Request, model: type[Body]
    ) -> tuple[Call, Body]:
        """Return the call in the path, which waits for an answer, and the body of the request."""
        call = self._active_call(request)
        body = await _read_body(request, model)
        if call.state is not CallState.INCOMING:
            raise Refusal(409, "8585", "The call is not in a state to be answered.")
        if body.callback_uri is not None:
            _check_callback(body.callback_uri)
        return call, body

    def _media_call(self, request: Request) -> Call:
        if not self._caller(request).has_any_role(MEDIA_ROLE):
            raise missing_permission()
        return self._established_call(request)

    def _record(self, request: Request, call: Call, recording: RecordingRequest) -> Response:
        operation = self.operations.record(call, recording)
        if operation.kind is OperationKind.RECORD:
            headers = graph_headers(request) | {"Location": _operation_url(request, operation)}
            return Response(status_code=202, headers=headers)
        return _operation_response(request, operation)


async def _read_body[Body: models.GraphModel](request: Request, model: type[Body]) -> Body:
    """Return the body of a request. An empty body is an empty object.

    Raises
    ------
    Refusal
        400: 8523 for a value outside of its limits, BadRequest for everything else.
    """
    raw = await request.body()
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        member = ".".join(str(part) for part in first["loc"]) or "the body"
        if first["type"] == "extra_forbidden":
            raise bad_request(f"Could not find a property named '{member}' on this type.") from error
        if first["type"] in _LIMIT_ERRORS:
            raise invalid_argument(f"Invalid argument: '{member}': {first['msg']}.") from error
        raise bad_request(f"Unable to read the request payload: '{member}': {first['msg']}.") from error


def _recording_request(
    kind: OperationKind, body: models.RecordResponse | models.Record, request: Request
) -> RecordingRequest:
    return RecordingRequest(
        kind=kind,
        base_url=str(request.base_url).rstrip("/"),
        client_context=body.client_context,
        prompts=len(body.prompts or []),
        max_duration=timedelta(seconds=body.max_record_duration_in_seconds),
        max_silence=timedelta(seconds=body.max_silence_timeout_in_seconds),
        barge_in=body.barge_in_allowed,
        stream=isinstance(body, models.Record) and body.stream_while_recording,
        stop_tones=tuple(body.stop_tones or ()),
    )


def _operation_response(request: Request, operation: Operation) -> Response:
    headers = graph_headers(request) | {"Location": _operation_url(request, operation)}
    return JSONResponse(operation_resource(operation), headers=headers)


def _operation_url(request: Request, operation: Operation) -> str:
    call_url = str(request.url.replace(query="")).rpartition("/")[0]
    return f"{call_url}/operations/{operation.id}"


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK_SIZE):
        yield data[start : start + _CHUNK_SIZE]


def _check_callback(uri: str) -> None:
    """Refuse a callbackUri that is not https, as Graph requires. Allow http to a loopback address too."""
    parts = urlsplit(uri)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
        raise invalid_argument("callbackUri must be https, or http to this machine.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
