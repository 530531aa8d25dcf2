"""Schemathesis against the running host: whatever a caller sends, with the right credentials, wrong ones and none."""

import copy
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from schemathesis import GenerationMode

from local.stack import Options, Ports
from tests.e2e.world import TENANT, World, running
from tests.functions.fuzzing import CHECKS, is_blank

AUDIENCE = "api://call-keeper-for-fuzzing"
MANAGEMENT_TENANT = "5b0c9d1e-7f3a-4b26-8e4d-9a1c2b3d4e5f"
ISSUER = f"https://login.microsoftonline.com/{MANAGEMENT_TENANT}/v2.0"
ROLES = ["Calls.Read", "Calls.Manage", "Recordings.Read"]
A_DAY = 86_400  # seconds
OPEN = {"/api/health", "/api/openapi.json"}
OF_GRAPH = "/api/notifications"  # its body is Graph's: tests/attacks tries that

type Headers = Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """The running host, what it says of itself, a call that it has, and who may ask."""

    address: str
    document: dict[str, Any]
    call_id: str
    trusted: Headers
    strangers: Mapping[str, Headers]

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Path and method of all but Graph's own."""
        found = ((path, method) for path, item in self.document["paths"].items() for method in item)
        return [(path, method.upper()) for path, method in found if path != OF_GRAPH]

    @property
    def guarded(self) -> list[tuple[str, str]]:
        """Those that are not open to all."""
        return [(path, method) for path, method in self.routes if path not in OPEN]


@contextmanager
def target() -> Iterator[Target]:
    """The host with MANAGEMENT_AUDIENCE set, its storage and a simulated Graph in real time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    metadata = f"http://127.0.0.1:{port}/{MANAGEMENT_TENANT}/v2.0/.well-known/openid-configuration"
    asking = {
        "MANAGEMENT_AUDIENCE": AUDIENCE,
        "MANAGEMENT_TENANT_ID": MANAGEMENT_TENANT,
        "MANAGEMENT_METADATA_URL": metadata,
        "MANAGEMENT_ISSUERS": ISSUER,
    }
    with running(Options(speed=1, schedule="0 */15 * * * *", ports=Ports(simulator=port), settings=asking)) as world:
        yield _target(world)


def _target(world: World) -> Target:
    address, key = world.stack.address, {"x-functions-key": world.stack.function_key}
    trusted = key | _bearer(world)
    call_id = world.begin()
    registered = httpx.put(f"{address}/api/calls/{call_id}", json={"tenantId": TENANT}, headers=trusted, timeout=30)
    assert registered.status_code == httpx.codes.CREATED, registered.text
    described = copy.deepcopy(httpx.get(f"{address}/api/openapi.json", timeout=30).json())
    for item in described["paths"].values():
        for operation in item.values():
            del operation["security"]  # credentials are ours to send; and the platform's own 401 is no problem+json
    strangers = {
        "nothing": {},
        "another key": {"x-functions-key": "another"},
        "a token alone": _bearer(world),
        "the key alone": key,
        "no role": key | _bearer(world, roles=[]),
        "another audience": key | _bearer(world, audience="api://another"),
        "another issuer": key | _bearer(world, issuer=f"{ISSUER}x"),
        "an old token": key | _bearer(world, expiresIn=-A_DAY),
        "no token": key | {"Authorization": "Bearer x.y.z"},
    }
    return Target(address, described, call_id, trusted, strangers)


def _bearer(world: World, **other: object) -> dict[str, str]:
    wanted = {"tenantId": MANAGEMENT_TENANT, "audience": AUDIENCE, "issuer": ISSUER, "roles": ROLES, "expiresIn": A_DAY}
    token = world.control("POST", "/tokens", {"appId": str(uuid4()), **wanted, **other}).json()["token"]
    return {"Authorization": f"Bearer {token}"}


def hammer(target: Target, path: str, method: str, mode: GenerationMode, number: int, *, examples: int) -> None:
    """Send what a trusted caller may send, or may not; with any ids, then with those of a call that is there."""
    operation = schemathesis.openapi.from_dict(copy.deepcopy(target.document))[path][method]
    wanted: list[dict[str, str] | None] = [None]
    if "{callId}" in path and "{operationId}" not in path and mode is GenerationMode.POSITIVE:
        wanted.append({"callId": target.call_id})
    for parameters in wanted:
        _each(operation.as_strategy(mode, path_parameters=parameters), target, number, examples)


def _each(cases: Any, target: Target, number: int, examples: int) -> None:  # noqa: ANN401 (Hypothesis's, untyped)
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def stands(case: schemathesis.Case[Any]) -> None:
        assume(not any(map(is_blank, (case.query or {}).values())))
        case.call_and_validate(base_url=target.address, headers=dict(target.trusted), checks=CHECKS)

    stands()


def knock(target: Target, client: httpx.Client, path: str, method: str, headers: Headers) -> httpx.Response:
    """Ask a guarded route for the call that is there."""
    place = path.replace("{callId}", target.call_id).replace("{operationId}", "an-operation")
    return client.request(method, target.address + place, headers=dict(headers))
