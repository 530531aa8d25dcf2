"""Writes published_types.json anew from a clone of Microsoft's repository Azure/bicep-types-az.

    git clone --depth 1 https://github.com/Azure/bicep-types-az
    python -m tools.bicep_check.renew_types bicep-types-az/generated

It keeps the resource types and versions that the templates use, and of each type what the checker reads.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from tools.bicep_check.program import Program
from tools.bicep_check.published_types import FILE, Definition, Definitions

# Azure/bicep-types, ObjectTypePropertyFlags.
_REQUIRED, _READ_ONLY = 1, 2
_OBJECTS = ("ObjectType", "DiscriminatedObjectType")


class Reference(BaseModel):
    """A reference to a type: `#/12` is the thirteenth of the same file, `path/types.json#/12` of another file."""

    ref: str = Field(alias="$ref")


class Property(BaseModel):
    """A property of an object; `flags` is a sum of ObjectTypePropertyFlags."""

    type: Reference
    flags: int = 0


class PublishedType(BaseModel):
    """One element of a types.json, as Azure/bicep-types writes it. Which fields are set depends on `sort`."""

    model_config = ConfigDict(alias_generator=to_camel)

    sort: str = Field(alias="$type")
    name: str = ""
    value: str = ""
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    min_value: int | None = None
    max_value: int | None = None
    item_type: Reference | None = None
    properties: dict[str, Property] = {}
    additional_properties: Reference | None = None
    discriminator: str | None = None
    base_properties: dict[str, Property] = {}
    elements: dict[str, Reference] | list[Reference] = []
    body: Reference | None = None


class Index(BaseModel):
    """The file index.json: where each resource type is."""

    resources: dict[str, Reference]


class RenewalError(Exception):
    """The published types cannot be converted; the message says what is missing."""


_TYPES = TypeAdapter(list[PublishedType])


def convert(folder: Path, resources: Iterable[str]) -> Definitions:
    """Convert the published types of some resources.

    Parameters
    ----------
    folder
        The folder `generated` of a clone of Azure/bicep-types-az.
    resources
        `Provider/type@version` of each resource.

    Raises
    ------
    RenewalError
        A resource is not published, or a published type is of a sort that is not known here.
    """
    index = Index.model_validate_json((folder / "index.json").read_bytes())
    paths = {name.lower(): reference.ref for name, reference in index.resources.items()}
    converted: Definitions = {}
    files: dict[str, _File] = {}
    for resource in sorted(resources):
        if resource.lower() not in paths:
            raise RenewalError(f"{resource} is not in {folder / 'index.json'}")
        path, _, position = paths[resource.lower()].partition("#/")
        name, _, version = resource.partition("@")
        namespace = f"{name.partition('/')[0]}@{version}"
        if path not in files:
            published = _TYPES.validate_json((folder / path).read_bytes())
            files[path] = _File(published, converted.setdefault(namespace, {}))
        files[path].add_resource(name, int(position))
    return converted


class _File:
    """One types.json. Its objects become definitions that others refer to by name; the rest is written in place."""

    def __init__(self, published: Sequence[PublishedType], definitions: dict[str, Definition]) -> None:
        self._published = published
        self._definitions = definitions
        self._names: dict[int, str] = {}

    def add_resource(self, name: str, position: int) -> None:
        """Add the definitions of a resource's body."""
        body = self._published[position].body
        if body is None:
            raise RenewalError(f"{name} has no body")
        self._define(_position(body), name)

    def _define(self, position: int, name: str) -> str:
        """Add the definition of an object, unless it is there, and return its name."""
        if position not in self._names:
            name = name if name not in self._definitions else f"{name}_{position}"
            self._names[position] = name
            self._definitions[name] = Definition()  # takes the name, since the object may contain itself
            self._definitions[name] = self._object(self._published[position])
        return self._names[position]

    def _convert(self, reference: Reference) -> Definition:  # noqa: PLR0911 one return a sort of type
        position = _position(reference)
        published = self._published[position]
        if published.sort in _OBJECTS:
            return Definition(ref=self._define(position, published.name.replace("/", "_")))  # a "/" marks resources
        match published.sort:
            case "StringType":
                return Definition(
                    type="string",
                    minLength=published.min_length or 0,
                    maxLength=published.max_length,
                    pattern=published.pattern or "",
                )
            case "StringLiteralType":
                return Definition(const=published.value)
            case "IntegerType":
                return Definition(type="int", min=published.min_value, max=published.max_value)
            case "BooleanType":
                return Definition(type="bool")
            case "AnyType":
                return Definition(type="any")
            case "ArrayType":
                item = published.item_type
                return Definition(type="array", items=self._convert(item) if item else None)
            case "UnionType":
                return self._union(published)
            case sort:
                raise RenewalError(f"there is a new sort of type, {sort}: teach published_types.py to read it")

    def _union(self, published: PublishedType) -> Definition:
        """Convert a union. String literals beside any string are the documented values of an open list."""
        options = [self._convert(reference) for reference in published.elements if isinstance(reference, Reference)]
        literals = [option.const for option in options if option.const is not None]
        others = [option for option in options if option.const is None]
        if not others:
            return Definition(enum=literals)
        if literals and others == [Definition(type="string")]:
            return Definition(type="string", known=[str(literal) for literal in literals])
        return Definition(anyOf=options)

    def _object(self, published: PublishedType) -> Definition:
        additional = published.additional_properties
        elements = published.elements if isinstance(published.elements, dict) else {}
        properties = published.base_properties if published.discriminator else published.properties
        return Definition(
            type="object",
            properties={name: self._property(found) for name, found in sorted(properties.items())},
            additionalProperties=self._convert(additional) if additional else None,
            discriminator=published.discriminator,
            variants={name: self._convert(found) for name, found in sorted(elements.items())},
        )

    def _property(self, published: Property) -> Definition:
        flags = {"required": bool(published.flags & _REQUIRED), "read_only": bool(published.flags & _READ_ONLY)}
        return self._convert(published.type).model_copy(update=flags)


def _position(reference: Reference) -> int:
    path, _, position = reference.ref.partition("#/")
    if path:
        raise RenewalError(f"a type is in another file, which is not followed: {reference.ref}")
    return int(position)


def as_json(definitions: Mapping[str, Mapping[str, Definition]]) -> str:
    """Return the text of published_types.json: one line per definition, so that a renewal shows what changed."""
    namespaces = []
    for namespace, by_name in sorted(definitions.items()):
        lines = ",\n".join(f'"{name}":{_one_line(found)}' for name, found in sorted(by_name.items()))
        namespaces.append(f'"{namespace}":{{\n{lines}\n}}')
    return "{\n" + ",\n".join(namespaces) + "\n}\n"


def _one_line(definition: Definition) -> str:
    return definition.model_dump_json(by_alias=True, exclude_defaults=True)


def used_resources(program: Program) -> set[str]:
    """Return `Provider/type@version` of each resource in a folder's templates."""
    templates = [program.template(path) for path in program.names(".bicep")]
    return {template.resource_type(declared) for template in templates for declared in template.resources}


def main() -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bicep_check.renew_types",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("generated", type=Path, help="the folder `generated` of a clone of Azure/bicep-types-az")
    parser.add_argument("--templates", type=Path, default=Path("infra"), help="the folder of the templates (infra)")
    arguments = parser.parse_args()
    try:
        definitions = convert(arguments.generated, used_resources(Program.of_folder(arguments.templates)))
    except (RenewalError, OSError) as error:
        print(f"renew_types: {error}", file=sys.stderr)
        return 1
    FILE.write_text(as_json(definitions), encoding="utf-8")
    print(f"renew_types: {sum(map(len, definitions.values()))} definitions in {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
