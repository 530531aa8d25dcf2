"""The rule which key may sign for which issuer and tenant."""

import pytest

from shared.auth.key_binding import ENTRA_V1_ISSUER
from shared.auth.signing_keys import (
    SigningKeys,
)
from shared.auth.token_kinds import TokenKind
from shared.auth.tokens import TokenVerifier
from shared.errors import Forbidden
from shared.http_client import HttpClient
from tests.shared.auth.signed_tokens import (
    ANY_V2,
    APP,
    CALLER,
    CONSUMERS,
    FIRST,
    GRAPH,
    ISSUER,
    OTHERS_V2,
    SECOND,
    TENANT,
    V1,
    V2,
    Issuer,
    Serve,
    bearer,
    claims,
    jwk,
    refused,
    verifier_of,
)
from tests.support.clocks import SteppedClock


@pytest.mark.parametrize(
    ("document", "key", "issuer_of_token", "taken"),
    [
        pytest.param(ISSUER, {}, ISSUER, True, id="the document's issuer"),
        pytest.param(ISSUER, {}, GRAPH, True, id="an issuer that nobody names"),
        pytest.param(ISSUER, {}, V1, True, id="v1, which nobody names here"),
        pytest.param(ISSUER, {}, V2, False, id="the other document's issuer"),
        pytest.param(OTHERS_V2, {}, V1, False, id="another tenant's document, an issuer that nobody names"),
        pytest.param(ISSUER, {"issuer": V2}, V2, True, id="the key's own issuer"),
        pytest.param(ISSUER, {"issuer": ANY_V2}, V2, True, id="the key's own template"),
        pytest.param(ISSUER, {"issuer": V2.upper()}, V2, False, id="an issuer's host has a case"),
        pytest.param(ANY_V2, {"issuer": ANY_V2}, V1, True, id="v1 by Entra's keys and document"),
        pytest.param(V2, {"issuer": ANY_V2}, V1, True, id="v1 by the tenant's own document"),
        pytest.param(ISSUER, {"issuer": ANY_V2}, V1, False, id="v1 by a key that its document does not back"),
        pytest.param(ISSUER, {"issuer": ANY_V2}, ISSUER, False, id="a key with an issuer, its document's"),
        pytest.param(ISSUER, {"issuer": ANY_V2}, GRAPH, False, id="a key with an issuer, one that nobody names"),
        pytest.param(ANY_V2, {"issuer": OTHERS_V2}, V2, False, id="another tenant's key, v2"),
        pytest.param(ANY_V2, {"issuer": OTHERS_V2}, V1, False, id="another tenant's key, v1"),
    ],
)
async def test_a_key_signs_for_its_issuer_alone(  # noqa: PLR0917 a row of the table
    serve: Serve,
    client: HttpClient,
    document: str,
    key: dict[str, str],
    issuer_of_token: str,
    taken: bool,
) -> None:
    clock = SteppedClock()
    one = Issuer(keys=[jwk("first", FIRST, **key)], named=document)
    other = Issuer(keys=[jwk("second", SECOND)], named=V2)
    urls = tuple([await serve(each.answer) + "/metadata" for each in (one, other)])
    verifier = verifier_of(SigningKeys(urls, client, clock), clock, issuers=(ISSUER, GRAPH, V1, V2))
    token = bearer(claims(iss=issuer_of_token))

    if taken:
        await verifier.verify(token)
    else:
        assert "not one of its issuer" in await refused(verifier, token)


@pytest.mark.parametrize("tid", [CONSUMERS, APP])
@pytest.mark.parametrize("issuer", [V1, V2])
@pytest.mark.parametrize("key", [V2.replace(TENANT, CONSUMERS), ANY_V2], ids=["consumers' key", "key of all tenants"])
async def test_an_issuer_of_one_tenant_with_another_tenants_tid_is_refused(  # noqa: PLR0917 as above
    serve: Serve, client: HttpClient, clock: SteppedClock, key: str, issuer: str, tid: str
) -> None:
    """IDX40004: `tid` is the sender's word, and a key of the tenant that it names would sign for the issuer."""
    document = Issuer(keys=[jwk("first", FIRST, issuer=key)], named=ANY_V2)
    keys = SigningKeys((await serve(document.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock, issuers=(V1, V2))

    assert "another tenant's than its `tid`" in await refused(verifier, bearer(claims(iss=issuer, tid=tid)))


async def test_entras_keys_serve_tokens_of_every_tenant_from_the_apps_on_the_list_alone(
    serve: Serve, client: HttpClient, clock: SteppedClock
) -> None:
    document = Issuer(keys=[jwk("first", FIRST, issuer=ANY_V2)], named=ANY_V2)
    keys = SigningKeys((await serve(document.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock, issuers=(ANY_V2, ENTRA_V1_ISSUER), callers=frozenset({CALLER}))

    for tenant in (TENANT, APP):
        for issuer, caller in ((V1, {"appid": CALLER}), (V2, {"azp": CALLER.upper(), "appid": None})):
            payload = claims(iss=issuer.replace(TENANT, tenant), tid=tenant, **caller)
            assert (await verifier.verify(bearer(payload))).app_id == CALLER
    for stranger in (APP, None):
        with pytest.raises(Forbidden, match="may not send"):
            await verifier.verify(bearer(claims(iss=V2, appid=stranger)))


async def test_the_first_kind_that_knows_the_issuer_judges_the_token(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    entra = Issuer(keys=[jwk("second", SECOND, issuer=ANY_V2)], named=ANY_V2)

    def keys(url: str) -> SigningKeys:
        return SigningKeys((f"{url}/metadata",), client, clock)

    strict_keys, lax_keys = keys(await serve(entra.answer)), keys(await serve(issuer.answer))
    strict = TokenKind("strict", (ANY_V2,), frozenset({APP}), strict_keys, frozenset({CALLER}), is_for_any_tenant=True)
    lax = TokenKind("lax", (ISSUER, V2), frozenset({APP}), lax_keys)
    verifier = TokenVerifier((strict, lax), clock)

    assert (await verifier.verify(bearer())).kind == "lax"
    assert (await verifier.verify(bearer(claims(iss=V2), key=SECOND, kid="second"))).kind == "strict"
    assert "key is unknown" in await refused(verifier, bearer(claims(iss=V2)))  # the other kind's key


async def test_entras_document_for_all_tenants_serves_issuers_of_several(serve: Serve, client: HttpClient) -> None:
    """And keys that name one tenant serve that tenant alone, whatever MANAGEMENT_ISSUERS names."""
    clock, tenants = SteppedClock(), (TENANT, APP)
    issuers = tuple(V2.replace(TENANT, tenant) for tenant in tenants)
    for says, taken in ((ANY_V2, tenants), (V2, (TENANT,))):
        document = Issuer(keys=[jwk("first", FIRST, issuer=says)], named=says)
        keys = SigningKeys((await serve(document.answer) + "/metadata",), client, clock)
        verifier = verifier_of(keys, clock, issuers=issuers)
        for tenant, issuer in zip(tenants, issuers, strict=True):
            token = bearer(claims(iss=issuer, tid=tenant))
            if tenant in taken:
                await verifier.verify(token)
            else:
                assert "not one of its issuer" in await refused(verifier, token)
