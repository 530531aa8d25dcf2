"""Converts templates to ARM JSON for tools that do not read Bicep well. Only literals keep their values."""

from tools.bicep_check.program import Program, Template
from tools.bicep_check.tree import (
    Array,
    Boolean,
    Declaration,
    Integer,
    Loop,
    Name,
    Node,
    Null,
    Object,
    String,
)

type Json = str | int | bool | list["Json"] | dict[str, "Json"] | None
_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"


def as_arm(program: Program, path: str) -> Json:
    """Return one template with the bodies of its resources, without its modules, which are files of their own."""
    template = program.template(path)
    resources: list[Json] = [_resource(template, found) for found in template.resources if not found.existing]
    return {"$schema": _SCHEMA, "contentVersion": "1.0.0.0", "parameters": {}, "resources": resources}


def _resource(template: Template, declared: Declaration) -> Json:
    kind, _, version = template.resource_type(declared).partition("@")
    body = _value(template, declared.body)
    assert isinstance(body, dict)
    return {"type": kind, "apiVersion": version} | {key: value for key, value in body.items() if key != "parent"}


def _value(template: Template, node: Node | None) -> Json:  # noqa: PLR0911 one return a sort of expression
    match node:
        case String() if node.literal is not None:
            return node.literal
        case Integer(value=value) | Boolean(value=value):
            return value
        case Null() | None:
            return None
        case Object(properties=properties):
            return {str(found.key.literal): _value(template, found.value) for found in properties}
        case Array(items=items):
            return [_value(template, item) for item in items]
        case Loop(body=body):
            return [_value(template, body)]
        case Name(name=name) if (symbol := template.symbols.get(name)) and symbol.keyword == "var":
            return _value(template, symbol.value)
        case _:
            return f"[{type(node).__name__.lower()}]"
