"""Management routes of calls: register, list, read, hang up, record, operations."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import azure.functions as func

from functions.routing import COMMON_ERRORS, Caller, Parameter, Role, Route, endpoint, json_reply, reply
from shared.api.idempotency import (
    KEY_HEADER,
    KEY_PATTERN,
    MAX_KEY_LENGTH,
    RECORD_TTL,
    IdempotencyHandler,
    implied_key,
    parse_key,
)
from shared.api.requests import ListCallsQuery, RegisterCall
from shared.api.validation import read_json, read_query
from shared.api.views import (
    CallList,
    CallView,
    EventList,
    EventView,
    OperationList,
    RecordingView,
    call_view,
    operation_view,
    recording_view,
)
from shared.domain.calls import MAX_ID_LENGTH, Status, StoredResponse, canonical_id
from shared.graph.recording import RecordRequest
from shared.services import services

if TYPE_CHECKING:
    from shared.api.management import Management
    from shared.api.records import CallWithWatermark, Records

blueprint = func.Blueprint()

ID_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^(?!\.{1,2}$)[^/\\#?%|\s\u0000-\u001F\u007F-\u009F\uFFFD-\uFFFF]+$",
}
CALL_ID = Parameter("callId", "path", "Graph's id of the call, in either of its two forms.", ID_SCHEMA)
OPERATION_ID = Parameter("operationId", "path", "Graph's id of the operation.", ID_SCHEMA)
IDEMPOTENCY_KEY = Parameter(
    KEY_HEADER,
    "header",
    f"In double quotes. For {RECORD_TTL // timedelta(hours=1)} hours the same key and request get the same response, "
    "and Graph is not asked again.",
    {"type": "string", "minLength": 3, "maxLength": MAX_KEY_LENGTH + 2, "pattern": KEY_PATTERN},
)


@endpoint(
    blueprint,
    Route(
        method="PUT",
        path="calls/{callId}",
        role=Role.MANAGE,
        request=RegisterCall,
        parameters=(CALL_ID,),
        responses={201: CallView, 200: CallView},
        errors=(*COMMON_ERRORS, 404, 409, 413, 415),
        response_headers={"Location": "The path of the call."},
    ),
)
async def register_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Register a call.

    Call Keeper then renews it until it ends. Idempotent. A call that is on record as ended stays ended.
    """
    call_id = canonical_id(req.route_params["callId"])
    body = read_json(RegisterCall, req.get_body() or b"{}")
    call, is_new = await _management(caller).register(
        call_id, body.tenant_id, body.started_at, body.metadata, app_id=body.app_id, to=body.to, by=caller.name
    )
    return _call_response(call, 201 if is_new else 200, {"Location": f"/api/calls/{quote(call_id, safe='')}"})


@endpoint(
    blueprint,
    Route(method="GET", path="calls", query=ListCallsQuery, responses={200: CallList}, errors=COMMON_ERRORS),
)
async def list_calls(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """List calls.

    Active calls are in order of id, ended calls newest first.
    """
    query = read_query(ListCallsQuery, req.params)
    page = await _records(caller).list_calls(
        query.status, query.tenant_id, query.limit, query.continuation, caller.name
    )
    views = [_view(call) for call in page.calls]
    return reply(CallList(value=views, continuation=page.continuation, unreadable=list(page.unreadable)))


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="calls/{callId}",
        parameters=(CALL_ID,),
        responses={200: CallView},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def read_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Read a call."""
    call = await _records(caller).read_call(canonical_id(req.route_params["callId"]))
    return _call_response(call)


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="calls/{callId}/events",
        parameters=(CALL_ID,),
        responses={200: EventList},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def list_events(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Read the event log of a call."""
    events = await _records(caller).list_events(canonical_id(req.route_params["callId"]))
    return reply(EventList(value=[EventView.model_validate(event) for event in events]))


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="calls/{callId}/hangup",
        role=Role.MANAGE,
        parameters=(CALL_ID, IDEMPOTENCY_KEY),
        responses={202: CallView, 200: CallView},
        errors=(*COMMON_ERRORS, 404, 409, 422, 502, 504),
    ),
)
async def hang_up_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Hang up a call.

    Sends Graph's DELETE. 202: Graph accepted it, and the end comes later by notification. 200: the call had ended
    already.
    """
    call_id = canonical_id(req.route_params["callId"])

    async def act() -> StoredResponse:
        call = await _management(caller).hang_up(call_id, caller.name)
        status = 200 if call.call.status is Status.ENDED else 202
        return StoredResponse(status, _view(call).model_dump_json(by_alias=True))

    return await _respond_idempotently(req, caller, call_id, "hangup", act, is_repeatable=True)


@endpoint(
    blueprint,
    Route(
        method="POST",
        path="calls/{callId}/record",
        role=Role.MANAGE,
        request=RecordRequest,
        parameters=(CALL_ID, IDEMPOTENCY_KEY),
        responses={202: RecordingView},
        errors=(*COMMON_ERRORS, 404, 409, 413, 415, 422, 502),
        response_headers={"Location": "The path of the operation."},
    ),
)
async def record_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Record a participant's answer.

    Sends Graph's recordResponse (or the older record): a short answer after an optional prompt, not the whole call.
    The call must have service-hosted media. After 502 and 503 nothing was recorded, and repeating is safe. After 409
    outcome-unknown the recording may have started; after 409 recording-not-persisted it has started. Do not repeat
    these two. Without an Idempotency-Key, the same request does not reach Graph for ten minutes after them.
    """
    call_id = canonical_id(req.route_params["callId"])
    body = read_json(RecordRequest, req.get_body() or b"{}", context=services().settings.graph_record_api)

    async def act() -> StoredResponse:
        call, operation = await _management(caller).record(call_id, body, caller.name)
        location = f"/api/calls/{quote(call_id, safe='')}/operations/{quote(operation.id, safe='')}"
        # The response may be stored as an idempotency record, so it has neither the recording's location nor its
        # token. Only the operation's own row and route have them.
        return StoredResponse(
            202, recording_view(operation, call, show_secrets=False).model_dump_json(by_alias=True), location
        )

    return await _respond_idempotently(req, caller, call_id, f"record {body.graph_body()}", act, is_repeatable=False)


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="calls/{callId}/operations",
        parameters=(CALL_ID,),
        responses={200: OperationList},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def list_operations(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """List the operations of a call.

    Oldest first, of every kind, without the location and token of recordings.
    """
    call, operations = await _records(caller).list_operations(canonical_id(req.route_params["callId"]))
    return reply(OperationList(value=[operation_view(operation, call) for operation in operations]))


@endpoint(
    blueprint,
    Route(
        method="GET",
        path="calls/{callId}/operations/{operationId}",
        parameters=(CALL_ID, OPERATION_ID),
        responses={200: RecordingView},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def read_operation(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Read an operation.

    recordingLocation and recordingAccessToken are null for a caller without Recordings.Read.
    """
    call_id, operation_id = (canonical_id(req.route_params[name]) for name in ("callId", "operationId"))
    call, operation = await _records(caller).read_operation(call_id, operation_id)
    return reply(recording_view(operation, call, show_secrets=caller.has_role(Role.RECORDINGS)))


async def _respond_idempotently(  # noqa: PLR0913 (the facts of one request)
    req: func.HttpRequest,
    caller: Caller,
    call_id: str,
    request: str,
    act: Callable[[], Awaitable[StoredResponse]],
    *,
    is_repeatable: bool,
) -> func.HttpResponse:
    """Carry out a request once for each `Idempotency-Key`, and return its response.

    Without a key, a request that is not repeatable is not carried out again while the outcome of the first is open.

    Parameters
    ----------
    request
        The request as text, for `parse_key`. Its first word names the event that is added before Graph is asked.
    """
    key = parse_key(req.headers.get(KEY_HEADER), caller.name, request)
    if key is None and is_repeatable:
        return _to_http_response(await act())
    await _records(caller).check_exists(call_id)
    handler = IdempotencyHandler(
        services().store, services().clock, f"{request.partition(' ')[0]}Requested", is_repeatable
    )
    return _to_http_response(await handler.handle(call_id, key or implied_key(caller.name, request), act))


def _to_http_response(response: StoredResponse) -> func.HttpResponse:
    headers = {"Location": response.location} if response.location else {}
    return json_reply(response.body, response.status, headers)


def _management(caller: Caller) -> "Management":
    return services().management.scoped_to(caller.scope)


def _records(caller: Caller) -> "Records":
    return _management(caller).records


def _view(call: "CallWithWatermark") -> CallView:
    now, timing = services().clock.now(), services().settings.timing
    return call_view(services().apps.with_app_id(call.call), call.watermark, timing, now)


def _call_response(
    call: "CallWithWatermark", status: int = 200, headers: dict[str, str] | None = None
) -> func.HttpResponse:
    return reply(_view(call), status, headers)
