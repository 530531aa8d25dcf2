"""Answers as Graph gives them, and a source of tokens."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from shared.domain.notifications import OperationNotification
from shared.graph.client import GraphCalls
from shared.graph.recording import RecordRequest

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


type Serve = Callable[..., Awaitable[str]]


type Connect = Callable[..., GraphCalls]


CALL = "2e1a0b00-2db4-4022-9570-243709c565ab"


OPERATION = "0fe0623f-d628-42ed-b4bd-8ac290072cc5"


TENANT = "bbbbbbbb-1111-2222-3333-444444444444"


NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


DEFAULTS = RecordRequest()


MARK = {"request-id": "r-1"}  # Graph's, in each of its answers


class Tokens:
    """Gives `first`, then `second` once it was asked to refresh."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.apps: list[str | None] = []

    async def get(self, tenant_id: str, app_id: str | None = None, *, refresh: bool = False) -> str:
        self.asked.append((tenant_id, refresh))
        self.apps.append(app_id)
        return "second-token" if refresh else "first-token"


def answering(*answers: Callable[[], web.Response], seen: list[web.Request] | None = None) -> Handler:
    """Answers in turn; the last one again and again."""
    left = list(answers)

    async def handler(request: web.Request) -> web.Response:
        if seen is not None:
            await request.read()
            seen.append(request)
        return (left.pop(0) if len(left) > 1 else left[0])()

    return handler


def done() -> web.Response:
    """Graph's answer to a keepAlive (microsoft-graph-docs#9186)."""
    return web.Response(headers=MARK, content_type="text/plain")


def found(body: object) -> Callable[[], web.Response]:
    """Graph's answer with a body."""
    return lambda: web.json_response(body, headers=MARK)


def graph_error(status: int, code: object, message: str = "", **headers: str) -> Callable[[], web.Response]:
    body = {"error": {"code": code, "message": message, "innerError": {"request-id": "7"}}}
    return lambda: web.json_response(body, status=status, headers={"request-id": "r-1", **headers})


def recording(client_context: str | None = None) -> OperationNotification:
    """Return a recording that Graph has started."""
    return OperationNotification(
        CALL, OPERATION, "recordOperation", deleted=False, status="running", client_context=client_context
    )
