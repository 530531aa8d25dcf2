"""The conversion of Microsoft's published types, in the format of Azure/bicep-types, to published_types.json."""

import json
from pathlib import Path

import pytest

from tools.bicep_check import renew_types
from tools.bicep_check.program import Program
from tools.bicep_check.published_types import FILE, available, definitions
from tools.bicep_check.renew_types import RenewalError, as_json, convert, used_resources

ROOT = Path(__file__).parents[3]
RESOURCE = "Contoso.Shop/orders@2026-01-01"
REQUIRED, READ_ONLY, WRITE_ONLY, DEPLOY_TIME_CONSTANT = 1, 2, 4, 8
# The content of a types.json. Each type refers to others by their position in the list.
TYPES = [
    {"$type": "StringType"},
    {"$type": "StringType", "minLength": 3, "maxLength": 9, "pattern": "^[a-z]+$", "sensitive": True},
    {"$type": "IntegerType", "minValue": 1, "maxValue": 5},
    {"$type": "StringLiteralType", "value": "small"},
    {"$type": "StringLiteralType", "value": "large"},
    {"$type": "UnionType", "elements": [{"$ref": "#/3"}, {"$ref": "#/4"}]},
    {"$type": "UnionType", "elements": [{"$ref": "#/3"}, {"$ref": "#/4"}, {"$ref": "#/0"}]},
    {"$type": "UnionType", "elements": [{"$ref": "#/0"}, {"$ref": "#/2"}]},
    {
        "$type": "ObjectType",
        "name": "Contoso.Shop/orders",
        "properties": {
            "name": {"type": {"$ref": "#/1"}, "flags": REQUIRED | DEPLOY_TIME_CONSTANT, "description": "The name."},
            "id": {"type": {"$ref": "#/0"}, "flags": READ_ONLY | DEPLOY_TIME_CONSTANT},
            "password": {"type": {"$ref": "#/0"}, "flags": WRITE_ONLY},
            "size": {"type": {"$ref": "#/5"}},
            "openSize": {"type": {"$ref": "#/6"}},
            "either": {"type": {"$ref": "#/7"}},
            "parts": {"type": {"$ref": "#/9"}},
            "payment": {"type": {"$ref": "#/11"}},
        },
    },
    {"$type": "ArrayType", "itemType": {"$ref": "#/10"}},
    {
        "$type": "ObjectType",
        "name": "Part",
        "properties": {"parts": {"type": {"$ref": "#/9"}, "flags": 0}, "any": {"type": {"$ref": "#/13"}}},
        "additionalProperties": {"$ref": "#/14"},
    },
    {
        "$type": "DiscriminatedObjectType",
        "name": "Contoso.Shop/payment",
        "discriminator": "kind",
        "baseProperties": {"amount": {"type": {"$ref": "#/2"}, "flags": REQUIRED}},
        "elements": {"card": {"$ref": "#/12"}},
    },
    {"$type": "ObjectType", "name": "Part", "properties": {"kind": {"type": {"$ref": "#/3"}, "flags": REQUIRED}}},
    {"$type": "AnyType"},
    {"$type": "BooleanType"},
    {"$type": "ResourceType", "name": RESOURCE, "body": {"$ref": "#/8"}, "readableScopes": 8},
]


def published(folder: Path, types: object) -> Path:
    """Write a folder like `generated` of Azure/bicep-types-az."""
    path = folder / "shop" / "contoso.shop" / "2026-01-01" / "types.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(types), encoding="utf-8")
    index = {"resources": {RESOURCE: {"$ref": f"{path.relative_to(folder).as_posix()}#/15"}}, "settings": {}}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_each_sort_of_type_is_converted(tmp_path: Path) -> None:
    text = as_json(convert(published(tmp_path, TYPES), [RESOURCE]))
    assert json.loads(text) == {
        "Contoso.Shop@2026-01-01": {
            "Contoso.Shop/orders": {
                "type": "object",
                "properties": {
                    "either": {"anyOf": [{"type": "string"}, {"type": "int", "min": 1, "max": 5}]},
                    "id": {"type": "string", "readOnly": True},
                    "name": {
                        "type": "string",
                        "required": True,
                        "minLength": 3,
                        "maxLength": 9,
                        "pattern": "^[a-z]+$",
                    },
                    "openSize": {"type": "string", "known": ["small", "large"]},
                    "parts": {"type": "array", "items": {"ref": "Part"}},
                    "password": {"type": "string"},
                    "payment": {"ref": "Contoso.Shop_payment"},
                    "size": {"enum": ["small", "large"]},
                },
            },
            "Part": {
                "type": "object",
                "properties": {"any": {"type": "any"}, "parts": {"type": "array", "items": {"ref": "Part"}}},
                "additionalProperties": {"type": "bool"},
            },
            "Part_12": {"type": "object", "properties": {"kind": {"const": "small", "required": True}}},
            "Contoso.Shop_payment": {
                "type": "object",
                "properties": {"amount": {"type": "int", "required": True, "min": 1, "max": 5}},
                "discriminator": "kind",
                "variants": {"card": {"ref": "Part_12"}},
            },
        }
    }


@pytest.mark.parametrize(
    ("types", "resource", "expected"),
    [
        pytest.param(TYPES, "Contoso.Shop/carts@2026-01-01", "is not in .*index.json", id="a resource that is missing"),
        pytest.param([{"$type": "NewType"}, *TYPES[1:]], RESOURCE, "a new sort of type, NewType", id="a new sort"),
        pytest.param(
            [*TYPES[:9], {"$type": "ArrayType", "itemType": {"$ref": "../types.json#/1"}}, *TYPES[10:]],
            RESOURCE,
            "in another file",
            id="a type in another file",
        ),
    ],
)
def test_types_that_cannot_be_converted_are_named(tmp_path: Path, types: object, resource: str, expected: str) -> None:
    with pytest.raises(RenewalError, match=expected):
        convert(published(tmp_path, types), [resource])


def test_the_command_writes_the_types_that_the_templates_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates, written = tmp_path / "infra", tmp_path / "published_types.json"
    templates.mkdir()
    (templates / "main.bicep").write_text(f"resource x '{RESOURCE}' = {{ name: 'abc' }}", encoding="utf-8")
    generated = published(tmp_path / "generated", TYPES)
    monkeypatch.setattr(renew_types, "FILE", written)
    monkeypatch.setattr("sys.argv", ["renew_types", str(generated), "--templates", str(templates)])
    assert renew_types.main() == 0
    assert written.read_text(encoding="utf-8") == as_json(convert(generated, [RESOURCE]))


def test_the_file_in_the_repository_is_written_as_the_command_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == as_json(definitions())


def test_the_file_holds_the_types_that_the_templates_use_and_no_others() -> None:
    used = used_resources(Program.of_folder(ROOT / "infra"))
    assert available().keys() == {resource.lower() for resource in used}


def test_each_definition_is_reached_from_a_resource() -> None:
    for namespace, by_name in json.loads(FILE.read_text(encoding="utf-8")).items():
        waiting = {name for name in by_name if "/" in name}
        reached: set[str] = set()
        while waiting:
            name = waiting.pop()
            reached.add(name)
            waiting |= set(_references(by_name[name])) - reached
        assert reached == by_name.keys(), namespace


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["ref"]] if isinstance(value.get("ref"), str) else []
        return own + [name for inner in value.values() for name in _references(inner)]
    return []
