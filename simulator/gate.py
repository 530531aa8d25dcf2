"""What surrounds every imitated route: the journal, the faults, and the wording of refusals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jwt
from starlette.responses import Response
from starlette.routing import Route

from simulator.faults import ActiveFault, Asked, Faults, OperationName
from simulator.journal import Entry, Journal
from simulator.refusals import Refusal, stranger
from simulator.wire import canonical_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from starlette.requests import Request

    from simulator.calls import Calls
    from simulator.clock import Clock

    type Handler = Callable[[Request], Awaitable[Response]]
    type Wording = Callable[[Refusal, Request], Response]

_KEPT_HEADERS = ("client-request-id", "traceparent", "user-agent", "content-type", "return-client-request-id", "prefer")


class ConnectionDropped(ConnectionAbortedError):
    """The answer is a cut connection."""


@dataclass(slots=True)
class Connections:
    """The server's open connections, so that one can be cut. Without a server the caller sees ConnectionDropped."""

    cut_of: Callable[[str, int], None] | None = None

    async def cut(self, request: Request) -> Response:
        """Cut the connection under a request; the response is one that nobody will see."""
        if self.cut_of is None or request.client is None:
            raise ConnectionDropped
        self.cut_of(request.client.host, request.client.port)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return Response(status_code=499)


@dataclass(frozen=True, slots=True)
class Gate:
    """Wraps the handlers of what is imitated."""

    clock: Clock
    calls: Calls
    faults: Faults
    journal: Journal
    connections: Connections

    def route(self, method: str, path: str, operation: OperationName, handler: Handler, wording: Wording) -> Route:
        """A route whose requests are written down, can be spoiled, and whose refusals are worded."""

        async def endpoint(request: Request) -> Response:
            asked = self._asked(operation, request)
            at = self.clock.now()
            hit = self.faults.hit(asked)
            status = None
            try:
                response = await self._answer(request, handler, wording, hit)
                status = response.status_code
            except ConnectionDropped:
                response = await self.connections.cut(request)
            finally:
                self.journal.add(_entry(request, asked, at, status, hit))
            return response

        return Route(path, endpoint, methods=[method], name=operation)

    async def _answer(self, request: Request, handler: Handler, wording: Wording, hit: ActiveFault | None) -> Response:
        try:
            if hit is None:
                return await handler(request)
            if hit.fault.delay_seconds:
                await self.clock.sleep(hit.fault.delay_seconds)
            answer = await handler(request) if hit.fault.afterwards or _only_late(hit) else None
            if hit.fault.drop_connection:
                raise ConnectionDropped
            if answer is not None and hit.fault.status is None:
                return answer
            if hit.fault.stranger is not None:
                return stranger(hit.fault.status or 502, hit.fault.stranger, _retry_after(hit))
            raise _refusal(hit)
        except Refusal as refusal:
            return wording(refusal, request)

    def _asked(self, operation: OperationName, request: Request) -> Asked:
        call_id = request.path_params.get("call_id")
        call_id = canonical_id(call_id) if call_id else None
        call = self.calls.find(call_id) if call_id else None
        claims = _claims(request)
        tenant = call.tenant_id if call else request.path_params.get("tenant") or claims.get("tid")
        return Asked(operation, call_id, tenant.lower() if tenant else None, claims.get("appid"))


def _only_late(hit: ActiveFault) -> bool:
    return hit.fault.status is None and not hit.fault.drop_connection


def _refusal(hit: ActiveFault) -> Refusal:
    fault = hit.fault
    code = None if fault.subcode is None else str(fault.subcode)
    return Refusal(fault.status or 500, code, fault.message or "A fault, as ordered.", _retry_after(hit))


def _retry_after(hit: ActiveFault) -> dict[str, str]:
    after = hit.fault.retry_after
    return {} if after is None else {"Retry-After": after if isinstance(after, str) else f"{after:g}"}


def _claims(request: Request) -> dict[str, str]:
    """What the token says of itself, unchecked: good enough for the journal and for choosing a fault."""
    return _unchecked(request.headers.get("authorization", "").partition(" ")[2])


@lru_cache(maxsize=256)  # one token serves hundreds of requests
def _unchecked(token: str) -> dict[str, str]:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    return {name: str(claims[name]).lower() for name in ("tid", "appid") if name in claims}


def _entry(request: Request, asked: Asked, at: datetime, status: int | None, hit: ActiveFault | None) -> Entry:
    return Entry(
        at=at,
        operation=asked.operation,
        method=request.method,
        path=request.url.path,
        call_id=asked.call_id,
        tenant_id=asked.tenant_id,
        app_id=asked.app_id,
        headers={name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers},
        status=status,
        fault_id=hit.id if hit else None,
    )
