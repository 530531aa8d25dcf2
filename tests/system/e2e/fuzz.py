"""Schemathesis against the running host: arbitrary requests with the right credentials, wrong ones and none."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, Response

from local.stack.stack import APP_ID, Options
from soak.real.world import TENANT, World, running
from tests.functions.fuzzing import CHECKS, invalid_data_rejection, is_blank
from tests.system.e2e.management_auth import DAY, bearer
from tests.system.e2e.management_auth import settings as management_settings

# The stack's Entra is the simulator, which has another issuer.
OTHER_ISSUER = "https://login.microsoftonline.com/5b0c9d1e-7f3a-4b26-8e4d-9a1c2b3d4e5f/v2.0"
OPEN = {"/api/health", "/api/openapi.json"}
WEBHOOK = "/api/notifications"
REFUSED = {401, 403}
REFUSED_BY_THE_WEBHOOK = {401, 413, 415}  # size and type are checked before the token
GUID = "^/communications/calls/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

type Case = schemathesis.Case[Any]
type Headers = Mapping[str, str]
type Credentials = Mapping[str, Headers]


@dataclass(frozen=True)
class Target:
    """The running host, its OpenAPI document, a stored call, and credentials: accepted ones and wrong ones."""

    address: str
    document: dict[str, Any]
    call_id: str
    trusted: Headers
    webhook_headers: Headers
    wrong_for_others: Credentials
    wrong_for_webhook: Credentials

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Path and method of each route. The one that ends the call comes last, so that all others find it active."""
        found = [(path, method.upper()) for path, item in self.document["paths"].items() for method in item]
        return sorted(found, key=lambda route: route[0].endswith("/hangup"))

    @property
    def guarded(self) -> list[tuple[str, str]]:
        """The routes that need credentials."""
        return [(path, method) for path, method in self.routes if path not in OPEN]

    def accepted(self, path: str) -> Headers:
        """Return credentials that a route accepts."""
        return self.webhook_headers if path == WEBHOOK else self.trusted

    def refused(self, path: str) -> Credentials:
        """Return credentials that a route refuses, by name."""
        return self.wrong_for_webhook if path == WEBHOOK else self.wrong_for_others

    def takes_input(self, path: str, method: str) -> bool:
        """Return True if the route has a query or a body, so that a request can be invalid apart from its ids."""
        operation = self.document["paths"][path][method.lower()]
        given = [parameter for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
        return bool(given) or "requestBody" in operation


@contextmanager
def target() -> Iterator[Target]:
    """Run the host with MANAGEMENT_AUDIENCE set, its storage, and a simulated Graph in real time."""
    with running(Options(speed=1, schedule="0 */15 * * * *", settings=management_settings())) as world:
        yield _target(world)


def _target(world: World) -> Target:
    address, key = world.stack.address, {"x-functions-key": world.stack.function_key}
    trusted = key | _bearer(world)
    call_id = world.begin()
    registered = httpx.put(f"{address}/api/calls/{call_id}", json={"tenantId": TENANT}, headers=trusted, timeout=30)
    assert registered.is_success, registered.text  # 200 if its notification was stored before
    described = copy.deepcopy(httpx.get(f"{address}/api/openapi.json", timeout=30).json())
    for item in described["paths"].values():
        for operation in item.values():
            del operation["security"]  # `hammer` sends the credentials; and the platform's own 401 is no problem+json
    body = {"required": True, "content": {"application/json": {"schema": _notifications(world.begin())}}}
    described["paths"][WEBHOOK]["post"]["requestBody"] = body
    wrong_for_others = {
        "nothing": {},
        "another key": {"x-functions-key": "another"},
        "a token alone": _bearer(world),
        "the key alone": key,
        "no role": key | _bearer(world, roles=[]),
        "another audience": key | _bearer(world, audience="api://another"),
        "another issuer": key | _bearer(world, issuer=OTHER_ISSUER),
        "an old token": key | _bearer(world, expiresIn=-DAY),
        "no token": key | {"Authorization": "Bearer x.y.z"},
    }
    wrong_for_webhook = {
        "nothing": {},
        "a bot's own token": trusted,
        "another bot's": _webhook_token(world, appId=str(uuid4())),
        "another issuer": _webhook_token(world, issuer=OTHER_ISSUER),
        "an old token": _webhook_token(world, expiresIn=-DAY),
        "no token": {"Authorization": "Bearer x.y.z"},
    }
    return Target(address, described, call_id, trusted, _webhook_token(world), wrong_for_others, wrong_for_webhook)


def _notifications(call_id: str) -> dict[str, Any]:
    """Return Graph's notifications as JSON Schema: about a stored call, its operations, and unknown calls."""
    path, text, number = f"/communications/calls/{call_id}", {"type": "string"}, {"type": "integer"}
    result = {"type": "object", "properties": {"code": number, "subcode": number, "message": text}}
    known = {"state": {"enum": ["incoming", "established", "terminated"]}, "status": {"enum": ["running", "completed"]}}
    data = {"type": "object", "properties": {**known, "id": text, "resultInfo": result, "recordingLocation": text}}
    url = {"anyOf": [{"enum": [path, f"{path}/operations/{call_id}"]}, {"type": "string", "pattern": GUID}]}
    named = {"changeType": {"enum": ["created", "updated", "deleted"]}, "resourceUrl": url, "resourceData": data}
    items = {"type": "object", "required": ["resourceUrl"], "properties": named}
    return {"type": "object", "required": ["value"], "properties": {"value": {"type": "array", "items": items}}}


def _webhook_token(world: World, **other: object) -> dict[str, str]:
    graphs = {"kind": "notification", "appId": APP_ID, "tenantId": TENANT, "audience": None, "issuer": None}
    return bearer(world.stack.simulator, **graphs | other)


def _bearer(world: World, **other: object) -> dict[str, str]:
    return bearer(world.stack.simulator, **other)


def hammer(target: Target, path: str, method: str, mode: GenerationMode, number: int, *, examples: int) -> None:
    """Send valid or invalid requests with the right credentials: with any ids, then with those of a stored call."""
    operation = schemathesis.openapi.from_dict(copy.deepcopy(target.document))[path][method]
    wanted: list[dict[str, str] | None] = [None]
    if "{callId}" in path and "{operationId}" not in path and mode is GenerationMode.POSITIVE:
        wanted.append({"callId": target.call_id})
    # A notification may be odd and genuine: Graph documents no bounds, so the app stores what the schema forbids.
    checks = [check for check in CHECKS if path != WEBHOOK or check is not invalid_data_rejection]

    def check(case: Case) -> None:
        assume(not any(map(is_blank, (case.query or {}).values())))
        case.call_and_validate(base_url=target.address, headers=dict(target.accepted(path)), checks=checks)

    for parameters in wanted:
        _each(operation.as_strategy(mode, path_parameters=parameters), check, number, examples)


def intrude(target: Target, path: str, method: str, mode: GenerationMode, number: int, *, examples: int) -> None:
    """Send the same requests with wrong credentials."""
    operation = schemathesis.openapi.from_dict(copy.deepcopy(target.document))[path][method]
    refused = target.refused(path)

    def check(asked: tuple[Case, str]) -> None:
        case, stranger = asked
        assert_discloses_nothing(target, path, case.call(base_url=target.address, headers=dict(refused[stranger])))

    known = {"callId": target.call_id} if "{callId}" in path and "{operationId}" not in path else None
    cases = operation.as_strategy(mode) | operation.as_strategy(mode, path_parameters=known)
    _each(st.tuples(cases, st.sampled_from(sorted(refused))), check, number, examples)


def assert_discloses_nothing(target: Target, path: str, response: Response | httpx.Response) -> None:
    """Check that a response refuses the request, and says nothing about the call."""
    assert response.status_code in (REFUSED_BY_THE_WEBHOOK if path == WEBHOOK else REFUSED), response.status_code
    assert target.call_id not in response.text
    assert set(response.json() if response.content else {}) <= {"type", "title", "status", "detail"}


def _each[Drawn](
    strategy: st.SearchStrategy[Drawn], check: Callable[[Drawn], None], number: int, examples: int
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn=strategy)
    def each(drawn: Drawn) -> None:
        check(drawn)

    each()


def request_call(target: Target, client: httpx.Client, path: str, method: str, headers: Headers) -> httpx.Response:
    """Request the stored call from a route that needs credentials."""
    known = {"callId": target.call_id, "operationId": "an-operation", "deliveryId": "a-delivery", "name": "a-target"}
    return client.request(method, target.address + path.format(**known), headers=dict(headers))
