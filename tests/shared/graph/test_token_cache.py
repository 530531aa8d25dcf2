"""Graph's tokens by the real azure-identity, against a token endpoint with TLS."""

import asyncio
import gc
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp.connector
import jwt
import pytest
from aiohttp import web
from azure.identity.aio._internal import AadClient
from azure.identity.aio._internal.managed_identity_client import AsyncManagedIdentityClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate

from shared.config.settings import load_settings
from shared.errors import SettingsInvalid, TokenUnavailable
from shared.graph import token_cache
from shared.graph.bot_credentials import TOKEN_CONNECTIONS_BESIDE_SWEEPS
from shared.graph.entra_errors import ADVICE, advice_for
from shared.graph.token_cache import (
    FAILURE_BACKOFF,
    FORCED_REFRESH_COOLDOWN,
    MAX_CACHED_TOKENS,
    RENEW_BEFORE_EXPIRY,
    RENEWAL_COOLDOWN,
    GraphTokens,
)
from tests.support.clocks import SteppedClock

type Serve = Callable[..., Awaitable[str]]
type Make = Callable[..., GraphTokens]

APP = "aaaaaaaa-1111-2222-3333-444444444444"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
OTHER = "cccccccc-1111-2222-3333-444444444444"
IDENTITY = "dddddddd-1111-2222-3333-444444444444"
SECRET = {"GRAPH_CREDENTIAL": "secret", "GRAPH_CLIENT_SECRET": "s3cret"}


@dataclass
class Entra:
    """Issues `token-1`, `token-2`, …; or answers as `broken` says."""

    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)  # connections that requests came over
    address: str = ""
    broken: Callable[[], web.Response] | None = None
    hangs: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lifetime: int = 3600

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append({name: str(value) for name, value in form.items()})
        self.paths.append(request.path)
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        if self.hangs:
            self.arrived.set()
            await self.hangs.wait()
        if self.broken:
            return self.broken()
        token = {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": f"token-{len(self.asked)}"}
        return web.json_response(token)


def tenant(number: int) -> str:
    return f"bbbbbbbb-1111-2222-3333-{number:012}"


def clients_of_azure_identity() -> int:
    gc.collect()
    return sum(isinstance(each, (AadClient, AsyncManagedIdentityClient)) for each in gc.get_objects())


def refusal(code: str = "AADSTS7000215") -> web.Response:
    body = {"error": "invalid_client", "error_description": f"{code}: Invalid client secret: s3cret"}
    return web.json_response(body, status=401)


def verified(assertion: str, certificate: Path, audience: str) -> dict[str, Any]:
    """The claims of an assertion, once its signature, its times and its audience are right, as Entra sees to it."""
    public = load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    claims: dict[str, Any] = jwt.decode(
        assertion, public, algorithms=["RS256", "PS256"], audience=audience, options={"require": ["exp", "jti", "sub"]}
    )
    return claims


@pytest.fixture
def entra() -> Entra:
    return Entra()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(datetime.now(UTC))  # azure-identity computes expiries by the machine's clock


@pytest.fixture(scope="session")
def trusted(tls: tuple[ssl.SSLContext, Path]) -> ssl.SSLContext:
    """The server's context; its certificate is trusted by all of aiohttp, whose context is made at its import."""
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(tls[1])
    return tls[0]


@pytest.fixture
async def make(serve: Serve, entra: Entra, clock: SteppedClock, trusted: ssl.SSLContext) -> AsyncIterator[Make]:
    made = []
    authority = entra.address = await serve(entra.answer, trusted)

    def tokens(max_tenants: int = MAX_CACHED_TOKENS, **env: str) -> GraphTokens:
        least = {
            "KEEP_ALIVE_SCHEDULE": "0 */15 * * * *",
            "GRAPH_APP_ID": APP,
            "CALLS_STORAGE": "x",
            "AZURE_AUTHORITY_HOST": authority,
        }
        made.append(GraphTokens(load_settings({**least, **env}), clock, max_cached_tokens=max_tenants))
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
    assert verified(asked["client_assertion"], tls[1], f"{entra.address}{entra.paths[0]}")["iss"] == APP


async def test_a_certificate_may_have_a_password(
    make: Make, entra: Entra, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    path = tmp_path / "app.pfx"
    pem = tls[1].with_name("key.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    kept = serialization.BestAvailableEncryption(b"p4ssword")
    path.write_bytes(pkcs12.serialize_key_and_certificates(b"app", key, load_pem_x509_certificate(pem), None, kept))
    env = {"GRAPH_CREDENTIAL": "certificate", "GRAPH_CERTIFICATE_PATH": str(path)}

    assert await make(**env, GRAPH_CERTIFICATE_PASSWORD="p4ssword").get(TENANT) == "token-1"

    verified(entra.asked[0]["client_assertion"], tls[1], f"{entra.address}{entra.paths[0]}")
    with pytest.raises(TokenUnavailable, match="certificate") as caught:
        await make(**env, GRAPH_CERTIFICATE_PASSWORD="wr0ng").get(TENANT)
    assert "wr0ng" not in str(caught.value)


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

    signed: str  # the identity's token
    asked: list[dict[str, str]] = field(default_factory=list)
    broken: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["x-identity-header"] == "header"
        self.asked.append(dict(request.query))
        expires_on = str(int(time.time()) + 24 * 3600)
        answer = {"access_token": self.signed, "expires_on": expires_on, "token_type": "Bearer"}
        return web.json_response(answer if self.broken else answer | {"resource": request.query["resource"]})


@pytest.fixture
async def identity(serve: Serve, monkeypatch: pytest.MonkeyPatch, tls: tuple[ssl.SSLContext, Path]) -> IdentityEndpoint:
    times = {"exp": datetime.now(UTC) + timedelta(days=1), "jti": "1", "sub": IDENTITY}
    key = tls[1].with_name("key.pem").read_bytes()
    endpoint = IdentityEndpoint(jwt.encode(times | {"aud": "api://AzureADTokenExchange"}, key, "RS256"))
    monkeypatch.setenv("IDENTITY_ENDPOINT", await serve(endpoint.answer))
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    return endpoint


async def test_a_managed_identity_may_be_the_app_itself(make: Make, entra: Entra, identity: IdentityEndpoint) -> None:
    assert await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT) == identity.signed

    assert entra.asked == []
    assert identity.asked[0]["client_id"] == IDENTITY
    assert identity.asked[0]["resource"] == "https://graph.microsoft.com"


async def test_an_identity_endpoint_that_talks_nonsense_is_unavailability(
    make: Make, identity: IdentityEndpoint
) -> None:
    identity.broken = True

    with pytest.raises(TokenUnavailable, match=r"\(managedIdentity\) returned none"):
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
    assert {asked["client_assertion"] for asked in entra.asked} == {identity.signed}
    assert [asked["client_id"] for asked in entra.asked] == [APP, APP]


async def test_what_vouches_for_the_app_is_the_identitys_own_signed_token(
    make: Make, entra: Entra, identity: IdentityEndpoint, tls: tuple[ssl.SSLContext, Path]
) -> None:
    await make(GRAPH_CREDENTIAL="federated").get(TENANT)

    assert identity.asked[0]["resource"] == "api://AzureADTokenExchange"
    assert verified(entra.asked[0]["client_assertion"], tls[1], "api://AzureADTokenExchange")["sub"] == IDENTITY


async def test_a_token_is_kept_for_each_tenant(make: Make, entra: Entra) -> None:
    tokens = make(**SECRET)

    asked = await asyncio.gather(*(tokens.get(tenant) for tenant in [TENANT, OTHER, TENANT.upper()] * 100))

    assert len(set(asked)) == 2
    assert sorted(entra.paths) == [f"/{TENANT}/oauth2/v2.0/token", f"/{OTHER}/oauth2/v2.0/token"]


async def test_an_expired_token_is_replaced(make: Make, entra: Entra) -> None:
    entra.lifetime = 0
    tokens = make(**SECRET)

    assert [await tokens.get(TENANT), await tokens.get(TENANT)] == ["token-1", "token-2"]


async def test_shortly_before_the_expiry_a_new_token_is_asked_for(
    make: Make, entra: Entra, clock: SteppedClock
) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    clock.time += timedelta(seconds=3599) - RENEW_BEFORE_EXPIRY
    assert await tokens.get(TENANT) == "token-1"
    clock.time += timedelta(seconds=2)

    assert [await tokens.get(TENANT) for _ in range(3)] == ["token-2"] * 3
    assert len(entra.asked) == 2


async def test_where_the_same_old_token_comes_again_there_is_a_pause(
    make: Make, entra: Entra, clock: SteppedClock
) -> None:
    """An identity endpoint keeps tokens too, and may give one until it expires."""
    entra.lifetime = 290
    tokens = make(**SECRET)

    assert {await tokens.get(TENANT) for _ in range(100)} == {"token-1"}
    clock.time += RENEWAL_COOLDOWN
    assert {await tokens.get(TENANT) for _ in range(100)} == {"token-2"}
    assert len(entra.asked) == 2


async def test_a_thousand_refusals_become_one_new_token(make: Make, entra: Entra, clock: SteppedClock) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    clock.time += FORCED_REFRESH_COOLDOWN

    renewed = await asyncio.gather(*(tokens.get(TENANT, refresh=True) for _ in range(1000)))

    assert set(renewed) == {"token-2"}
    clock.time += FORCED_REFRESH_COOLDOWN
    assert await tokens.get(TENANT, refresh=True) == "token-3"
    assert len(entra.asked) == 3


async def test_a_refresh_of_one_tenant_leaves_the_others(make: Make, entra: Entra, clock: SteppedClock) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    await tokens.get(OTHER)
    clock.time += FORCED_REFRESH_COOLDOWN

    await tokens.get(TENANT, refresh=True)

    assert await tokens.get(OTHER) == "token-2"
    assert len(entra.asked) == 3


async def test_a_refusal_names_the_tenant_the_credential_and_entras_code(make: Make, entra: Entra) -> None:
    entra.broken = refusal

    with pytest.raises(TokenUnavailable) as caught:
        await make(**SECRET).get(TENANT)

    assert str(caught.value) == (
        f"No Graph token for app {APP} in tenant {TENANT}: Entra refused the credential (secret) with AADSTS7000215. "
        "The secret is wrong. Set its value, not its id, and check that it belongs to this app."
    )


@pytest.mark.parametrize("code", [*ADVICE, "AADSTS99999"])
async def test_a_refusal_says_what_to_do_and_repeats_nothing(make: Make, entra: Entra, code: str) -> None:
    entra.broken = lambda: refusal(code)

    with pytest.raises(TokenUnavailable) as caught:
        await make(**SECRET).get(TENANT)

    assert str(caught.value).endswith(f"with {code}. {advice_for(code)}")
    assert "s3cret" not in str(caught.value)


async def test_a_secret_follows_no_redirect(make: Make, entra: Entra, serve: Serve) -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response()

    place = await serve(elsewhere)
    for status in (301, 302, 303, 307, 308):
        entra.broken = lambda status=status: web.Response(status=status, headers={"location": f"{place}/x"})
        with pytest.raises(TokenUnavailable):
            await make(**SECRET).get(TENANT)

    assert seen == []


async def test_each_bot_has_its_own_credential_in_each_tenant(make: Make, entra: Entra) -> None:
    bots = [{"appId": OTHER, "credential": "secret", "clientSecretSetting": "SECOND_SECRET"}]
    tokens = make(**SECRET, GRAPH_APPS=json.dumps(bots), SECOND_SECRET="an0ther")

    wanted = [(TENANT, None), (TENANT, APP), (TENANT, OTHER), (IDENTITY, OTHER.upper())]
    found = [await tokens.get(tenant, app_id) for tenant, app_id in wanted]

    assert found == ["token-1", "token-1", "token-2", "token-3"]
    assert [(asked["client_id"], asked["client_secret"]) for asked in entra.asked] == [
        (APP, "s3cret"),
        (OTHER, "an0ther"),
        (OTHER, "an0ther"),
    ]
    with pytest.raises(TokenUnavailable, match=f"app {TENANT} of the call is not in GRAPH_APPS"):
        await tokens.get(TENANT, TENANT)


async def test_a_hundred_calls_at_once_ask_once(make: Make, entra: Entra) -> None:
    tokens, entra.hangs = make(**SECRET), asyncio.Event()
    waiting = [asyncio.create_task(tokens.get(TENANT)) for _ in range(100)]
    await entra.arrived.wait()
    entra.hangs.set()

    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert len(entra.asked) == 1


async def test_a_token_is_renewed_before_it_expires_and_nobody_waits_for_it(
    make: Make, entra: Entra, clock: SteppedClock
) -> None:
    entra.lifetime = 290  # to be renewed at once, and still good
    tokens = make(**SECRET)
    assert await tokens.get(TENANT) == "token-1"
    clock.time += RENEWAL_COOLDOWN

    entra.hangs = asyncio.Event()
    renewing = asyncio.create_task(tokens.get(TENANT))
    await entra.arrived.wait()
    assert await tokens.get(TENANT) == "token-1"
    entra.hangs.set()
    assert await renewing == "token-2"


async def test_a_token_that_is_still_good_outlives_an_outage(
    make: Make, entra: Entra, clock: SteppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = make(**SECRET)
    await tokens.get(TENANT)
    monkeypatch.setattr(token_cache, "_REQUEST_TIMEOUT", timedelta(seconds=0.1))
    entra.hangs = asyncio.Event()
    clock.time += timedelta(seconds=3660) - RENEW_BEFORE_EXPIRY  # it was issued a moment later than this clock says

    assert [await tokens.get(TENANT) for _ in range(3)] == ["token-1"] * 3
    assert len(entra.asked) == 2
    clock.time += RENEW_BEFORE_EXPIRY
    with pytest.raises(TokenUnavailable, match=r"\(secret\) returned none \(TimeoutError\)"):
        await tokens.get(TENANT)


async def test_the_longer_it_fails_the_less_it_is_asked(make: Make, entra: Entra, clock: SteppedClock) -> None:
    entra.broken = refusal
    tokens = make(**SECRET)
    for _ in range(600):
        with pytest.raises(TokenUnavailable):
            await tokens.get(TENANT)
        clock.time += timedelta(seconds=1)

    assert len(entra.asked) == 13  # after 0, 5, 15, 35, 75 seconds, then each minute
    entra.broken = None
    clock.time += timedelta(minutes=1)
    await tokens.get(TENANT)
    assert tokens._cache[APP, TENANT].failures == 0


class TestManyTenants:
    """What is kept of tenants is bounded, and goes with them."""

    async def test_all_share_a_few_connections(self, make: Make, entra: Entra) -> None:
        tokens = make(**SECRET, KEEP_ALIVE_CONCURRENCY="12")

        found = await asyncio.gather(*(tokens.get(tenant(number)) for number in range(300)))

        assert len(set(found)) == 300
        assert len(entra.peers) <= 12 + TOKEN_CONNECTIONS_BESIDE_SWEEPS
        again = await asyncio.gather(*(tokens.get(tenant(number)) for number in range(300)))
        assert again == found
        assert len(entra.asked) == 300

    async def test_a_hang_up_does_not_wait_for_the_tokens_of_a_sweep(self, make: Make, entra: Entra) -> None:
        tokens, entra.hangs = make(**SECRET, KEEP_ALIVE_CONCURRENCY="4"), asyncio.Event()
        asking = [asyncio.create_task(tokens.get(tenant(number))) for number in range(4)]
        while len(entra.asked) < 4:
            entra.arrived.clear()
            await entra.arrived.wait()
        entra.arrived.clear()

        asking.append(asyncio.create_task(tokens.get(tenant(4))))

        await asyncio.wait_for(entra.arrived.wait(), 10)
        entra.hangs.set()
        await asyncio.gather(*asking)

    async def test_a_connection_serves_one_tenant_after_another(self, make: Make, entra: Entra) -> None:
        tokens = make(**SECRET)

        for number in range(20):
            await tokens.get(tenant(number))

        assert len(entra.peers) == 1

    @pytest.mark.parametrize("kind", ["secret", "certificate", "federated", "managedIdentity"])
    async def test_no_credential_outlives_its_request(
        self, make: Make, identity: IdentityEndpoint, tls: tuple[ssl.SSLContext, Path], kind: str
    ) -> None:
        path = str(tls[1].with_name("key.pem"))
        tokens = make(**{**SECRET, "GRAPH_CREDENTIAL": kind}, GRAPH_CERTIFICATE_PATH=path)
        before = clients_of_azure_identity()

        for number in range(20):
            await tokens.get(tenant(number))

        assert clients_of_azure_identity() - before <= 1  # that of a managed identity which vouches for the app
        assert len(identity.asked) <= 20

    async def test_the_least_lately_used_tenant_is_forgotten_when_there_are_too_many(
        self, make: Make, entra: Entra
    ) -> None:
        tokens = make(max_tenants=2, **SECRET)
        for number in (1, 2, 1, 3):
            await tokens.get(tenant(number))

        assert [known.tenant_id for known in tokens._cache.values()] == [tenant(1), tenant(3)]
        await tokens.get(tenant(1))
        assert len(entra.asked) == 3
        await tokens.get(tenant(2))
        assert len(entra.asked) == 4

    async def test_one_that_is_being_asked_for_is_not_forgotten(self, make: Make, entra: Entra) -> None:
        tokens, entra.hangs = make(max_tenants=1, **SECRET), asyncio.Event()
        asking = [asyncio.create_task(tokens.get(tenant(1)))]
        await entra.arrived.wait()
        asking += [asyncio.create_task(tokens.get(tenant(number))) for number in (2, 1, 2, 1)]
        await asyncio.sleep(0)
        entra.hangs.set()

        await asyncio.gather(*asking)

        assert len(entra.asked) == 2
        await tokens.get(tenant(3))
        assert len(tokens._cache) == 1

    async def test_those_that_nobody_asks_for_any_more_are_forgotten(
        self, make: Make, entra: Entra, clock: SteppedClock
    ) -> None:
        tokens = make(**SECRET)
        for number in range(10):
            await tokens.get(tenant(number))
        entra.broken = refusal
        with pytest.raises(TokenUnavailable):
            await tokens.get(tenant(10))
        entra.broken, entra.lifetime = None, 4 * 3600
        clock.time += timedelta(hours=2)

        for number in (100, 101):
            await tokens.get(tenant(number))

        assert [known.tenant_id for known in tokens._cache.values()] == [tenant(100), tenant(101)]

    async def test_a_certificate_is_read_once_for_all(
        self, make: Make, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
    ) -> None:
        path = tmp_path / "bot.pem"
        path.write_bytes(tls[1].with_name("key.pem").read_bytes())
        tokens = make(GRAPH_CREDENTIAL="certificate", GRAPH_CERTIFICATE_PATH=str(path))
        await tokens.get(tenant(1))
        read_at = path.stat().st_mtime_ns
        path.write_text("nothing")
        os.utime(path, ns=(read_at, read_at))

        assert await tokens.get(tenant(2)) == "token-2"

        os.utime(path, ns=(read_at + 1_000_000, read_at + 1_000_000))
        with pytest.raises(TokenUnavailable, match="certificate"):
            await tokens.get(tenant(3))

    async def test_many_at_once_ask_a_managed_identity_once_that_vouches_for_the_app(
        self, make: Make, entra: Entra, identity: IdentityEndpoint
    ) -> None:
        tokens = make(GRAPH_CREDENTIAL="federated")

        await asyncio.gather(*(tokens.get(tenant(number)) for number in range(50)))

        assert len(identity.asked) == 1
        assert len(entra.asked) == 50


async def test_a_failure_is_told_again_without_asking(make: Make, entra: Entra, clock: SteppedClock) -> None:
    entra.broken = refusal
    tokens = make(**SECRET)

    outcomes = await asyncio.gather(*(tokens.get(TENANT) for _ in range(100)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {TokenUnavailable}
    assert len(entra.asked) == 1

    entra.broken = None
    clock.time += FAILURE_BACKOFF
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
    with pytest.raises(TokenUnavailable, match=r"\(secret\) returned none"):
        await make(**SECRET, AZURE_AUTHORITY_HOST="https://127.0.0.1:9").get(TENANT)


@pytest.mark.parametrize("tenant", ["", "common", "organizations", "contoso.onmicrosoft.com", "a/b.example", "..", "x"])
async def test_what_names_no_tenant_never_gets_into_a_url(make: Make, entra: Entra, tenant: str) -> None:
    with pytest.raises(TokenUnavailable, match="the tenant must be a GUID"):
        await make(**SECRET).get(tenant)

    assert entra.asked == []


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
        "from shared.clock import SystemClock\n"
        "from shared.graph.token_cache import GraphTokens\n"
        "from shared.config.settings import load_settings\n"
        "async def main():\n"
        "    tokens = GraphTokens(load_settings(), SystemClock())\n"
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
        cwd=Path(__file__).parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert out.decode().strip() == "token-1"
