"""The middleware of every simulated route: it applies faults, formats refusals and records requests in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import jwt
from starlette.responses import Response
from starlette.routing import Route

from simulator.faults import ActiveFault, Faults, OperationName, RequestFacts
from simulator.journal import Journal, JournalEntry
from simulator.refusals import Refusal, proxy_response
from simulator.wire import canonical_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from starlette.requests import Request

    from simulator.calls import Calls
    from simulator.clock import Clock

    type Handler = Callable[[Request], Awaitable[Response]]
    type RefusalFormat = Callable[[Refusal, Request], Response]

_RECORDED_HEADERS = (
    *("client-request-id", "traceparent", "user-agent", "content-type"),
    *("return-client-request-id", "prefer"),
)


class ConnectionDropped(ConnectionAbortedError):
    """Raised to drop the connection instead of sending a response."""


@dataclass(slots=True)
class Connections:
    """The server's open connections. Without a server, the caller gets ConnectionDropped."""

    drop_client: Callable[[str, int], None] | None = None  # drops the connection of a client's host and port

    async def drop(self, request: Request) -> Response:
        """Drop the connection of a request. Return a response for the server, which cannot send it any more."""
        if self.drop_client is None or request.client is None:
            raise ConnectionDropped
        self.drop_client(request.client.host, request.client.port)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(status_code=499)


@dataclass(frozen=True, slots=True)
class Middleware:
    """Wraps the handlers of the simulated routes."""

    clock: Clock
    calls: Calls
    faults: Faults
    journal: Journal
    connections: Connections

    def route(
        self, method: str, path: str, operation: OperationName, handler: Handler, refusal_format: RefusalFormat
    ) -> Route:
        """Return a route whose requests are recorded and can be affected by faults.

        A Refusal of the handler, or of a fault, becomes a response by `refusal_format`.
        """

        async def endpoint(request: Request) -> Response:
            facts = self._facts(operation, request)
            at = self.clock.now()
            active = self.faults.match(facts)
            status = None
            try:
                response = await self._respond(request, handler, refusal_format, active)
                status = response.status_code
            except ConnectionDropped:
                response = await self.connections.drop(request)
            finally:
                self.journal.add(_entry(request, facts, at, status, active))
            return response

        return Route(path, endpoint, methods=[method], name=operation)

    async def _respond(
        self, request: Request, handler: Handler, refusal_format: RefusalFormat, active: ActiveFault | None
    ) -> Response:
        try:
            return await (handler(request) if active is None else self._fail(request, handler, active))
        except Refusal as refusal:
            return refusal_format(refusal, request)

    async def _fail(self, request: Request, handler: Handler, active: ActiveFault) -> Response:
        """Respond to a request that a fault affects."""
        fault = active.fault
        if fault.delay_seconds:
            await self.clock.sleep(timedelta(seconds=fault.delay_seconds))
        only_delays = fault.status is None and not fault.drop_connection
        response = await handler(request) if fault.response_only or only_delays else None
        if fault.drop_connection:
            raise ConnectionDropped
        if response is not None and fault.status is None:
            return response
        status, headers = fault.status or 500, _retry_after(active)
        if fault.proxy_response is not None:
            return proxy_response(status, fault.proxy_response, headers)
        code = None if fault.subcode is None else str(fault.subcode)
        raise Refusal(status, code, fault.message or "A fault that was set on the simulator.", headers)

    def _facts(self, operation: OperationName, request: Request) -> RequestFacts:
        call_id = request.path_params.get("call_id")
        call_id = canonical_id(call_id) if call_id else None
        call = self.calls.find(call_id) if call_id else None
        claims = _claims(request)
        tenant = call.tenant_id if call else request.path_params.get("tenant") or claims.get("tid")
        return RequestFacts(operation, call_id, tenant.lower() if tenant else None, claims.get("appid"))


def _retry_after(active: ActiveFault) -> dict[str, str]:
    after = active.fault.retry_after
    return {} if after is None else {"Retry-After": after if isinstance(after, str) else f"{after:g}"}


def _claims(request: Request) -> dict[str, str]:
    """Return the token's claims without a check, which is enough for the journal and for matching faults."""
    return _unchecked_claims(request.headers.get("authorization", "").partition(" ")[2])


@lru_cache(maxsize=256)  # one token is sent with hundreds of requests
def _unchecked_claims(token: str) -> dict[str, str]:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return {name: str(claims[name]).lower() for name in ("tid", "appid") if name in claims}


def _entry(
    request: Request, facts: RequestFacts, at: datetime, status: int | None, active: ActiveFault | None
) -> JournalEntry:
    return JournalEntry(
        at=at,
        operation=facts.operation,
        method=request.method,
        path=request.url.path,
        call_id=facts.call_id,
        tenant_id=facts.tenant_id,
        app_id=facts.app_id,
        headers={name: request.headers[name] for name in _RECORDED_HEADERS if name in request.headers},
        status=status,
        fault_id=active.id if active else None,
    )
