"""Graph's tokens by the real azure-identity, against a token endpoint with TLS."""

import asyncio
import base64
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp.connector
import pytest
from aiohttp import web

from shared.credentials import BEFORE_EXPIRY, FAILURE_PAUSE, REFRESH_PAUSE, GraphTokens
from shared.errors import SettingsInvalid, TokenUnavailable
from shared.settings import load_settings

type Serve = Callable[..., Awaitable[str]]
type Make = Callable[..., GraphTokens]

APP = "aaaaaaaa-1111-2222-3333-444444444444"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
OTHER = "cccccccc-1111-2222-3333-444444444444"
IDENTITY = "dddddddd-1111-2222-3333-444444444444"
SECRET = {"GRAPH_CREDENTIAL": "secret", "GRAPH_CLIENT_SECRET": "s3cret"}


@dataclass
class SteppedClock:
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class Entra:
    """Issues `token-1`, `token-2`, …; or answers as `broken` says."""

    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    broken: Callable[[], web.Response] | None = None
    lifetime: int = 3600

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append({name: str(value) for name, value in form.items()})
        self.paths.append(request.path)
        if self.broken:
            return self.broken()
        token = {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": f"token-{len(self.asked)}"}
        return web.json_response(token)


def refusal() -> web.Response:
    body = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret: s3cret"}
    return web.json_response(body, status=401)


@pytest.fixture
def entra() -> Entra:
    return Entra()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture(scope="session")
def trusted(tls: tuple[ssl.SSLContext, Path]) -> ssl.SSLContext:
    """The server's context; its certificate is trusted by all of aiohttp, whose context is made at its import."""
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(tls[1])
    return tls[0]


@pytest.fixture
async def make(serve: Serve, entra: Entra, clock: SteppedClock, trusted: ssl.SSLContext) -> AsyncIterator[Make]:
    made = []
    authority = await serve(entra.answer, trusted)

    def tokens(**env: str) -> GraphTokens:
        least = {
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": APP,
            "CALLS_STORAGE": "x",
            "AZURE_AUTHORITY_HOST": authority,
        }
        made.append(GraphTokens(load_settings({**least, **env}), clock))
        return made[-1]

    yield tokens
    for each in made:
        await each.close()


async def test_a_secret_is_exchanged_for_a_token_of_the_calls_tenant(make: Make, entra: Entra) -> None:
    assert await make(**SECRET).get(TENANT) == "token-1"

    (asked,) = entra.asked
    assert entra.paths == [f"/{TENANT}/oauth2/v2.0/token"]
    assert asked["client_id"] == APP
    assert asked["client_secret"] == "s3cret"
    assert asked["scope"] == "https://graph.microsoft.com/.default"


async def test_the_scope_is_of_the_graph_that_is_set(make: Make, entra: Entra) -> None:
    await make(**SECRET, GRAPH_BASE_URL="http://127.0.0.1:7071/graph").get(TENANT)
    await make(**SECRET, GRAPH_CLOUD="usgov-l5").get(TENANT)

    assert [asked["scope"] for asked in entra.asked] == [
        "http://127.0.0.1:7071/.default",
        "https://dod-graph.microsoft.us/.default",
    ]


async def test_a_certificate_signs_the_request(make: Make, entra: Entra, tls: tuple[ssl.SSLContext, Path]) -> None:
    path = str(tls[1].with_name("key.pem"))

    assert await make(GRAPH_CREDENTIAL="certificate", GRAPH_CERTIFICATE_PATH=path).get(TENANT) == "token-1"

    (asked,) = entra.asked
    assert "client_secret" not in asked
    head, payload, _ = (base64.urlsafe_b64decode(part + "==") for part in asked["client_assertion"].split("."))
    assert json.loads(payload)["iss"] == APP
    assert json.loads(head)["alg"] in {"RS256", "PS256"}


@pytest.mark.parametrize("content", [None, "nothing"])
async def test_a_certificate_that_is_none_is_unavailability(make: Make, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "s3cret.pem"
    if content:
        path.write_text(content)

    with pytest.raises(TokenUnavailable, match="certificate") as caught:
        await make(GRAPH_CREDENTIAL="certificate", GRAPH_CERTIFICATE_PATH=str(path)).get(TENANT)

    assert "s3cret" not in str(caught.value)


@dataclass
class IdentityEndpoint:
    """A Functions instance's own endpoint for managed identities."""

    asked: list[dict[str, str]] = field(default_factory=list)
    broken: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["x-identity-header"] == "header"
        self.asked.append(dict(request.query))
        expires_on = str(int(time.time()) + 24 * 3600)
        answer = {"access_token": "identity-token", "expires_on": expires_on, "token_type": "Bearer"}
        return web.json_response(answer if self.broken else answer | {"resource": request.query["resource"]})


@pytest.fixture
async def identity(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> IdentityEndpoint:
    endpoint = IdentityEndpoint()
    monkeypatch.setenv("IDENTITY_ENDPOINT", await serve(endpoint.answer))
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    return endpoint


async def test_a_managed_identity_may_be_the_app_itself(make: Make, entra: Entra, identity: IdentityEndpoint) -> None:
    assert await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT) == "identity-token"

    assert entra.asked == []
    assert identity.asked[0]["client_id"] == IDENTITY
    assert identity.asked[0]["resource"] == "https://graph.microsoft.com"


async def test_an_identity_endpoint_that_talks_nonsense_is_unavailability(
    make: Make, identity: IdentityEndpoint
) -> None:
    identity.broken = True

    with pytest.raises(TokenUnavailable, match=r"\(managedIdentity\) gave none"):
        await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT)


@pytest.mark.parametrize(
    ("cloud", "audience"),
    [("global", "api://AzureADTokenExchange"), ("usgov-l4", "api://AzureADTokenExchangeUSGov")],
)
async def test_a_managed_identity_may_vouch_for_the_app(
    make: Make, entra: Entra, identity: IdentityEndpoint, cloud: str, audience: str
) -> None:
    tokens = make(GRAPH_CREDENTIAL="federated", AZURE_CLIENT_ID=IDENTITY, GRAPH_CLOUD=cloud)

    assert [await tokens.get(TENANT), await tokens.get(OTHER)] == ["token-1", "token-2"]

    assert {asked["resource"] for asked in identity.asked} == {audience}
    assert [asked["client_assertion"] for asked in entra.asked] == ["identity-token", "identity-token"]
    assert [asked["client_id"] for asked in entra.asked] == [APP, APP]


async def test_a_token_is_kept_for_each_tenant(make: Make, entra: Entra) -> None:
    tokens = make(**SECRET)

    asked = await asyncio.gather(*(tokens.get(tenant) for tenant in [TENANT, OTHER, TENANT.upper()] * 100))

    assert len(set(asked)) == 2
    assert sorted(entra.paths) == [f"/{TENANT}/oauth2/v2.0/token", f"/{OTHER}/oauth2/v2.0/token"]


async def test_an_expired_token_is_replaced(make: Make, entra: Entra) -> None:
    entra.lifetime = 0
    tokens = make(**SECRET)

    assert [await tokens.get(TENANT), await tokens.get(TENANT)] == ["token-1", "token-2"]


async def test_shortly_before_the_expiry_azure_identity_decides(make: Make, entra: Entra, clock: SteppedClock) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    clock.time += timedelta(seconds=3601) - BEFORE_EXPIRY

    assert await tokens.get(TENANT) == "token-1"  # by its own clock the token is fresh
    assert len(entra.asked) == 1


async def test_a_thousand_refusals_become_one_new_token(make: Make, entra: Entra, clock: SteppedClock) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    clock.time += REFRESH_PAUSE

    renewed = await asyncio.gather(*(tokens.get(TENANT, refresh=True) for _ in range(1000)))

    assert set(renewed) == {"token-2"}
    clock.time += REFRESH_PAUSE
    assert await tokens.get(TENANT, refresh=True) == "token-3"
    assert len(entra.asked) == 3


async def test_a_refresh_of_one_tenant_leaves_the_others(make: Make, entra: Entra, clock: SteppedClock) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    await tokens.get(OTHER)
    clock.time += REFRESH_PAUSE

    await tokens.get(TENANT, refresh=True)

    assert await tokens.get(OTHER) == "token-2"
    assert len(entra.asked) == 3


async def test_a_refusal_names_the_tenant_the_credential_and_entras_code(make: Make, entra: Entra) -> None:
    entra.broken = refusal

    with pytest.raises(TokenUnavailable) as caught:
        await make(**SECRET).get(TENANT)

    assert str(caught.value) == (
        f"No Graph token for app {APP} in tenant {TENANT}: Entra refused the credential (secret) with AADSTS7000215. "
        "The secret is wrong. Set its value, not its id, and see that it is this app's."
    )


async def test_a_failure_is_told_again_without_asking(make: Make, entra: Entra, clock: SteppedClock) -> None:
    entra.broken = refusal
    tokens = make(**SECRET)

    outcomes = await asyncio.gather(*(tokens.get(TENANT) for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TokenUnavailable}
    assert len(entra.asked) == 1

    entra.broken = None
    clock.time += FAILURE_PAUSE
    assert await tokens.get(TENANT) == "token-2"


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<html>"),
        lambda: web.json_response({}),
        lambda: web.json_response([]),
        lambda: web.Response(status=404),
        lambda: web.Response(status=400, text="{", content_type="application/json"),
    ],
)
async def test_a_token_endpoint_that_talks_nonsense_is_unavailability(
    make: Make, entra: Entra, answer: Callable[[], web.Response]
) -> None:
    entra.broken = answer

    with pytest.raises(TokenUnavailable, match=TENANT):
        await make(**SECRET).get(TENANT)


async def test_a_token_endpoint_that_is_not_there_is_unavailability(make: Make) -> None:
    with pytest.raises(TokenUnavailable, match=r"\(secret\) gave none"):
        await make(**SECRET, AZURE_AUTHORITY_HOST="https://127.0.0.1:9").get(TENANT)


@pytest.mark.parametrize("tenant", ["", "common", "organizations", "a/b.example", "..", "a b.example", "x" * 300])
async def test_what_names_no_tenant_never_gets_into_a_url(make: Make, entra: Entra, tenant: str) -> None:
    with pytest.raises(TokenUnavailable, match="tenant must be one tenant"):
        await make(**SECRET).get(tenant)

    assert entra.asked == []


async def test_a_tenant_may_be_a_domain(make: Make, entra: Entra) -> None:
    await make(**SECRET).get("Contoso.onmicrosoft.com")

    assert entra.paths == ["/contoso.onmicrosoft.com/oauth2/v2.0/token"]


async def test_closed_tokens_begin_anew(make: Make) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    await tokens.close()

    assert await tokens.get(TENANT) == "token-2"


def test_the_default_credential_is_a_managed_identity() -> None:
    assert (
        load_settings(
            {"KEEP_ALIVE_SCHEDULE": "0 */15 * * * *", "GRAPH_APP_ID": APP, "CALLS_STORAGE": "x"}
        ).graph_credential
        == "managedIdentity"
    )
    with pytest.raises(SettingsInvalid):
        load_settings(
            {
                "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
                "GRAPH_APP_ID": APP,
                "CALLS_STORAGE": "x",
                "GRAPH_CREDENTIAL": "secret",
            }
        )


async def test_the_certificates_of_the_environment_are_trusted(
    serve: Serve, entra: Entra, tls: tuple[ssl.SSLContext, Path]
) -> None:
    """In a process of its own, as aiohttp reads SSL_CERT_FILE when it is imported."""
    program = (
        "import asyncio\n"
        "from shared.credentials import GraphTokens\n"
        "from shared.settings import load_settings\n"
        "async def main():\n"
        "    tokens = GraphTokens(load_settings())\n"
        f"    print(await tokens.get({TENANT!r}))\n"
        "    await tokens.close()\n"
        "asyncio.run(main())\n"
    )
    env = {
        **os.environ,
        **SECRET,
        "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
        "GRAPH_APP_ID": APP,
        "CALLS_STORAGE": "x",
        "AZURE_AUTHORITY_HOST": await serve(entra.answer, tls[0]),
        "SSL_CERT_FILE": str(tls[1]),
    }
    env.pop("SSL_CERT_DIR", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        env=env,
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert out.decode().strip() == "token-1"
