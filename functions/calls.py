"""Management routes: register, list, read, hang up, record, operations."""

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import azure.functions as func

from functions.routing import Caller, Parameter, Role, Route, endpoint, json_reply, reply
from shared.api.idempotency import (
    KEY_HEADER,
    KEY_PATTERN,
    MAX_KEY_LENGTH,
    RECORD_TTL,
    IdempotencyHandler,
    implied_key,
    parse_key,
)
from shared.api.validation import read_json
from shared.api.views import (
    GUID_PATTERN,
    CallList,
    CallView,
    EventList,
    EventView,
    OperationList,
    RecordingView,
    RegisterCall,
    call_view,
    operation_view,
    recording_view,
)
from shared.domain.calls import MAX_ID_LENGTH, Status, StoredResponse, canonical_id
from shared.errors import InvalidRequest
from shared.graph.recording import RecordRequest
from shared.identifiers import NOT_A_GUID, is_guid
from shared.services import services

if TYPE_CHECKING:
    from shared.api.management import Management
    from shared.api.records import CallWithWatermark, Records

blueprint = func.Blueprint()

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 200
ID_SCHEMA = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_LENGTH,
    "pattern": r"^(?!\.{1,2}$)[^/\\#?%|\s\u0000-\u001F\u007F-\u009F\uFFFD-\uFFFF]+$",
}
CALL_ID = Parameter("callId", "path", "Graph's id of the call, in either of its forms.", ID_SCHEMA)
IDEMPOTENCY_KEY = Parameter(
    KEY_HEADER,
    "header",
    f"In double quotes. For {RECORD_TTL // timedelta(hours=1)} hours the same key and request get the same answer, "
    "and Graph is not asked again.",
    {"type": "string", "minLength": 3, "maxLength": MAX_KEY_LENGTH + 2, "pattern": KEY_PATTERN},
)
OPERATION_ID = Parameter("operationId", "path", "Graph's id of the operation.", ID_SCHEMA)
COMMON_ERRORS = (400, 401, 403, 500, 503)


@endpoint(
    blueprint,
    Route(
        name="register_call",
        method="PUT",
        path="calls/{callId}",
        summary="Register a call",
        description="Call Keeper then renews it until it ends. Idempotent. A call known to have ended stays so.",
        role=Role.MANAGE,
        request=RegisterCall,
        parameters=(CALL_ID,),
        responses={201: CallView, 200: CallView},
        errors=(*COMMON_ERRORS, 404, 409, 413, 415),
        response_headers={"Location": "Where the record is."},
    ),
)
async def register_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Make a call known."""
    call_id = canonical_id(req.route_params["callId"])
    body = read_json(RegisterCall, req.get_body() or b"{}")
    call, is_new = await _management(caller).register(
        call_id, body.tenant_id, body.started_at, body.metadata, app_id=body.app_id, by=caller.name
    )
    return _call_response(call, 201 if is_new else 200, {"Location": f"/api/calls/{quote(call_id, safe='')}"})


@endpoint(
    blueprint,
    Route(
        name="list_calls",
        method="GET",
        path="calls",
        summary="List calls",
        description="Active calls by id, ended ones newest first.",
        parameters=(
            Parameter("status", "query", "Which calls; default active.", {"enum": [*Status], "default": "active"}),
            Parameter("tenantId", "query", "Only calls of this tenant.", {"type": "string", "pattern": GUID_PATTERN}),
            Parameter(
                "limit",
                "query",
                "How many at most.",
                {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE},
            ),
            Parameter("continuation", "query", "From the page before."),
        ),
        responses={200: CallList},
        errors=COMMON_ERRORS,
    ),
)
async def list_calls(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """A page of calls."""
    status, limit = (
        _parse_status(req.params.get("status", "active")),
        _parse_limit(req.params.get("limit", str(DEFAULT_PAGE_SIZE))),
    )
    tenant_id = _check_tenant(req.params.get("tenantId"))
    page = await _records(caller).list_calls(status, tenant_id, limit, req.params.get("continuation"), caller.name)
    views = [_view(shown) for shown in page.calls]
    return reply(CallList(value=views, continuation=page.continuation, unreadable=list(page.unreadable)))


@endpoint(
    blueprint,
    Route(
        name="read_call",
        method="GET",
        path="calls/{callId}",
        summary="Read a call",
        parameters=(CALL_ID,),
        responses={200: CallView},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def read_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """The record: state, lease, termination."""
    call = await _records(caller).read_call(canonical_id(req.route_params["callId"]))
    return _call_response(call)


@endpoint(
    blueprint,
    Route(
        name="list_events",
        method="GET",
        path="calls/{callId}/events",
        summary="Read a call's story",
        parameters=(CALL_ID,),
        responses={200: EventList},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def list_events(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """What happened to a call, oldest first."""
    events = await _records(caller).list_events(canonical_id(req.route_params["callId"]))
    return reply(EventList(value=[EventView.model_validate(event) for event in events]))


@endpoint(
    blueprint,
    Route(
        name="hang_up_call",
        method="POST",
        path="calls/{callId}/hangup",
        summary="Hang up",
        description="Graph's DELETE. 202: asked, the end is told later. 200: the call had ended already.",
        role=Role.MANAGE,
        parameters=(CALL_ID, IDEMPOTENCY_KEY),
        responses={202: CallView, 200: CallView},
        errors=(*COMMON_ERRORS, 404, 409, 422, 502, 504),
    ),
)
async def hang_up_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """End a call at Graph."""
    call_id = canonical_id(req.route_params["callId"])

    async def act() -> StoredResponse:
        call = await _management(caller).hang_up(call_id, caller.name)
        status = 200 if call.call.status is Status.ENDED else 202
        return StoredResponse(status, _view(call).model_dump_json(by_alias=True))

    return await _respond_idempotently(req, caller, call_id, "hangup", act, is_repeatable=True)


@endpoint(
    blueprint,
    Route(
        name="record_call",
        method="POST",
        path="calls/{callId}/record",
        summary="Record a participant's answer",
        description="Graph's recordResponse (or the older record): a short answer after an optional prompt, not the "
        "whole call. The call must have service-hosted media. Safe to repeat after 502 and 503: nothing was recorded. "
        "409 outcome-unknown: it may have begun; 409 recording-not-persisted: it has. Do not repeat these; without an "
        "Idempotency-Key the same request does not reach Graph for ten minutes then.",
        role=Role.MANAGE,
        request=RecordRequest,
        parameters=(CALL_ID, IDEMPOTENCY_KEY),
        responses={202: RecordingView},
        errors=(*COMMON_ERRORS, 404, 409, 413, 415, 422, 502),
        response_headers={"Location": "Where to read what became of it."},
    ),
)
async def record_call(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Start a recording."""
    call_id = canonical_id(req.route_params["callId"])
    body = read_json(RecordRequest, req.get_body() or b"{}", context=services().settings.graph_record_api)

    async def act() -> StoredResponse:
        call, operation = await _management(caller).record(call_id, body, caller.name)
        location = f"/api/calls/{quote(call_id, safe='')}/operations/{quote(operation.id, safe='')}"
        # Without place and token: the answer may be kept, and only the operation's own row and route hold these.
        return StoredResponse(
            202, recording_view(operation, call, show_secrets=False).model_dump_json(by_alias=True), location
        )

    return await _respond_idempotently(req, caller, call_id, f"record {body.graph_body()}", act, is_repeatable=False)


@endpoint(
    blueprint,
    Route(
        name="list_operations",
        method="GET",
        path="calls/{callId}/operations",
        summary="List a call's operations",
        parameters=(CALL_ID,),
        responses={200: OperationList},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def list_operations(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """Recordings, prompts, …; without places and tokens."""
    call, operations = await _records(caller).list_operations(canonical_id(req.route_params["callId"]))
    return reply(OperationList(value=[operation_view(operation, call) for operation in operations]))


@endpoint(
    blueprint,
    Route(
        name="read_operation",
        method="GET",
        path="calls/{callId}/operations/{operationId}",
        summary="Read an operation",
        description="recordingLocation and recordingAccessToken are null for a caller without Recordings.Read.",
        parameters=(CALL_ID, OPERATION_ID),
        responses={200: RecordingView},
        errors=(*COMMON_ERRORS, 404),
    ),
)
async def read_operation(req: func.HttpRequest, caller: Caller) -> func.HttpResponse:
    """What became of a recording."""
    call_id, operation_id = (canonical_id(req.route_params[name]) for name in ("callId", "operationId"))
    call, operation = await _records(caller).read_operation(call_id, operation_id)
    return reply(recording_view(operation, call, show_secrets=caller.has_role(Role.RECORDINGS)))


async def _respond_idempotently(  # noqa: PLR0913 (who asks what of which call, and how often it may be done)
    req: func.HttpRequest,
    caller: Caller,
    call_id: str,
    request: str,
    act: Callable[[], Awaitable[StoredResponse]],
    *,
    is_repeatable: bool,
) -> func.HttpResponse:
    """Do it; with an `Idempotency-Key` once, however often it is asked for.

    Without one, what must not be done twice is not done again either while the outcome of the first time is open.
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


def _parse_status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        raise InvalidRequest("status is active or ended.", (("status", f"one of {', '.join(Status)}"),)) from None


def _check_tenant(text: str | None) -> str | None:
    if text is not None and not is_guid(text):
        raise InvalidRequest(f"tenantId {NOT_A_GUID}.", (("tenantId", NOT_A_GUID),))
    return text


def _parse_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise InvalidRequest(f"limit is a number from 1 to {MAX_PAGE_SIZE}.", (("limit", f"1 to {MAX_PAGE_SIZE}"),))
    return int(text)
