"""How the control API reads bodies, shows what it found, and words its problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from simulator.wire import JsonObject


class ProblemError(Exception):
    """A request that cannot be served: a status, and a sentence that says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def problem(status: int, detail: str) -> Response:
    """An RFC 9457 problem."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


async def read[Body: BaseModel](request: Request, model: type[Body]) -> Body:
    """The body of a request; an empty one is an empty object. ProblemError 400 says what is wrong with it."""
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()]
        raise ProblemError(400, "; ".join(lines)) from error


def dumped(view: BaseModel) -> JsonObject:
    """A view as JSON, in camelCase."""
    return view.model_dump(mode="json", by_alias=True)


def shown(view: BaseModel | JsonObject, status: int = 200) -> Response:
    """An answer with one thing in it."""
    return JSONResponse(dumped(view) if isinstance(view, BaseModel) else view, status)


def listed(found: Sequence[BaseModel]) -> Response:
    """An answer with a list, under `value`."""
    return JSONResponse({"value": [dumped(view) for view in found]})
