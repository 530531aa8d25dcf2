"""Microsoft's published types of Azure resources, read from published_types.json."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field, TypeAdapter

from tools.bicep_check.value_types import (
    ANY,
    AnyType,
    ArrayType,
    BooleanType,
    DeferredType,
    DiscriminatedType,
    IntegerType,
    ObjectType,
    StringType,
    Type,
    UnionType,
    resolved,
    string_literal,
    union,
)
from tools.bicep_check.value_types import Field as TypeField

FILE = Path(__file__).parent / "published_types.json"


class Definition(BaseModel, extra="forbid"):
    """One type in the file. README.md describes the format."""

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
    known: list[str | int] = []
    min_length: int = Field(0, alias="minLength")
    max_length: int | None = Field(None, alias="maxLength")
    pattern: str = ""
    min: int | None = None
    max: int | None = None


type Definitions = dict[str, dict[str, Definition]]
_DEFINITIONS = TypeAdapter[Definitions](Definitions)


@cache
def definitions() -> Definitions:
    """Return the definitions by `Provider@version`, then by name. A resource's body has the resource's type as name."""
    return _DEFINITIONS.validate_json(FILE.read_bytes())


@cache
def available() -> Mapping[str, tuple[str, str]]:
    """Return the keys of each resource's body by its `Provider/type@version` in lower case, as Azure ignores case."""
    return {
        f"{name}@{namespace.partition('@')[2]}".lower(): (namespace, name)
        for namespace, by_name in definitions().items()
        for name in by_name
        if "/" in name
    }


@cache
def published_type(resource: str) -> Type | None:
    """Return the type of the body of `Provider/type@version`, or None if it is not in the file."""
    if resource.lower() not in available():
        return None
    namespace, name = available()[resource.lower()]
    return resolved(_reader(namespace).named(name))


@cache
def _reader(namespace: str) -> "_Reader":
    return _Reader(definitions()[namespace])


class _Reader:
    """Builds types from the definitions of one provider and version."""

    def __init__(self, by_name: Mapping[str, Definition]) -> None:
        self._definitions = by_name
        self._types: dict[str, Type] = {}

    def named(self, name: str) -> Type:
        if name not in self._types:
            type_ = self._type(self._definitions[name])
            if isinstance(type_, ObjectType):
                type_ = ObjectType(type_.fields, type_.additional, name)
            self._types[name] = type_
        return self._types[name]

    def _type(self, definition: Definition) -> Type:
        if definition.ref:
            name = definition.ref
            return DeferredType(lambda: self.named(name), name)
        if definition.enum is not None:
            return union(_constant(value) for value in definition.enum)
        if definition.const is not None:
            return _constant(definition.const)
        if definition.any_of:
            return UnionType(tuple(self._type(option) for option in definition.any_of))
        return self._plain(definition)

    def _plain(self, definition: Definition) -> Type:
        match definition.type:
            case "string":
                known = frozenset(map(str, definition.known))
                return StringType(frozenset(), definition.min_length, definition.max_length, definition.pattern, known)
            case "int":
                return IntegerType(frozenset(), definition.min, definition.max)
            case "bool":
                return BooleanType()
            case "array":
                return ArrayType(self._type(definition.items) if definition.items else ANY)
            case "object":
                return self._object(definition)
            case "any":
                return AnyType()
            case unknown:
                raise ValueError(f"published_types.json has a sort of type that is not known here: {unknown}")

    def _object(self, definition: Definition) -> Type:
        if not definition.discriminator:
            additional = self._type(definition.additional) if definition.additional else None
            return ObjectType(self._fields(definition), additional)
        common = self._fields(definition)
        variants = {name: self._deferred_variant(found, common, name) for name, found in definition.variants.items()}
        return DiscriminatedType(definition.discriminator, variants)

    def _deferred_variant(self, variant: Definition, common: Mapping[str, TypeField], name: str) -> DeferredType:
        return DeferredType(lambda: self._variant(variant, common), name)

    def _variant(self, variant: Definition, common: Mapping[str, TypeField]) -> Type:
        type_ = resolved(self._type(variant))
        if not isinstance(type_, ObjectType):
            return type_
        return ObjectType({**common, **type_.fields}, type_.additional, type_.name)

    def _fields(self, definition: Definition) -> dict[str, TypeField]:
        return {
            name: TypeField(self._type(found), found.required, found.read_only)
            for name, found in definition.properties.items()
        }


def _constant(value: str | int | bool) -> Type:
    if isinstance(value, bool):
        return BooleanType(value)
    return IntegerType(frozenset({value})) if isinstance(value, int) else string_literal(value)
