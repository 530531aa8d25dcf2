"""The OpenAPI document: it is valid and complete, and the routes answer any request as it says."""

import asyncio
import copy
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import JsonValue
from schemathesis import GenerationMode

from functions.openapi import document
from functions.openapi_webhooks import event_components
from functions.routing import Route
from shared.api.validation import query_names
from shared.domain.deliveries import EVENT_TYPES
from shared.relay.event_models import event_schema
from shared.services import Services
from tests.functions.fuzzing import CHECKS, is_blank
from tests.functions.harness import KEY, ROUTES, App, about_operation, relay_to, store_delivery

EXAMPLES = {"keep_alive_now": 2, "openapi": 1, "health": 2, "list_termination_codes": 2}  # these take no input
FUZZED = [route for route in ROUTES if route.name != "receive_notifications"]  # its body is Graph's, not ours to tell


async def test_the_document_is_valid_and_served_to_everybody(app: App) -> None:
    served = await app.asked("GET", "openapi.json", headers={})
    OpenAPIV31SpecValidator(served).validate()
    assert served == document()


def test_every_route_is_in_it_with_every_answer_and_nothing_else() -> None:
    paths: Any = document()["paths"]
    operations = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert operations == {(route.method, f"/api/{route.path}") for route in ROUTES}
    for route in ROUTES:
        operation = paths[f"/api/{route.path}"][route.method.lower()]
        assert operation["operationId"] == route.name
        assert operation["summary"]
        assert set(map(int, operation["responses"])) == {*route.responses, *route.errors}


def test_management_routes_ask_for_the_key_and_the_others_do_not() -> None:
    paths: Any = document()["paths"]
    for route in ROUTES:
        security = paths[f"/api/{route.path}"][route.method.lower()]["security"]
        assert all("functionKey" in way for way in security) == (route.role is not None or security == [])


def test_each_event_is_a_webhook_with_its_schema_headers_and_answers() -> None:
    found: Any = document()["webhooks"]
    schemas: Any = document()["components"]
    assert tuple(found) == EVENT_TYPES
    for event_type, item in found.items():
        operation = item["post"]
        reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = schemas["schemas"][reference.removeprefix("#/components/schemas/")]
        assert schema["properties"]["type"]["const"] == event_type
        headers = {each["name"]: each["required"] for each in operation["parameters"]}
        assert headers == {"webhook-id": True, "webhook-timestamp": True, "webhook-signature": False}
        assert {*operation["responses"]} == {"202", "410", "429", "503"}
        assert [status for status in operation["responses"] if "headers" in operation["responses"][status]] == [
            *("429", "503")
        ]
        assert {name for way in operation["security"] for name in way} <= {*schemas["securitySchemes"]}


def test_the_schemas_of_events_are_those_that_are_published() -> None:
    schemas: Any = document()["components"]
    for event_type in EVENT_TYPES:
        published = event_schema(event_type)
        for name, schema in published["$defs"].items():
            assert schemas["schemas"][name] == schema
        of_document = schemas["schemas"][published["title"]]
        assert of_document["required"] == published["required"]
        assert of_document["properties"].keys() == published["properties"].keys()


def test_generators_of_clients_get_no_event_that_they_would_misread() -> None:
    """Measured: 2XX makes code that does not compile, and a member behind `anyOf` with null is lost."""
    events = json.dumps([document()["webhooks"], event_components("{model}")])
    assert [word for word in ("XX", "anyOf", '"default"', '"title": ""') if word in events] == []
    operations: Any = [*document()["paths"].values(), *document()["webhooks"].values()]  # type: ignore[attr-defined] # JSON
    ids = [operation["operationId"] for item in operations for operation in item.values()]
    assert sorted(set(ids)) == sorted(ids)


def _takes_input(route: Route) -> bool:
    """True if a route takes more than ids. The host itself answers an address whose id is not one path segment."""
    return route.request is not None or bool(query_names(route.query))


MODES = [
    (route, mode)
    for route in FUZZED
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or _takes_input(route)
]


@pytest.mark.parametrize(("route", "mode"), MODES, ids=[f"{route.name}-{mode.value}" for route, mode in MODES])
async def test_a_route_answers_any_request_as_the_document_says(app: App, route: Route, mode: GenerationMode) -> None:
    """First with any ids, then with those of a call, an operation, a delivery and a target that are there."""
    call_id, operation_id = await app.register(), str(uuid4())
    await app.notify(about_operation(call_id, operation_id, status="running"))
    delivery, target = await store_delivery(app, call_id, target="fuzzed"), "fuzzed"
    known = {"callId": call_id, "operationId": operation_id, "deliveryId": delivery.id, "name": target}
    mine = {parameter.name: known[parameter.name] for parameter in route.parameters if parameter.location == "path"}
    await asyncio.to_thread(_fuzz, app.address, route, mode, None)
    if mine and mode is GenerationMode.POSITIVE:
        async with app.configured(Services, **relay_to(target)):
            await asyncio.to_thread(_fuzz, app.address, route, mode, mine)


def _fuzz(address: str, route: Route, mode: GenerationMode, path_parameters: dict[str, Any] | None) -> None:
    # Without security: the answers to a missing key are the host's, and it has no problem+json.
    described: Any = copy.deepcopy(document())
    for item in described["paths"].values():
        for described_operation in item.values():
            del described_operation["security"]
    operation = schemathesis.openapi.from_dict(described)[f"/api/{route.path}"][route.method]

    @settings(
        max_examples=EXAMPLES.get(route.name, 40),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode, path_parameters=path_parameters))
    def stands(case: schemathesis.Case[Any]) -> None:
        assume(not any(map(is_blank, (case.query or {}).values())))  # Azure's host leaves these out: no fault
        case.call_and_validate(base_url=address, headers=KEY, checks=CHECKS)

    stands()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ["terminated", "established", "running", "completed", "deleted", "updated", "200", "8537", "", "."]
)
PATHS = st.sampled_from(
    [
        "/communications/calls/{id}",
        "/app/calls/{id}/operations/o1",
        "calls/{id}/participants",
        "//calls/%00",
        "/calls/.",
    ]
)
MEMBERS = st.sampled_from(
    ["@odata.type", "id", "state", "status", "resultInfo", "code", "subcode", "message", "direction", "callChainId"]
)
ITEMS = JSON | st.fixed_dictionaries(
    {
        "changeType": WORDS | JSON,
        "resourceUrl": PATHS | JSON,
        "resourceData": st.dictionaries(
            MEMBERS, WORDS | JSON | st.dictionaries(MEMBERS, WORDS | JSON, max_size=3), max_size=6
        )
        | JSON,
    }
)


async def test_the_webhook_answers_any_signed_body_as_the_document_says(app: App) -> None:
    call_id = await app.register()
    signed = await app.simulator.signature(app.tenant)
    webhook = next(route for route in ROUTES if route.name == "receive_notifications")

    @settings(max_examples=80, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(body=st.builds(lambda items: {"value": items}, st.lists(ITEMS, max_size=4)) | JSON)
    def stands(body: JsonValue) -> None:
        content = json.dumps(body).replace("{id}", call_id)
        answer = httpx.post(f"{app.address}/api/notifications", content=content, headers=signed)
        assert answer.status_code in {*webhook.responses, *webhook.errors} - {500, 503}, answer.text

    await asyncio.to_thread(stands)
    assert (await app.asked("GET", f"calls/{call_id}"))["id"] == call_id
