"""The credentials of bots, as azure-identity uses them: secret, certificate, managed identity."""

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate

from shared.config.settings import load_settings
from shared.errors import SettingsInvalid, TokenUnavailable
from tests.shared.graph.entra import (
    APP,
    IDENTITY,
    OTHER,
    SECRET,
    TENANT,
    Entra,
    IdentityEndpoint,
    Make,
    Serve,
    verified,
)


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
