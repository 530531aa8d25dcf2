"""Entra: the tokens of apps and of the managed identity, their claims, and refusals."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from jwt import PyJWKSet

from tests.simulator.conftest import APP, BASE, TENANT

if TYPE_CHECKING:
    import httpx

    from simulator.wire import Json
    from tests.simulator.conftest import Sim

GRAPH = "https://graph.microsoft.com"
OTHER_TENANT = "99999999-2222-4333-8444-555555555555"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def request_token(sim: Sim, tenant: str = TENANT, **change: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_id": APP, "client_secret": "any", "scope": f"{GRAPH}/.default"}
    sent = {name: value for name, value in (form | change).items() if value}
    return await sim.http.post(f"/{tenant}/oauth2/v2.0/token", data=sent)


async def claims_of(sim: Sim, token: str) -> dict[str, Json]:
    """Return the claims, after the checks of an API, which has keys and issuer from the metadata."""
    metadata = (await sim.http.get(f"/{TENANT}/v2.0/.well-known/openid-configuration")).json()
    keys = PyJWKSet.from_dict((await sim.http.get(metadata["jwks_uri"])).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    decoded: dict[str, Json] = jwt.decode(
        token, key, algorithms=["RS256"], issuer=metadata["issuer"], options={"verify_aud": False}
    )
    return decoded


async def test_an_unregistered_app_gets_a_token_for_graph_with_any_secret(sim: Sim) -> None:
    response = await request_token(sim)

    assert response.status_code == 200
    assert (response.json()["token_type"], response.json()["expires_in"]) == ("Bearer", 3599)
    claims = await claims_of(sim, response.json()["access_token"])
    roles = claims["roles"]
    assert isinstance(roles, list)
    assert {"Calls.Initiate.All", "Calls.AccessMedia.All"} <= set(roles)
    assert (claims["aud"], claims["tid"], claims["appid"]) == (GRAPH, TENANT, APP)
    assert claims["iss"] == f"{BASE}/{TENANT}/v2.0"


async def test_the_audience_is_the_requested_api_whose_roles_are_registered(sim: Sim) -> None:
    without_roles = await claims_of(
        sim, (await request_token(sim, scope="api://keeper/.default")).json()["access_token"]
    )
    assert (without_roles["aud"], "roles" in without_roles) == ("api://keeper", False)

    app: dict[str, Json] = {"secret": "any", "audiences": {"api://keeper": ["Calls.Read"]}}
    await sim.control("PUT", f"/apps/{APP.upper()}", app)
    claims = await claims_of(sim, (await request_token(sim, scope="api://keeper/.default")).json()["access_token"])
    assert claims["roles"] == ["Calls.Read"]


async def own_claims(sim: Sim, scope: str) -> dict[str, Json]:
    """Return the claims of a bot's token for itself, after the checks of a bot that has the keys of all tenants."""
    response = await request_token(sim, scope=scope)
    assert response.status_code == 200, response.text
    metadata = (await sim.http.get("/common/v2.0/.well-known/openid-configuration")).json()
    keys = PyJWKSet.from_dict((await sim.http.get(metadata["jwks_uri"])).json())
    token = response.json()["access_token"]
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Json] = jwt.decode(token, key, algorithms=["RS256"], options={"verify_aud": False})
    return claims


@pytest.mark.parametrize("scope", [f"{APP}/.default", f"api://{APP}/.default"], ids=["app id", "App ID URI"])
async def test_a_bots_token_for_itself_names_it_as_audience_and_as_caller(sim: Sim, scope: str) -> None:
    claims = await own_claims(sim, scope)

    assert (claims["aud"], claims["azp"], claims["tid"]) == (APP, APP, TENANT)
    assert (claims["iss"], claims["ver"]) == (f"{BASE}/{TENANT}/v2.0", "2.0")
    assert not {"appid", "roles"} & set(claims)


@pytest.mark.parametrize("audience", [APP, f"api://{APP}"], ids=["app id", "App ID URI"])
async def test_a_v1_token_of_a_bot_for_itself_has_the_requested_audience(sim: Sim, audience: str) -> None:
    await sim.control("PUT", f"/apps/{APP}", {"secret": "any", "ownTokenVersion": "1.0"})

    claims = await own_claims(sim, f"{audience}/.default")

    assert (claims["aud"], claims["appid"], claims["tid"]) == (audience, APP, TENANT)
    assert (claims["iss"], claims["ver"]) == (f"https://sts.windows.net/{TENANT}/", "1.0")
    assert "azp" not in claims


@pytest.mark.parametrize(
    ("reason", "error", "code"),
    [("assignmentRequired", "invalid_grant", 501051), ("notFound", "invalid_resource", 500011)],
    ids=["assignment required", "not found"],
)
async def test_a_token_for_one_audience_can_be_refused(sim: Sim, reason: str, error: str, code: int) -> None:
    app: dict[str, Json] = {"secret": "any", "refusedAudiences": {APP: reason}}
    await sim.control("PUT", f"/apps/{APP}", app)

    refused = await request_token(sim, scope=f"{APP}/.default")

    assert (refused.status_code, refused.json()["error"], refused.json()["error_codes"]) == (400, error, [code])
    assert (await request_token(sim)).status_code == 200, "Graph's token is issued all the same"


async def test_a_managed_identitys_token_for_itself_can_be_refused(sim: Sim) -> None:
    await sim.control("PUT", "/identity", {"appId": APP, "tenantId": TENANT})
    own = await identity_token(sim, resource=APP)
    await sim.control("PUT", f"/apps/{APP}", {"refusedAudiences": {APP: "notFound"}})

    response = await sim.http.get(
        f"/msi/token?api-version=2019-08-01&resource={APP}", headers={"X-IDENTITY-HEADER": "any"}
    )

    claims = await claims_of(sim, own)
    assert (claims["aud"], claims["azp"]) == (APP, APP)
    assert (response.status_code, "AADSTS500011" in response.text) == (400, True)


async def test_a_registered_app_has_only_its_roles_tenants_and_secret(sim: Sim) -> None:
    app: dict[str, Json] = {"secret": "right", "roles": ["Calls.Initiate.All"], "tenantIds": [TENANT]}
    await sim.control("PUT", f"/apps/{APP}", app)

    good = await claims_of(sim, (await request_token(sim, client_secret="right")).json()["access_token"])
    assert good["roles"] == ["Calls.Initiate.All"]
    wrong_secret, wrong_tenant = await request_token(sim), await request_token(sim, OTHER_TENANT, client_secret="right")
    assert (wrong_secret.status_code, wrong_secret.json()["error"]) == (401, "invalid_client")
    assert wrong_secret.json()["error_codes"] == [7000215]
    assert (wrong_tenant.status_code, wrong_tenant.json()["error"]) == (400, "unauthorized_client")
    assert wrong_tenant.json()["error_codes"] == [700016]


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        pytest.param({"grant_type": "password"}, 400, "unsupported_grant_type", id="other grant type"),
        pytest.param({"client_id": ""}, 400, "invalid_request", id="no app"),
        pytest.param({"client_secret": ""}, 401, "invalid_client", id="no secret"),
        pytest.param({"scope": ""}, 400, "invalid_scope", id="no scope"),
        pytest.param({"scope": GRAPH}, 400, "invalid_scope", id="scope without .default"),
        pytest.param({"scope": f"{GRAPH}/.default openid"}, 400, "invalid_scope", id="two scopes"),
    ],
)
async def test_a_wrong_token_request_is_refused(sim: Sim, change: dict[str, str], status: int, error: str) -> None:
    response = await request_token(sim, **change)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["error_description"].startswith("AADSTS")


def identity() -> tuple[rsa.RSAPrivateKey, str]:
    """Return a key, and a certificate for it as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(serialization.Encoding.PEM).decode()


def assertion(key: rsa.RSAPrivateKey, audience: str, expires_in: int = 60) -> str:
    """Return a client assertion. A negative `expires_in`, in seconds, makes an expired one."""
    return jwt.encode({"iss": APP, "sub": APP, "aud": audience, "exp": int(time.time()) + expires_in}, key, "RS256")


async def test_an_assertion_must_be_signed_by_the_apps_certificate(sim: Sim) -> None:
    (key, certificate), (other, _) = identity(), identity()
    await sim.control("PUT", f"/apps/{APP}", {"certificate": certificate})
    audience = f"{BASE}/{TENANT}/oauth2/v2.0/token"

    async def status(proof: str, kind: str = ASSERTION) -> int:
        response = await request_token(sim, client_secret="", client_assertion=proof, client_assertion_type=kind)
        return response.status_code

    assert await status(assertion(key, audience)) == 200
    assert await status(assertion(other, audience)) == 401
    assert await status(assertion(key, audience, expires_in=-60)) == 401
    assert await status(assertion(key, "https://else.example")) == 401
    assert await status("no.j.wt") == 401
    assert await status(assertion(key, audience), kind="another") == 400


async def test_a_managed_identitys_token_can_be_exchanged_for_an_apps_token(sim: Sim) -> None:
    """Workload identity federation: the managed identity's token is the app's assertion."""
    proof = await identity_token(sim, resource="api://AzureADTokenExchange")

    response = await request_token(sim, client_secret="", client_assertion=proof, client_assertion_type=ASSERTION)
    tampered = await request_token(
        sim, client_secret="", client_assertion=proof[:-4] + "AAAA", client_assertion_type=ASSERTION
    )

    assert (await claims_of(sim, response.json()["access_token"]))["appid"] == APP
    assert tampered.status_code == 401


async def identity_token(sim: Sim, **query: str) -> str:
    headers = {"X-IDENTITY-HEADER": "any"}
    response = await sim.http.get("/msi/token", params={"api-version": "2019-08-01"} | query, headers=headers)
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


async def test_the_managed_identity_can_be_set(sim: Sim) -> None:
    await sim.control("PUT", "/identity", {"appId": APP, "tenantId": TENANT})
    claims = await claims_of(sim, await identity_token(sim, resource=GRAPH))
    assert (claims["appid"], claims["tid"], claims["aud"]) == (APP, TENANT, GRAPH)
    assigned = await claims_of(sim, await identity_token(sim, resource=GRAPH, client_id="another"))
    assert assigned["appid"] == "another"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("api-version=2019-08-01&resource=x", {}, 401),
        ("api-version=2017-09-01&resource=x", {"X-IDENTITY-HEADER": "any"}, 400),
        ("api-version=2019-08-01", {"X-IDENTITY-HEADER": "any"}, 400),
    ],
    ids=["no header", "other version", "no resource"],
)
async def test_a_wrong_request_to_the_managed_identity_is_refused(
    sim: Sim, query: str, headers: dict[str, str], status: int
) -> None:
    assert (await sim.http.get(f"/msi/token?{query}", headers=headers)).status_code == status


async def test_an_app_with_an_unreadable_certificate_is_refused(sim: Sim) -> None:
    await sim.control("PUT", f"/apps/{APP}", {"certificate": "no PEM"}, expect=400)


async def test_tokens_of_a_dropped_key_are_refused(sim: Sim) -> None:
    call_id, token = await sim.create(), await sim.token()
    path = f"/v1.0/communications/calls/{call_id}"
    assert (await sim.graph("GET", path, token=token)).status_code == 200
    await sim.control("POST", "/keys/rotate", {"kind": "entra", "keepOld": True})
    assert (await sim.graph("GET", path, token=token)).status_code == 200
    await sim.control("POST", "/keys/rotate", {"kind": "entra"})
    assert (await sim.graph("GET", path, token=token)).status_code == 401
    assert (await sim.graph("GET", path)).status_code == 200


async def test_instance_discovery_leads_to_the_metadata(sim: Sim) -> None:
    found = (await sim.http.get("/common/discovery/instance")).json()
    metadata = (await sim.http.get(found["tenant_discovery_endpoint"])).json()
    assert metadata["token_endpoint"] == f"{BASE}/common/oauth2/v2.0/token"


@pytest.mark.parametrize("kind", ["entra", "notification"])
async def test_an_issued_token_has_the_requested_claims(sim: Sim, kind: str) -> None:
    body: dict[str, Json] = {"kind": kind, "appId": APP, "tenantId": TENANT}
    body |= {"audience": "someone", "issuer": "anyone", "expiresIn": -100}
    token = str((await sim.control("POST", "/tokens", body))["token"])
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["aud"], claims["iss"], claims["tid"]) == ("someone", "anyone", TENANT)
    # Five seconds allow for a slow machine.
    assert -100 - 5 <= claims["exp"] - time.time() <= -100 + 5
    assert claims["nbf"] < claims["exp"]
