"""The client of Graph's calls API: keepAlive, hang up, look up, record. Each failure becomes a `GraphError`."""

import uuid
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from shared import telemetry
from shared.clock import Clock
from shared.config.settings import Settings
from shared.domain.calls import canonical_id
from shared.domain.leases import TenantApp
from shared.domain.notifications import OperationNotification, ResultInfo, parse_operation, parse_result_info
from shared.errors import GraphForbidden, GraphUnavailable, InvalidRequest
from shared.graph.error_mapping import error_from_response, error_from_transport
from shared.graph.rate_limit import RateLimiter
from shared.graph.recording import RecordRequest
from shared.graph.verdict import GraphAction, Verdict, as_object, request_id, verdict_of
from shared.http_client import HttpClient, Request, Response, TransportError

_UNAUTHORIZED = 401


class TokenSource(Protocol):
    """A source of access tokens for Graph."""

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        """Return a token of the app (None: that of GRAPH_APP_ID) in the tenant, with `refresh` a new one.

        Raises
        ------
        TokenUnavailable
            No token could be obtained.
        """
        ...


@dataclass(frozen=True, slots=True)
class GraphCall:
    """Graph's answer to a look-up: the call's state in Graph's word, and the result if the call has one."""

    state: str
    result: ResultInfo | None = None


class GraphCalls:
    """Sends requests about calls, each with a token of the call's tenant and app (None: that of GRAPH_APP_ID).

    All methods raise `GraphCallNotFound`, `GraphForbidden`, `GraphThrottled`, `GraphRejected` or `GraphUnavailable`,
    and `TokenUnavailable` if there is no token. At most GRAPH_REQUESTS_PER_SECOND requests are sent in any second, and
    those of sweeps wait for the others. After this wait a request takes at most GRAPH_TIMEOUT.
    """

    def __init__(self, client: HttpClient, tokens: TokenSource, settings: Settings, clock: Clock) -> None:
        self._client = client
        self._tokens = tokens
        self._clock = clock
        self._timeout = settings.graph_timeout
        self._root = settings.graph_root
        self._record_api = settings.graph_record_api
        self._rate_limiter = RateLimiter(settings.graph_requests_per_second)

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        """Renew the lease: `POST /communications/calls/{id}/keepAlive`."""
        await self._send(
            _GraphRequest(
                GraphAction.KEEP_ALIVE, "POST", self._call_url(call_id) + "/keepAlive", TenantApp(tenant_id, app_id)
            )
        )

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        """End the call; of a group call, only the bot's part: `DELETE /communications/calls/{id}`."""
        await self._send(
            _GraphRequest(
                GraphAction.HANG_UP,
                "DELETE",
                self._call_url(call_id),
                TenantApp(tenant_id, app_id),
                span="Graph hang up",
            )
        )

    async def get(self, call_id: str, tenant_id: str, app_id: str | None = None) -> GraphCall:
        """Look the call up: `GET /communications/calls/{id}`."""
        graph_request = _GraphRequest(
            GraphAction.LOOK_UP,
            "GET",
            self._call_url(call_id),
            TenantApp(tenant_id, app_id),
            needs_body=True,
            span="Graph look up",
        )
        response = await self._send(graph_request)
        call = as_object(response.json())
        state = call.get("state")
        if not isinstance(state, str) or _canonical_id(call.get("id")) not in {None, canonical_id(call_id)}:
            raise _unclear_outcome("Graph's answer is not a call, or another call.", response)
        return GraphCall(state, parse_result_info(call))

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None = None
    ) -> OperationNotification:
        """Start a recording: `recordResponse`, or the old `record` with GRAPH_RECORD_API=record.

        The request is never repeated, except after a 401. If it fails with `GraphUnavailable`, the recording may have
        started.
        """
        version = "beta" if self._record_api == "record" else "v1.0"
        url = f"{self._call_url(call_id, version)}/{self._record_api}"
        body = request.with_context().graph_body()
        graph_request = _GraphRequest(
            GraphAction.RECORD, "POST", url, TenantApp(tenant_id, app_id), body, needs_body=True, span="Graph record"
        )
        response = await self._send(graph_request)
        operation = _parse_recording(call_id, response)
        if operation is None:
            raise _unclear_outcome(
                "Graph accepted the recording but named no operation: it may have started.", response
            )
        return operation

    def _call_url(self, call_id: str, version: str = "v1.0") -> str:
        if call_id in {".", ".."}:  # quoted or not, these mean directories in a URL
            raise InvalidRequest("A call id cannot be . or ..")
        return f"{self._root}/{version}/communications/calls/{quote(call_id, safe='')}"

    async def _send(self, request: "_GraphRequest") -> Response:
        response = await self._send_once(request, await self._tokens.get(*request.tenant_app))
        if response.status == _UNAUTHORIZED and verdict_of(request.action, response) is Verdict.REFUSED:
            response = await self._send_once(request, await self._tokens.get(*request.tenant_app, refresh=True))
        if verdict_of(request.action, response) is not Verdict.DONE:
            error = error_from_response(response, self._clock.now(), request.action)
            if request.span and isinstance(error, GraphForbidden):  # the renewer logs those of a keepAlive
                telemetry.FORBIDDEN(
                    tenantId=request.tenant_app.tenant_id, status=403, subcode=error.subcode, requestId=error.request_id
                )
            raise error
        return response

    async def _send_once(self, request: "_GraphRequest", token: str) -> Response:
        async with self._rate_limiter.permit():
            request_id = str(uuid.uuid4())
            if request.span is None:
                return await self._transmit(request, token, request_id)
            attributes = {"http.request.method": request.method, "url.full": request.url, "clientRequestId": request_id}
            with telemetry.dependency(request.span, **attributes) as record_response:
                response = await self._transmit(request, token, request_id)
                record_response(response.status, response.headers.get("request-id"))
                return response

    async def _transmit(self, request: "_GraphRequest", token: str, request_id: str) -> Response:
        headers = {"authorization": f"Bearer {token}", "client-request-id": request_id, **telemetry.trace_headers()}
        try:
            return await self._client.send(
                Request(request.method, request.url, headers, request.body, via_aiohttp=request.span is None),
                self._timeout,
                wants_body=lambda head: request.needs_body or not head.succeeded,
            )
        except TransportError as error:
            if error.head and verdict_of(request.action, error.head) in {Verdict.DONE, Verdict.NOT_GRAPH}:
                return error.head  # the head is proof enough; only the body is lost
            raise error_from_transport(error) from error


@dataclass(frozen=True, slots=True)
class _GraphRequest:
    action: GraphAction
    method: str
    url: str
    tenant_app: TenantApp
    body: dict[str, object] | None = None
    needs_body: bool = False
    span: str | None = None  # None for keepAlive: a span for each would be most of the cost of telemetry


def _unclear_outcome(detail: str, response: Response) -> GraphUnavailable:
    return GraphUnavailable(detail, status=response.status, request_id=request_id(response))


def _parse_recording(call_id: str, response: Response) -> OperationNotification | None:
    """Read the operation in Graph's answer. None if the answer names none."""
    entity = as_object(response.json())
    operation_id = _canonical_id(entity.get("id")) or _canonical_id(_operation_id_in_location(response))
    if operation_id is None:
        return None
    operation = parse_operation(call_id, operation_id, entity)
    # Graph: an answer without a body (the old 202) means that the recording has begun.
    return replace(operation, kind="recordOperation", status=operation.status or "running")


def _operation_id_in_location(response: Response) -> str | None:
    try:
        segments = urlsplit(response.headers.get("location", "")).path.rstrip("/").split("/")
    except ValueError:  # not a URL
        return None
    return unquote(segments[-1]) if "operations" in map(str.lower, segments[:-1]) else None


def _canonical_id(value: object) -> str | None:
    try:
        return canonical_id(value) if isinstance(value, str) else None
    except InvalidRequest:
        return None
