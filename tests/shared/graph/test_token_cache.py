"""The cache of tokens for Graph: renewal, refresh, failures, and bounded memory."""

import asyncio
import os
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from shared.errors import TokenUnavailable
from shared.graph import token_cache
from shared.graph.bot_credentials import TOKEN_CONNECTIONS_BESIDE_SWEEPS
from shared.graph.entra_errors import ADVICE, ADVICE_FOR_AUDIENCE, NO_APP_REGISTRATION, advice_for
from shared.graph.token_cache import (
    FAILURE_BACKOFF,
    FORCED_REFRESH_COOLDOWN,
    RENEW_BEFORE_EXPIRY,
    RENEWAL_COOLDOWN,
)
from tests.shared.graph.entra import (
    APP,
    IDENTITY,
    OTHER,
    SECRET,
    TENANT,
    Entra,
    IdentityEndpoint,
    Make,
    clients_of_azure_identity,
    refusal,
    tenant,
)
from tests.support.clocks import SteppedClock


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


class TestAudience:
    """A token for another audience than Graph: for a late delivery to a bot."""

    @pytest.mark.parametrize("audience", [APP, "api://events.example/sink"], ids=["app id", "App ID URI"])
    async def test_the_scope_is_the_audiences_default(self, make: Make, entra: Entra, audience: str) -> None:
        assert await make(**SECRET).get(TENANT, audience=audience) == "token-1"

        (asked,) = entra.asked
        assert (asked["scope"], asked["client_id"]) == (f"{audience}/.default", APP)
        assert entra.paths == [f"/{TENANT}/oauth2/v2.0/token"]

    async def test_a_managed_identity_gets_it_for_the_resource(self, make: Make, identity: IdentityEndpoint) -> None:
        assert await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT, audience=APP) == identity.signed

        assert (identity.asked[0]["client_id"], identity.asked[0]["resource"]) == (IDENTITY, APP)

    async def test_each_audience_has_its_own_cached_token(self, make: Make, entra: Entra) -> None:
        tokens = make(**SECRET)

        wanted = [None, APP, "api://x", APP, None, "api://x"]
        found = [await tokens.get(TENANT, audience=audience) for audience in wanted]

        assert found == ["token-1", "token-2", "token-3", "token-2", "token-1", "token-3"]
        assert len(entra.asked) == 3

    async def test_all_audiences_share_the_limit_of_the_cache(self, make: Make) -> None:
        tokens = make(max_tenants=2, **SECRET)
        for audience in (None, "api://x", "api://y"):
            await tokens.get(TENANT, audience=audience)

        assert [known.audience for known in tokens._cache.values()] == ["api://x", "api://y"]

    async def test_a_failure_for_one_audience_is_remembered_and_leaves_graph(
        self, make: Make, entra: Entra, clock: SteppedClock
    ) -> None:
        entra.broken = refusal
        tokens = make(**SECRET)
        for _ in range(3):
            with pytest.raises(TokenUnavailable):
                await tokens.get(TENANT, audience=APP)
        assert len(entra.asked) == 1

        entra.broken = None
        assert await tokens.get(TENANT) == "token-2"
        clock.time += FAILURE_BACKOFF
        assert await tokens.get(TENANT, audience=APP) == "token-3"

    @pytest.mark.parametrize("code", [*ADVICE_FOR_AUDIENCE, "AADSTS7000215", "AADSTS99999"])
    async def test_a_refusal_names_the_audience_and_what_to_do(self, make: Make, entra: Entra, code: str) -> None:
        entra.broken = lambda: refusal(code)

        with pytest.raises(TokenUnavailable) as caught:
            await make(**SECRET).get(TENANT, audience=APP)

        assert str(caught.value) == (
            f"No token for {APP} for app {APP} in tenant {TENANT}: Entra refused the credential (secret) with {code}. "
            f"{advice_for(code, for_graph=False)}"
        )

    async def test_a_managed_identity_that_gets_none_may_have_no_app_registration(
        self, make: Make, identity: IdentityEndpoint
    ) -> None:
        identity.broken = True

        with pytest.raises(TokenUnavailable) as caught:
            await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT, audience=APP)

        assert str(caught.value).startswith(f"No token for {APP} for app {APP} in tenant {TENANT}: ")
        assert str(caught.value).endswith(NO_APP_REGISTRATION)

    async def test_a_managed_identitys_refusal_by_entra_has_advice_too(
        self, make: Make, identity: IdentityEndpoint
    ) -> None:
        identity.refusal = "AADSTS500011: The resource principal was not found."

        with pytest.raises(TokenUnavailable, match=r"\(managedIdentity\) with AADSTS500011\. .* `secretSetting`"):
            await make(AZURE_CLIENT_ID=IDENTITY).get(TENANT, audience=APP)

    async def test_wrong_apps_and_tenants_are_refused_with_the_audience(self, make: Make, entra: Entra) -> None:
        with pytest.raises(TokenUnavailable, match=f"^No token for api://x: app {OTHER} of the call is not"):
            await make(**SECRET).get(TENANT, OTHER, audience="api://x")
        with pytest.raises(TokenUnavailable, match=r"^No token for api://x: the tenant must be a GUID"):
            await make(**SECRET).get("common", audience="api://x")

        assert entra.asked == []


async def test_a_hundred_calls_at_once_ask_once(make: Make, entra: Entra) -> None:
    tokens, entra.hangs = make(**SECRET), asyncio.Event()
    waiting = [asyncio.create_task(tokens.get(TENANT)) for _ in range(100)]
    await entra.arrived.wait()
    entra.hangs.set()

    assert set(await asyncio.gather(*waiting)) == {"token-1"}
    assert len(entra.asked) == 1


async def test_a_token_is_renewed_in_the_background_before_it_expires(
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
    for _ in range(600):  # seconds
        with pytest.raises(TokenUnavailable):
            await tokens.get(TENANT)
        clock.time += timedelta(seconds=1)

    asked_at = [0, 5, 15, 35, *range(75, 600, 60)]  # seconds: a backoff of 5, 10, 20, 40, then a minute each
    assert len(entra.asked) == len(asked_at)
    entra.broken = None
    clock.time += timedelta(minutes=1)
    await tokens.get(TENANT)
    assert tokens._cache[APP, TENANT, None].failures == 0


class TestManyTenants:
    """The memory for tenants is bounded, and a tenant that is no longer used is forgotten."""

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

    async def test_tokens_that_are_no_longer_used_are_forgotten(
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


async def test_a_failure_is_raised_again_without_a_request(make: Make, entra: Entra, clock: SteppedClock) -> None:
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
    ids=["HTML", "empty object", "array", "404 without a body", "400 with half an object"],
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
