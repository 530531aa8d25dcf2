"""Requests and responses of the control API: reading bodies, writing JSON, reporting problems."""

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
    """A request that the control API cannot serve: an HTTP status, and a sentence that says what to do."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def problem_response(status: int, detail: str) -> Response:
    """Return a problem of RFC 9457."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


async def read_body[Body: BaseModel](request: Request, model: type[Body]) -> Body:
    """Return the body of a request. An empty body is an empty object.

    Raises
    ------
    ProblemError
        400, with everything that is wrong with the body.
    """
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()]
        raise ProblemError(400, "; ".join(lines)) from error


def as_json(view: BaseModel) -> JsonObject:
    """Return a view as a JSON object, with names in camelCase."""
    return view.model_dump(mode="json", by_alias=True)


def object_response(view: BaseModel | JsonObject, status: int = 200) -> Response:
    """Return a response with one object."""
    return JSONResponse(as_json(view) if isinstance(view, BaseModel) else view, status)


def list_response(views: Sequence[BaseModel]) -> Response:
    """Return a response with a list, under `value`."""
    return JSONResponse({"value": [as_json(view) for view in views]})
