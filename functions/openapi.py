"""The OpenAPI 3.1 document, made from the routes and the models that serve them."""

from functools import cache
from http import HTTPStatus

import azure.functions as func
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from functions.routing import ROUTES, Parameter, Role, Route
from shared import VERSION
from shared.api.views import Problem

type Json = dict[str, object]
_REF = "#/components/schemas/{model}"


@cache
def document() -> Json:
    """The whole API."""
    schemas, refs = _schemas()
    paths: dict[str, dict[str, Json]] = {}
    for route in ROUTES:
        paths.setdefault(f"/api/{route.path}", {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Call Keeper",
            "version": VERSION,
            "description": "Keeps Microsoft Graph calls alive and explains why they ended.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _security_schemes()},
    }


def _schemas() -> tuple[Json, dict[tuple[type[BaseModel], JsonSchemaMode], Json]]:
    answers = {Problem} | {model for route in ROUTES for model in route.responses.values() if model}
    bodies = {route.request for route in ROUTES if route.request}
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in sorted(answers, key=lambda model: model.__name__)),
        *((model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)),
    ]
    refs, definitions = models_json_schema(wanted, ref_template=_REF, by_alias=True)
    return definitions["$defs"], {(model, mode): dict(refs[model, mode]) for model, mode in wanted}


def _operation(route: Route, refs: dict[tuple[type[BaseModel], JsonSchemaMode], Json]) -> Json:
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            **{str(status): _response(route, status, model, refs) for status, model in route.responses.items()},
            **{str(status): _error(status, refs) for status in route.errors},
        },
        "security": _security(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.request:
        schema = refs[route.request, "validation"]
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.location,
        "required": parameter.location == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _response(
    route: Route,
    status: int,
    model: type[BaseModel] | None,
    refs: dict[tuple[type[BaseModel], JsonSchemaMode], Json],
) -> Json:
    response: Json = {"description": HTTPStatus(status).phrase}
    if model:
        response["content"] = {"application/json": {"schema": refs[model, "serialization"]}}
    elif route.name == "openapi":
        response["content"] = {"application/json": {"schema": {"type": "object"}}}
    if route.response_headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in route.response_headers.items()
        }
    return response


def _error(status: int, refs: dict[tuple[type[BaseModel], JsonSchemaMode], Json]) -> Json:
    return {
        "description": HTTPStatus(status).phrase,
        "content": {"application/problem+json": {"schema": refs[Problem, "serialization"]}},
    }


def _security(route: Route) -> list[Json]:
    if route.role is not None:
        return [{"functionKey": []}, {"functionKey": [], "entra": [route.role.value]}]
    return [{"graph": []}] if route.auth_level is func.AuthLevel.ANONYMOUS and route.method == "POST" else []


def _security_schemes() -> Json:
    return {
        "functionKey": {
            "type": "apiKey",
            "in": "header",
            "name": "x-functions-key",
            "description": "The function key of the app.",
        },
        "entra": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Needed too once MANAGEMENT_AUDIENCE is set: an Entra token with an app role of "
            + ", ".join(Role)
            + ".",
        },
        "graph": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Graph's own token, as it sends it with notifications.",
        },
    }
