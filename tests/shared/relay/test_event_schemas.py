"""The JSON Schemas of our events and their examples: as the code makes them, and compatible with version 1."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from functions.problems import PROBLEM_TYPES
from shared.api.views import FAULT_OWNERS
from shared.domain.calls import TerminationSource
from shared.domain.deliveries import EVENT_TYPES
from shared.errors import GraphError, TokenUnavailable
from shared.keeping.renewer import REASONS_NOT_ASKED, classify_failure
from shared.model import Model
from shared.relay.event_models import EVENT_MODELS, CallAtRiskData, CallEndedData, event_schema
from tests.docs.documents import read
from tools.docs_tables import EVENT_EXAMPLES
from tools.event_examples import EXAMPLES, SCHEMAS, event_examples, generated_files, schema_file

PUBLISHED = EXAMPLES / "version-1"  # as they were first published; no command writes them
PUBLISHED_EXAMPLES = sorted(path for path in PUBLISHED.glob("*.json") if ".schema." not in path.name)
GENERATED = generated_files()


def name_of(path: Path) -> str:
    return path.name


def load(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content)
    return found


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


@pytest.mark.parametrize("path", GENERATED, ids=name_of)
def test_a_file_is_as_the_code_makes_it(path: Path) -> None:
    assert path.read_bytes() == GENERATED[path], "run: .venv/bin/python -m tools.docs_tables"


def test_there_is_no_file_of_an_event_that_is_no_more() -> None:
    assert {*SCHEMAS.iterdir(), *EXAMPLES.glob("*.json")} == GENERATED.keys()


def test_each_type_of_event_has_an_example_and_a_link_to_its_schema() -> None:
    assert {load(body)["type"] for body in event_examples().values()} == set(EVENT_TYPES)
    assert tuple(EVENT_EXAMPLES) == EVENT_TYPES
    page = read("docs/events.md")
    assert [name for name in EVENT_TYPES if f"(events/{schema_file(name).name})" not in page] == []


@pytest.mark.parametrize("name", event_examples())
def test_an_example_fits_its_schema_and_names_each_member_in_it(name: str) -> None:
    event = load(event_examples()[name])
    schema = event_schema(event["type"])
    validator(schema).validate(event)
    [data] = schema["$defs"].values()
    assert event.keys() == schema["properties"].keys()
    assert event["data"].keys() == data["properties"].keys()


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_schema_refuses_an_event_without_a_member_or_with_another_type(event_type: str) -> None:
    event = load(event_examples()[EVENT_EXAMPLES[event_type]])
    valid = validator(event_schema(event_type)).is_valid
    assert valid(event)
    for member in event:
        assert not valid({name: event[name] for name in event if name != member})
    data = event["data"]
    for member in data:
        assert not valid(event | {"data": {name: data[name] for name in data if name != member}})
    for wrong in ({"type": "call.begun"}, {"version": "2"}, {"timestamp": "noon"}, {"data": None}):
        assert not valid(event | wrong)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_schema_has_what_generators_of_clients_understand(event_type: str) -> None:
    """Measured: they lose a value behind `anyOf` with null, and demand members that have a default."""
    text = json.dumps(event_schema(event_type))
    assert [word for word in ("anyOf", "oneOf", '"default"', "additionalProperties", "enum") if word in text] == []
    [data] = event_schema(event_type)["$defs"].values()
    assert [name for name, member in data["properties"].items() if "description" not in member] == []


def test_each_word_that_a_member_may_have_is_described() -> None:
    errors = [kind for kind, _ in PROBLEM_TYPES if issubclass(kind, GraphError)] + GraphError.__subclasses__()
    failures = {classify_failure(error("")).reason for error in {*errors, TokenUnavailable, RuntimeError}}
    sources = {*TerminationSource} - {TerminationSource.UNKNOWN}
    assert listed(CallEndedData, "source") == sources
    assert listed(CallEndedData, "fault_owner") == FAULT_OWNERS
    assert listed(CallAtRiskData, "failure") == failures | REASONS_NOT_ASKED


def listed(model: type[Model], member: str) -> set[str]:
    """The words that a description lists."""
    words = str(model.model_fields[member].description).partition(": ")[2].partition(". More may come")[0]
    return set(re.split(", | or ", words))


@pytest.mark.parametrize("path", PUBLISHED_EXAMPLES, ids=name_of)
def test_an_event_of_the_first_version_is_still_valid_and_read(path: Path) -> None:
    """An outbox may hold events of an older version, and a receiver may keep them for years."""
    event = load(path.read_bytes())
    validator(event_schema(event["type"])).validate(event)
    EVENT_MODELS[event["type"]].model_validate_json(path.read_bytes())


@pytest.mark.parametrize("name", event_examples())
def test_an_event_of_today_is_valid_for_a_receiver_with_the_first_schema(name: str) -> None:
    event = load(event_examples()[name])
    validator(load((PUBLISHED / schema_file(event["type"]).name).read_bytes())).validate(event)


def test_an_event_with_more_members_is_valid_for_a_receiver_with_the_first_schema() -> None:
    for path in PUBLISHED_EXAMPLES:
        event = load(path.read_bytes())
        event |= {"more": 1, "data": event["data"] | {"more": {"of": "it"}}}
        validator(load((PUBLISHED / schema_file(event["type"]).name).read_bytes())).validate(event)
        EVENT_MODELS[event["type"]].model_validate(event)


def test_the_first_version_is_all_there() -> None:
    assert {path.name for path in PUBLISHED.glob("*.schema.json")} == {schema_file(name).name for name in EVENT_TYPES}
    assert {load(path.read_bytes())["type"] for path in PUBLISHED_EXAMPLES} == set(EVENT_TYPES)
