"""Schemathesis against the running host: whatever a caller sends, with the right credentials, wrong ones and none."""

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
from tests.system.e2e.guarded import A_DAY, asking, bearer

OTHER_ISSUER = "https://login.microsoftonline.com/5b0c9d1e-7f3a-4b26-8e4d-9a1c2b3d4e5f/v2.0"  # not the stack's Entra
OPEN = {"/api/health", "/api/openapi.json"}
OF_GRAPH = "/api/notifications"
REFUSED = {401, 403}
REFUSED_BY_THE_WEBHOOK = {401, 413, 415}  # size and type are looked at before the token
GUID = "^/communications/calls/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

type Case = schemathesis.Case[Any]
type Headers = Mapping[str, str]
type Credentials = Mapping[str, Headers]


@dataclass(frozen=True)
class Target:
    """The running host, what it says of itself, a call that it has, and who may ask."""

    address: str
    document: dict[str, Any]
    call_id: str
    trusted: Headers
    of_graph: Headers
    strangers: Credentials
    strangers_to_graph: Credentials

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Path and method of all; what ends the call comes last, so that all others find it alive."""
        found = [(path, method.upper()) for path, item in self.document["paths"].items() for method in item]
        return sorted(found, key=lambda route: route[0].endswith("/hangup"))

    @property
    def guarded(self) -> list[tuple[str, str]]:
        """Those that are not open to all."""
        return [(path, method) for path, method in self.routes if path not in OPEN]

    def rights(self, path: str) -> Headers:
        """The credentials that a route takes."""
        return self.of_graph if path == OF_GRAPH else self.trusted

    def wrongs(self, path: str) -> Credentials:
        """Credentials that it does not."""
        return self.strangers_to_graph if path == OF_GRAPH else self.strangers

    def takes_input(self, path: str, method: str) -> bool:
        """Whether there is anything to get wrong but ids."""
        operation = self.document["paths"][path][method.lower()]
        given = [parameter for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
        return bool(given) or "requestBody" in operation


@contextmanager
def target() -> Iterator[Target]:
    """The host with MANAGEMENT_AUDIENCE set, its storage and a simulated Graph in real time."""
    with running(Options(speed=1, schedule="0 */15 * * * *", settings=asking())) as world:
        yield _target(world)


def _target(world: World) -> Target:
    address, key = world.stack.address, {"x-functions-key": world.stack.function_key}
    trusted = key | _bearer(world)
    call_id = world.begin()
    registered = httpx.put(f"{address}/api/calls/{call_id}", json={"tenantId": TENANT}, headers=trusted, timeout=30)
    assert registered.is_success, registered.text  # 200 where its notification was quicker
    described = copy.deepcopy(httpx.get(f"{address}/api/openapi.json", timeout=30).json())
    for item in described["paths"].values():
        for operation in item.values():
            del operation["security"]  # credentials are ours to send; and the platform's own 401 is no problem+json
    body = {"required": True, "content": {"application/json": {"schema": _notifications(world.begin())}}}
    described["paths"][OF_GRAPH]["post"]["requestBody"] = body
    strangers = {
        "nothing": {},
        "another key": {"x-functions-key": "another"},
        "a token alone": _bearer(world),
        "the key alone": key,
        "no role": key | _bearer(world, roles=[]),
        "another audience": key | _bearer(world, audience="api://another"),
        "another issuer": key | _bearer(world, issuer=OTHER_ISSUER),
        "an old token": key | _bearer(world, expiresIn=-A_DAY),
        "no token": key | {"Authorization": "Bearer x.y.z"},
    }
    strangers_to_graph = {
        "nothing": {},
        "a bot's own token": trusted,
        "another bot's": _graphs(world, appId=str(uuid4())),
        "another issuer": _graphs(world, issuer=OTHER_ISSUER),
        "an old token": _graphs(world, expiresIn=-A_DAY),
        "no token": {"Authorization": "Bearer x.y.z"},
    }
    return Target(address, described, call_id, trusted, _graphs(world), strangers, strangers_to_graph)


def _notifications(call_id: str) -> dict[str, Any]:
    """What Graph sends, as JSON Schema: of a call that is there, of its operations, of calls that nobody knows."""
    path, text, number = f"/communications/calls/{call_id}", {"type": "string"}, {"type": "integer"}
    result = {"type": "object", "properties": {"code": number, "subcode": number, "message": text}}
    known = {"state": {"enum": ["incoming", "established", "terminated"]}, "status": {"enum": ["running", "completed"]}}
    data = {"type": "object", "properties": {**known, "id": text, "resultInfo": result, "recordingLocation": text}}
    place = {"anyOf": [{"enum": [path, f"{path}/operations/{call_id}"]}, {"type": "string", "pattern": GUID}]}
    named = {"changeType": {"enum": ["created", "updated", "deleted"]}, "resourceUrl": place, "resourceData": data}
    items = {"type": "object", "required": ["resourceUrl"], "properties": named}
    return {"type": "object", "required": ["value"], "properties": {"value": {"type": "array", "items": items}}}


def _graphs(world: World, **other: object) -> dict[str, str]:
    graphs = {"kind": "notification", "appId": APP_ID, "tenantId": TENANT, "audience": None, "issuer": None}
    return bearer(world.stack.simulator, **graphs | other)


def _bearer(world: World, **other: object) -> dict[str, str]:
    return bearer(world.stack.simulator, **other)


def hammer(target: Target, path: str, method: str, mode: GenerationMode, number: int, *, examples: int) -> None:
    """Send what a trusted caller may send, or may not; with any ids, then with those of a call that is there."""
    operation = schemathesis.openapi.from_dict(copy.deepcopy(target.document))[path][method]
    wanted: list[dict[str, str] | None] = [None]
    if "{callId}" in path and "{operationId}" not in path and mode is GenerationMode.POSITIVE:
        wanted.append({"callId": target.call_id})
    # A notification may be odd and genuine: Graph documents no bounds, so what the schema forbids is stored too.
    checks = [check for check in CHECKS if path != OF_GRAPH or check is not invalid_data_rejection]

    def stands(case: Case) -> None:
        assume(not any(map(is_blank, (case.query or {}).values())))
        case.call_and_validate(base_url=target.address, headers=dict(target.rights(path)), checks=checks)

    for parameters in wanted:
        _each(operation.as_strategy(mode, path_parameters=parameters), stands, number, examples)


def intrude(target: Target, path: str, method: str, mode: GenerationMode, number: int, *, examples: int) -> None:
    """Send the same with credentials that are none."""
    operation = schemathesis.openapi.from_dict(copy.deepcopy(target.document))[path][method]
    wrongs = target.wrongs(path)

    def learns_nothing(asked: tuple[Case, str]) -> None:
        case, stranger = asked
        tells_nothing(target, path, case.call(base_url=target.address, headers=dict(wrongs[stranger])))

    known = {"callId": target.call_id} if "{callId}" in path and "{operationId}" not in path else None
    cases = operation.as_strategy(mode) | operation.as_strategy(mode, path_parameters=known)
    _each(st.tuples(cases, st.sampled_from(sorted(wrongs))), learns_nothing, number, examples)


def tells_nothing(target: Target, path: str, answer: Response | httpx.Response) -> None:
    """Hold an answer to what a stranger may hear."""
    assert answer.status_code in (REFUSED_BY_THE_WEBHOOK if path == OF_GRAPH else REFUSED), answer.status_code
    assert target.call_id not in answer.text
    assert set(answer.json() if answer.content else {}) <= {"type", "title", "status", "detail"}


def _each[Asked](wanted: st.SearchStrategy[Asked], holds: Callable[[Asked], None], number: int, examples: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(asked=wanted)
    def each(asked: Asked) -> None:
        holds(asked)

    each()


def knock(target: Target, client: httpx.Client, path: str, method: str, headers: Headers) -> httpx.Response:
    """Ask a guarded route for the call that is there."""
    place = path.replace("{callId}", target.call_id).replace("{operationId}", "an-operation")
    return client.request(method, target.address + place, headers=dict(headers))
