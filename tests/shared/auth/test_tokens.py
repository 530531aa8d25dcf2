"""Verification of inbound tokens: their form, claims and lifetime. Keys are real and fetched over HTTP."""

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from shared.auth.signing_keys import (
    SigningKeys,
)
from shared.auth.tokens import _MAX_QUOTED_LENGTH, LEEWAY, MAX_TOKEN_LENGTH, Claims, TokenVerifier
from shared.errors import Unauthenticated
from shared.http_client import HttpClient
from tests.shared.auth.signed_tokens import (
    APP,
    CALLER,
    FIRST,
    ISSUER,
    SECOND,
    START,
    TENANT,
    Issuer,
    Serve,
    _base64,
    bearer,
    claims,
    refused,
    unsigned,
    verifier_of,
)
from tests.support.clocks import SteppedClock


async def test_graphs_own_kind_of_token_is_taken(verifier: TokenVerifier) -> None:
    expires_at = datetime.fromtimestamp(int(str(claims()["exp"])), UTC)

    assert await verifier.verify(bearer()) == Claims(TENANT, APP, app_id=CALLER, kind="test", expires_at=expires_at)


async def test_the_roles_of_an_entra_token_are_returned(verifier: TokenVerifier) -> None:
    payload = claims(appid=None, azp=APP.upper(), oid=TENANT, roles=["Calls.Read", 5, "Calls.Manage"], iat=1)
    expires_at = datetime.fromtimestamp(int(str(payload["exp"])), UTC)

    assert await verifier.verify(bearer(payload)) == Claims(
        TENANT, APP, APP, None, frozenset({"Calls.Read", "Calls.Manage"}), "test", expires_at
    )


async def test_an_expiry_beyond_all_times_is_the_last_one(verifier: TokenVerifier) -> None:
    found = await verifier.verify(bearer(claims(exp=10**11)))  # the year 5138; times end with 9999

    assert found.expires_at.year == 5138
    assert (await verifier.verify(bearer(claims(exp=9 * 10**11)))).expires_at.year == 9999


async def test_the_user_of_a_users_token_is_returned(verifier: TokenVerifier) -> None:
    payload = claims(scp="user_impersonation", oid=TENANT.upper(), sub="another-for-each-app")

    assert (await verifier.verify(bearer(payload))).user_id == TENANT


@pytest.mark.parametrize("oid", [None, "", "somebody", ["x"]])
async def test_a_users_token_may_leave_open_which_user(verifier: TokenVerifier, oid: object) -> None:
    """Notifications do not care; management routes do."""
    assert (await verifier.verify(bearer(claims(scp="user_impersonation", oid=oid)))).user_id == ""


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_has_no_case(verifier: TokenVerifier, scheme: str) -> None:
    await verifier.verify(bearer(scheme=scheme))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": APP.upper()},
        {"aud": ["another", APP]},
        {"iss": ISSUER + "/"},
        {"iss": "https://graph.microsoft.com"},
        {"tid": TENANT.upper()},
        {"exp": START.timestamp() + 0.5},
        {"azp": "26A18EBC-CDF7-4A6A-91CB-BEB352805E81"},
        {"iat": "not a time", "jti": 5, "sub": 7},
    ],
)
async def test_what_differs_in_form_alone_is_taken(verifier: TokenVerifier, changes: dict[str, object]) -> None:
    assert (await verifier.verify(bearer(claims(**changes)))).tenant_id == TENANT


@pytest.mark.parametrize(
    ("authorization", "why"),
    [
        (None, "no bearer token"),
        ("", "no bearer token"),
        ("Bearer", "no bearer token"),
        ("Bearer ", "no bearer token"),
        ("Basic dXNlcjpzM2NyZXQ=", "no bearer token"),
        ("Bearer s3cret", "not a signed token"),
        ("Bearer a.b.c", "not a signed token"),
        ("Bearer a.b c.d", "not a token"),
        ("Bearer é.é.é", "not a token"),
        (f"Bearer {'x' * (MAX_TOKEN_LENGTH + 1)}", "not a token"),
        (f"Bearer {_base64(b'[' * 12_000)}.e30.e30", "not a signed token"),
        (f"Bearer {_base64(b'[]')}.e30.e30", "not a signed token"),
    ],
)
async def test_what_is_no_token_is_refused(verifier: TokenVerifier, authorization: str | None, why: str) -> None:
    message = await refused(verifier, authorization)

    assert why in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": None}, "another audience"),
        ({"aud": "another"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": {APP: 1}}, "another audience"),
        ({"aud": APP + " "}, "another audience"),
        ({"aud": [APP, 5]}, "another audience"),
        ({"azp": APP}, "two calling apps"),
        ({"iss": None}, "issuer"),
        ({"iss": "https://evil.example"}, r"issuer .* https://evil.example"),
        ({"iss": ISSUER + "//"}, "issuer"),
        ({"iss": ISSUER.upper()}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"exp": None}, "`exp`"),
        ({"exp": "soon"}, "`exp`"),
        ({"exp": True}, "`exp`"),
        ({"exp": float("inf")}, "not a signed token"),
        ({"jti": float("nan")}, "not a signed token"),
        ({"jti": [{"x": float("-inf")}]}, "not a signed token"),
        ({"sub": "\ud800"}, "not a signed token"),
        ({"\udc00": 1}, "not a signed token"),
        ({"exp": int(START.timestamp()) - 1}, "ends before it begins"),
        ({"cnf": {"kid": "x"}}, "bound to a key"),
        ({"cnf": False}, "bound to a key"),
        ({"appid": "contoso"}, "no GUID"),
        ({"appid": [CALLER]}, "no GUID"),
        ({"appid": 7, "azp": CALLER}, "no GUID"),
        ({"azp": "*"}, "no GUID"),
        ({"azp": ""}, "no GUID"),
        ({"TID": APP}, "another case"),
        ({"AppId": CALLER}, "another case"),
        pytest.param({"exp": 10**400}, "`exp`", id="exp of 401 digits"),
        ({"nbf": None}, "`nbf`"),
        ({"nbf": "now"}, "`nbf`"),
        ({"tid": None}, "`tid`"),
        ({"tid": "contoso"}, "`tid`"),
        ({"tid": [TENANT]}, "`tid`"),
    ],
)
async def test_each_claim_that_lacks_or_is_wrong_is_named(
    verifier: TokenVerifier, changes: dict[str, object], why: str
) -> None:
    payload = claims()
    payload.update(changes)
    missing = {name for name, value in changes.items() if value is None}

    with pytest.raises(Unauthenticated, match=why):
        await verifier.verify(bearer({name: value for name, value in payload.items() if name not in missing}))


async def test_a_message_repeats_little_of_a_foreign_issuer(verifier: TokenVerifier) -> None:
    message = await refused(verifier, bearer(claims(iss="\n" + "x" * 5000)))

    assert len(message) < 2 * _MAX_QUOTED_LENGTH  # what it repeats, and words of our own that are shorter
    assert "\n" not in message


@pytest.mark.parametrize(
    ("lifetime", "why"),
    [
        ({"nbf": START - 2 * LEEWAY, "exp": START - LEEWAY}, "expired"),
        ({"nbf": START + LEEWAY + timedelta(seconds=1), "exp": START + 2 * LEEWAY}, "not valid yet"),
    ],
    ids=["expired", "not valid yet"],
)
async def test_a_lifetime_beyond_the_leeway_is_refused(
    verifier: TokenVerifier, lifetime: dict[str, datetime], why: str
) -> None:
    changes = {name: int(moment.timestamp()) for name, moment in lifetime.items()}

    assert why in await refused(verifier, bearer(claims(**changes)))


async def test_clocks_may_differ_by_the_leeway(verifier: TokenVerifier, clock: SteppedClock) -> None:
    clock.time = START - LEEWAY
    await verifier.verify(bearer())

    clock.time = START + timedelta(seconds=299) + LEEWAY
    await verifier.verify(bearer())

    clock.time = START + timedelta(seconds=300) + LEEWAY
    assert "expired" in await refused(verifier, bearer())


async def test_an_unsigned_token_is_refused(verifier: TokenVerifier) -> None:
    token = unsigned()

    assert "RS256" in await refused(verifier, f"Bearer {token}")


async def test_the_public_key_is_no_shared_secret(verifier: TokenVerifier) -> None:
    public = FIRST.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = _base64(json.dumps({"alg": "HS256", "kid": "first"}).encode())
    signed = f"{head}.{_base64(json.dumps(claims()).encode())}"
    signature = hmac.new(public, signed.encode(), hashlib.sha256).digest()

    assert "RS256" in await refused(verifier, f"Bearer {signed}.{_base64(signature)}")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_other_algorithms_are_refused(verifier: TokenVerifier, algorithm: str) -> None:
    token = jwt.encode(claims(), FIRST, algorithm, headers={"kid": "first"})

    assert "RS256" in await refused(verifier, f"Bearer {token}")


async def test_another_keys_signature_is_refused(verifier: TokenVerifier) -> None:
    assert "signature is wrong" in await refused(verifier, bearer(key=SECOND))


async def test_changed_claims_are_refused(verifier: TokenVerifier) -> None:
    head, _, signature = bearer().removeprefix("Bearer ").split(".")
    forged = _base64(json.dumps(claims(tid=APP)).encode())

    assert "signature is wrong" in await refused(verifier, f"Bearer {head}.{forged}.{signature}")


async def test_a_token_names_its_key(verifier: TokenVerifier, issuer: Issuer) -> None:
    assert "kid" in await refused(verifier, bearer(kid=None))
    assert "unknown: kid second" in await refused(verifier, bearer(kid="second", key=SECOND))
    assert issuer.fetched == 1


async def test_a_header_that_must_be_understood_is_refused(verifier: TokenVerifier) -> None:
    head = _base64(json.dumps({"alg": "RS256", "kid": "first", "crit": ["exp"], "exp": 1}).encode())
    token = f"{head}.{_base64(json.dumps(claims()).encode())}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(token.encode(), FIRST)

    with pytest.raises(Unauthenticated):
        await verifier.verify(f"Bearer {token}.{_base64(signature)}")


@pytest.mark.parametrize("payload", [b"[]", b"nothing", b"[" * 5000, b'{"tid":'])
async def test_a_signed_payload_without_claims_is_refused(verifier: TokenVerifier, payload: bytes) -> None:
    token = jwt.PyJWS().encode(payload, FIRST, "RS256", headers={"kid": "first"})

    with pytest.raises(Unauthenticated):
        await verifier.verify(f"Bearer {token}")


async def test_garbage_needs_no_keys_to_be_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.broken = 500

    assert "RS256" in await refused(verifier, f"Bearer {unsigned()}")


async def test_the_audience_that_fits_is_returned(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    keys = SigningKeys((await serve(issuer.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock, audiences=(APP, TENANT))

    for named, expected in ((APP.upper(), APP), (TENANT, TENANT), (["another", TENANT], TENANT)):
        assert (await verifier.verify(bearer(claims(aud=named)))).audience == expected


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token + "=",
        lambda token: token + ".",
        lambda token: token.replace(".", ".~", 1),
        lambda token: token.replace(".", "\n.", 1),
        lambda token: token.replace(" ", " .", 1),
    ],
    ids=["padding", "fourth part", "tilde in the payload", "line feed in the header", "empty header"],
)
async def test_characters_that_a_decoder_skips_make_it_no_token(
    verifier: TokenVerifier, spoil: Callable[[str], str]
) -> None:
    await verifier.verify(bearer())

    assert "not a signed token" in await refused(verifier, spoil(bearer()))


async def test_a_token_has_one_spelling(verifier: TokenVerifier) -> None:
    """RFC 4648, 3.5: of the last character of 256 bytes four bits are left over, which a decoder ignores."""
    scheme, _, token = bearer().partition(" ")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spellings = [token[:-1] + alphabet[alphabet.index(token[-1]) + more] for more in range(16)]
    assert alphabet.index(token[-1]) % 16 == 0

    await verifier.verify(f"{scheme} {spellings[0]}")

    for other in spellings[1:]:
        assert "not a signed token" in await refused(verifier, f"{scheme} {other}")


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_an_access_tokens_type_is_taken(verifier: TokenVerifier, kind: str) -> None:
    await verifier.verify(bearer(typ=kind))


@pytest.mark.parametrize("kind", ["dpop+jwt", "logout+jwt", "secevent+jwt", "JWE"])
async def test_a_token_of_another_type_is_refused(verifier: TokenVerifier, kind: str) -> None:
    """RFC 8725, 3.11."""
    assert "another type" in await refused(verifier, bearer(typ=kind))


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        (b'{"alg":"none","alg":"RS256","kid":"first"}', None),
        (b'{"alg":"RS256","kid":"other","kid":"first"}', None),
        (None, b'{"tid":"%s",' % APP.encode() + json.dumps(claims()).encode()[1:]),
    ],
)
async def test_a_name_that_stands_twice_is_refused(
    verifier: TokenVerifier, header: bytes | None, payload: bytes | None
) -> None:
    head = header or b'{"alg":"RS256","kid":"first"}'
    signed = f"{_base64(head)}.{_base64(payload or json.dumps(claims()).encode())}"
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(signed.encode(), FIRST)

    assert "not a signed token" in await refused(verifier, f"Bearer {signed}.{_base64(signature)}")


async def test_guids_of_issuers_and_audiences_have_no_case(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    metadata = await serve(issuer.answer) + "/metadata"
    verifier = verifier_of(
        SigningKeys((metadata,), client, clock),
        clock,
        audiences=(f"api://{APP.upper()}",),
        issuers=(f"https://sts.windows.net/{TENANT.upper()}/",),
    )

    await verifier.verify(bearer(claims(aud=f"api://{APP}", iss=f"https://sts.windows.net/{TENANT}")))
