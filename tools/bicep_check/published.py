"""Microsoft's published types of Azure resources, as kinds."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field

from tools.bicep_check import types
from tools.bicep_check.types import ANYTHING, Anything, Either, Flag, Later, Record, Several, Tagged, Type, Whole, Words

FOLDER = Path(__file__).parent / "published_types"


class Definition(BaseModel, extra="forbid"):
    """One type as it is published; the file format is told in tests/data/README.md."""

    type: str | None = None
    ref: str | None = None
    const: str | int | bool | None = None
    enum: list[str | int | bool] | None = None
    any_of: list["Definition"] = Field([], alias="anyOf")
    items: "Definition | None" = None
    properties: dict[str, "Definition"] = {}
    additional: "Definition | None" = Field(None, alias="additionalProperties")
    discriminator: str | None = None
    variants: dict[str, "Definition"] = {}
    required: bool = False
    read_only: bool = Field(False, alias="readOnly")
    write_only: bool = Field(False, alias="writeOnly")
    sensitive: bool = False
    known: list[str | int] = []
    min_length: int = Field(0, alias="minLength")
    max_length: int | None = Field(None, alias="maxLength")
    pattern: str = ""
    min: int | None = None
    max: int | None = None


class Document(BaseModel, extra="forbid"):
    """One resource type at one version."""

    body: Definition
    definitions: dict[str, Definition]


@cache
def available() -> Mapping[str, Path]:
    """The files by the resource type and version that they describe, in lower case: Azure takes case lightly."""
    found = {}
    for path in FOLDER.glob("*.json"):
        resource, _, version = path.stem.partition("@")
        provider, *segments = resource.split("_")
        found[f"{'/'.join((provider, *segments))}@{version}".lower()] = path
    return found


@cache
def published(resource: str) -> Type | None:
    """The body of `Provider/type@version`, or None if its type is not at hand."""
    path = available().get(resource.lower())
    if path is None:
        return None
    document = Document.model_validate(json.loads(path.read_text(encoding="utf-8")))
    return _Reader(document.definitions).kind(document.body)


class _Reader:
    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = definitions
        self._kinds: dict[str, Type] = {}

    def kind(self, definition: Definition) -> Type:
        if definition.ref:
            name = definition.ref
            return Later(lambda: self._named(name), name)
        if definition.enum is not None:
            return types.either(_constant(value) for value in definition.enum)
        if definition.const is not None:
            return _constant(definition.const)
        if definition.any_of:
            return Either(tuple(self.kind(option) for option in definition.any_of))
        return self._plain(definition)

    def _named(self, name: str) -> Type:
        if name not in self._kinds:
            kind = self.kind(self._definitions[name])
            self._kinds[name] = Record(kind.fields, kind.rest, name) if isinstance(kind, Record) else kind
        return self._kinds[name]

    def _plain(self, definition: Definition) -> Type:
        match definition.type:
            case "string":
                known = frozenset(map(str, definition.known))
                return Words(frozenset(), definition.min_length, definition.max_length, definition.pattern, known)
            case "int":
                return Whole(frozenset(), definition.min, definition.max)
            case "bool":
                return Flag()
            case "array":
                return Several(self.kind(definition.items) if definition.items else ANYTHING)
            case "object":
                return self._object(definition)
            case "any":
                return Anything()
            case unknown:
                raise ValueError(f"the published types have a new kind: {unknown}")

    def _object(self, definition: Definition) -> Type:
        if not definition.discriminator:
            rest = self.kind(definition.additional) if definition.additional else None
            return Record(self._fields(definition), rest)
        common = self._fields(definition)
        return Tagged(
            definition.discriminator,
            {tag: self._later(variant, common, tag) for tag, variant in definition.variants.items()},
        )

    def _later(self, variant: Definition, common: Mapping[str, types.Field], tag: str) -> Later:
        return Later(lambda: self._variant(variant, common), tag)

    def _variant(self, variant: Definition, common: Mapping[str, types.Field]) -> Type:
        kind = types.now(self.kind(variant))
        if not isinstance(kind, Record):
            return kind
        return Record({**common, **kind.fields}, kind.rest, kind.name)

    def _fields(self, definition: Definition) -> dict[str, types.Field]:
        return {
            name: types.Field(self.kind(found), found.required, found.read_only)
            for name, found in definition.properties.items()
        }


def _constant(value: str | int | bool) -> Type:
    if isinstance(value, bool):
        return Flag(value)
    return Whole(frozenset({value})) if isinstance(value, int) else types.literal(value)
