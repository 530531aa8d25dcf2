"""The OpenAPI 3.1 document, made from the declared routes and their models."""

from functools import cache
from http import HTTPStatus

import azure.functions as func
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue, models_json_schema

from functions.routing import ROUTES, Parameter, Role, Route
from shared import VERSION
from shared.api.views import Problem

type Json = dict[str, object]
type Refs = dict[tuple[type[BaseModel], JsonSchemaMode], Json]
type Queries = dict[type[BaseModel], dict[str, tuple[JsonSchemaValue, bool]]]  # schema, and if it is required, by name
_REF = "#/components/schemas/{model}"


@cache
def document() -> Json:
    """Return the document of the whole API."""
    # Not at import: the models of events take 15 ms, and nothing else needs them while the relay is off.
    from functions.openapi_webhooks import EVENT_SECURITY_SCHEME, event_components, webhooks  # noqa: PLC0415

    schemas, refs, queries = _schemas()
    paths: dict[str, dict[str, Json]] = {}
    for route in ROUTES:
        paths.setdefault(f"/api/{route.path}", {})[route.method.lower()] = _operation(route, refs, queries)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Call Keeper",
            "version": VERSION,
            "description": "Keeps Microsoft Graph calls alive and explains why they ended.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "webhooks": webhooks(_REF),
        "components": {
            "schemas": schemas | event_components(_REF),
            "securitySchemes": _security_schemes() | {"event": EVENT_SECURITY_SCHEME},
        },
    }


def _schemas() -> tuple[Json, Refs, Queries]:
    """Return the shared schemas, a reference to the schema of each model, and the schema of each query."""
    answers = {Problem} | {model for route in ROUTES for model in route.responses.values() if model}
    bodies = {route.request for route in ROUTES if route.request}
    queries = {route.query for route in ROUTES}
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in sorted(answers, key=lambda model: model.__name__)),
        *((model, "validation") for model in sorted(bodies | queries, key=lambda model: model.__name__)),
    ]
    refs, definitions = models_json_schema(wanted, ref_template=_REF, by_alias=True)
    schemas = definitions["$defs"]
    # A query is not an object in OpenAPI but a list of parameters, so its schema is not one of the components.
    of_queries = {model: _query_schemas(schemas.pop(model.__name__)) for model in queries}
    return schemas, {(model, mode): dict(refs[model, mode]) for model, mode in wanted}, of_queries


def _query_schemas(of_model: JsonSchemaValue) -> dict[str, tuple[JsonSchemaValue, bool]]:
    required = of_model.get("required", [])
    return {name: (schema, name in required) for name, schema in of_model["properties"].items()}


def _operation(route: Route, refs: Refs, queries: Queries) -> Json:
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
    parameters = [
        *(_parameter(parameter) for parameter in route.parameters),
        *(_query_parameter(name, *described) for name, described in queries[route.query].items()),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.request:
        schema = refs[route.request, "validation"]
        is_required = any(field.is_required() for field in route.request.model_fields.values())
        operation["requestBody"] = {"required": is_required, "content": {"application/json": {"schema": schema}}}
    return operation


def _parameter(parameter: Parameter) -> Json:
    return {
        "name": parameter.name,
        "in": parameter.location,
        "required": parameter.location == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _query_parameter(name: str, described: JsonSchemaValue, is_required: bool) -> Json:
    # An optional parameter is left out of the query, never null.
    options = [option for option in described.get("anyOf", []) if option != {"type": "null"}]
    schema = (
        options[0] if options else {key: described[key] for key in described if key not in {"title", "description"}}
    )
    return {
        "name": name,
        "in": "query",
        "required": is_required,
        "description": described["description"],
        "schema": schema,
    }


def _response(
    route: Route,
    status: int,
    model: type[BaseModel] | None,
    refs: Refs,
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


def _error(status: int, refs: Refs) -> Json:
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
            "description": "Required too if MANAGEMENT_AUDIENCE is set: an Entra token with one of the app roles "
            + ", ".join(Role)
            + ".",
        },
        "graph": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The token that Graph sends with notifications.",
        },
    }
