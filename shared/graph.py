"""The calls API of Graph: keepAlive, hang up, look up, record. Every failure becomes a `GraphError`."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from shared import telemetry
from shared.calls import canonical_id
from shared.clock import Clock, SystemClock
from shared.errors import GraphForbidden, GraphUnavailable, InvalidRequest
from shared.graph_errors import as_integer, error_of, unreachable
from shared.graph_proof import Verb, Word, members, request_id, word_of
from shared.http_client import Answer, HttpClient, NoAnswer, Request
from shared.leases import Account
from shared.pace import Pace
from shared.recording import RecordRequest
from shared.settings import Settings

_UNAUTHORIZED = 401


class Tokens(Protocol):
    """What gives access tokens for Graph."""

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        """A token of the app (None: that of GRAPH_APP_ID) in the tenant; a new one with `refresh`.

        Raises
        ------
        TokenUnavailable
            None could be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class GraphCall:
    """A call as Graph tells it: its state in Graph's word, and the result once there is one."""

    state: str
    code: int | None = None
    subcode: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class StartedOperation:
    """A recording that Graph has accepted. `status` is Graph's word; it may already be `completed` or `failed`."""

    id: str
    status: str
    client_context: str | None = None
    code: int | None = None
    subcode: int | None = None
    message: str | None = None
    recording_location: str | None = field(default=None, repr=False)
    recording_access_token: str | None = field(default=None, repr=False)


class GraphCalls:
    """Graph's calls, each asked for with a token of its own tenant and app (None: that of GRAPH_APP_ID).

    All methods raise `GraphCallNotFound`, `GraphForbidden`, `GraphThrottled`, `GraphRejected` or `GraphUnavailable`,
    and `TokenUnavailable` where there is no token. A request takes GRAPH_TIMEOUT at most, once it is its turn: no more
    than GRAPH_REQUESTS_PER_SECOND are sent in any second, and those of sweeps let the others go first.
    """

    def __init__(self, client: HttpClient, tokens: Tokens, settings: Settings, clock: Clock | None = None) -> None:
        self._client = client
        self._tokens = tokens
        self._clock = clock or SystemClock()
        self._timeout = settings.graph_timeout
        self._root = settings.graph_root
        self._record_api = settings.graph_record_api
        self._pace = Pace(settings.graph_requests_per_second)

    async def keep_alive(self, call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        """Renew the lease: `POST /communications/calls/{id}/keepAlive`."""
        await self._send(_Question(Verb.KEEP_ALIVE, "POST", self._call(call_id) + "/keepAlive", (tenant_id, app_id)))

    async def hang_up(self, call_id: str, tenant_id: str, app_id: str | None = None) -> None:
        """End the call, or the bot's part in a group call: `DELETE /communications/calls/{id}`."""
        await self._send(
            _Question(Verb.HANG_UP, "DELETE", self._call(call_id), (tenant_id, app_id), span="Graph hang up")
        )

    async def get(self, call_id: str, tenant_id: str, app_id: str | None = None) -> GraphCall:
        """Ask how the call is: `GET /communications/calls/{id}`."""
        question = _Question(
            Verb.LOOK_UP, "GET", self._call(call_id), (tenant_id, app_id), wants_body=True, span="Graph look up"
        )
        answer = await self._send(question)
        call = members(answer.json())
        state = call.get("state")
        if not isinstance(state, str) or _id(call.get("id")) not in {None, canonical_id(call_id)}:
            raise _unclear("Graph's answer is not a call, or another call.", answer)
        return GraphCall(state, *_result(call))

    async def record(
        self, call_id: str, tenant_id: str, request: RecordRequest, app_id: str | None = None
    ) -> StartedOperation:
        """Start a recording: `recordResponse`, or the old `record` with GRAPH_RECORD_API=record.

        It is never sent twice, save after a 401: where it fails with `GraphUnavailable` it may have started.
        """
        version = "beta" if self._record_api == "record" else "v1.0"
        url = f"{self._call(call_id, version)}/{self._record_api}"
        body = request.with_context().graph_body()
        question = _Question(Verb.RECORD, "POST", url, (tenant_id, app_id), body, wants_body=True, span="Graph record")
        answer = await self._send(question)
        operation = _started(answer)
        if operation is None:
            raise _unclear("Graph accepted the recording but named no operation: it may have started.", answer)
        return operation

    def _call(self, call_id: str, version: str = "v1.0") -> str:
        if call_id in {".", ".."}:  # no quoting keeps these from being taken for directories
            raise InvalidRequest("A call id cannot be . or ..")
        return f"{self._root}/{version}/communications/calls/{quote(call_id, safe='')}"

    async def _send(self, question: "_Question") -> Answer:
        answer = await self._once(question, await self._tokens.get(*question.account))
        if answer.status == _UNAUTHORIZED and word_of(question.verb, answer) is Word.REFUSED:
            answer = await self._once(question, await self._tokens.get(*question.account, refresh=True))
        if word_of(question.verb, answer) is not Word.DONE:
            error = error_of(answer, self._clock.now(), question.verb)
            if question.span and isinstance(error, GraphForbidden):  # of a keepAlive the renewer tells
                telemetry.FORBIDDEN(
                    tenantId=question.account[0], status=403, subcode=error.subcode, requestId=error.request_id
                )
            raise error
        return answer

    async def _once(self, question: "_Question", token: str) -> Answer:
        async with self._pace.permit():
            request_id = str(uuid.uuid4())
            if question.span is None:
                return await self._ask(question, token, request_id)
            about = {"http.request.method": question.method, "url.full": question.url, "clientRequestId": request_id}
            with telemetry.dependency(question.span, **about) as tell:
                answer = await self._ask(question, token, request_id)
                tell(answer.status, answer.headers.get("request-id"))
                return answer

    async def _ask(self, question: "_Question", token: str, request_id: str) -> Answer:
        headers = {"authorization": f"Bearer {token}", "client-request-id": request_id, **telemetry.trace_headers()}
        try:
            return await self._client.ask(
                Request(question.method, question.url, headers, question.body, bare=question.span is None),
                self._timeout,
                wants_body=lambda head: question.wants_body or not head.succeeded,
            )
        except NoAnswer as error:
            if error.head and word_of(question.verb, error.head) in {Word.DONE, Word.STRANGER}:
                return error.head  # the head proves it: only the body is lost
            raise unreachable(error) from error


@dataclass(frozen=True, slots=True)
class _Question:
    verb: Verb
    method: str
    url: str
    account: Account
    body: dict[str, object] | None = None
    wants_body: bool = False
    span: str | None = None  # None: a span for each keepAlive would be most of what is paid for


def _unclear(what: str, answer: Answer) -> GraphUnavailable:
    return GraphUnavailable(what, status=answer.status, request_id=request_id(answer))


def _result(thing: Mapping[str, object]) -> tuple[int | None, int | None, str | None]:
    result = members(thing.get("resultInfo"))
    subcode = as_integer(result.get("subcode", result.get("subCode")))  # Graph: call-transfer page has the latter
    return as_integer(result.get("code")), subcode, _text(result.get("message"))


def _started(answer: Answer) -> StartedOperation | None:
    operation = members(answer.json())
    operation_id = _id(operation.get("id")) or _id(_from_location(answer))
    if operation_id is None:
        return None
    code, subcode, message = _result(operation)
    return StartedOperation(
        id=operation_id,
        status=_text(operation.get("status")) or "running",  # Graph: without a body (the old 202) it has begun
        client_context=_text(operation.get("clientContext")),
        code=code,
        subcode=subcode,
        message=message,
        recording_location=_text(operation.get("recordingLocation", operation.get("recordResourceLocation"))),
        recording_access_token=_text(operation.get("recordingAccessToken", operation.get("recordResourceAccessToken"))),
    )


def _from_location(answer: Answer) -> str | None:
    try:
        segments = urlsplit(answer.headers.get("location", "")).path.rstrip("/").split("/")
    except ValueError:  # it is no URL
        return None
    return unquote(segments[-1]) if "operations" in map(str.lower, segments[:-1]) else None


def _id(value: object) -> str | None:
    try:
        return canonical_id(value) if isinstance(value, str) else None
    except InvalidRequest:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
