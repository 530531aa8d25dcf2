"""Tokens that come in, signed with real keys that are fetched over real HTTP."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.auth.key_binding import ENTRA_V1_ISSUER
from shared.auth.signing_keys import (
    FIRST_FETCH_COOLDOWN,
    REFRESH_AFTER,
    REFRESH_COOLDOWN,
    SigningKeys,
    jwks_url,
    usable_keys,
)
from shared.auth.token_kinds import TokenKind
from shared.auth.tokens import LEEWAY, MAX_TOKEN_LENGTH, Claims, TokenVerifier
from shared.errors import Forbidden, SigningKeysUnavailable, Unauthenticated
from shared.http_client import HttpClient, make_http_client
from shared.identifiers import lower_guids

type Serve = Callable[..., Awaitable[str]]

APP = "aaaaaaaa-1111-2222-3333-444444444444"
TENANT = "bbbbbbbb-1111-2222-3333-444444444444"
CALLER = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"
ISSUER = "https://api.botframework.com"
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
FIRST, SECOND = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@dataclass
class SteppedClock:
    time: datetime = START

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def jwk(kid: str, key: rsa.RSAPrivateKey, **more: object) -> dict[str, object]:
    numbers = key.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    modulus, exponent = numbers.n.to_bytes(size), numbers.e.to_bytes(3)
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": _base64(modulus), "e": _base64(exponent), **more}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Issuer:
    """OpenID metadata and keys. `broken` is the status that both answer instead."""

    keys: list[dict[str, object]] = field(default_factory=lambda: [jwk("first", FIRST)])
    broken: int | None = None
    jwks_uri: str | None = None
    named: str = ISSUER
    fetched: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.broken:
            return web.Response(status=self.broken)
        if request.path == "/keys":
            self.fetched += 1
            await asyncio.sleep(0)  # lets others in, as a network would
            return web.json_response({"keys": self.keys})
        own = f"http://{request.host}/keys"
        metadata = {
            "issuer": self.named,
            "jwks_uri": self.jwks_uri or own,
            "id_token_signing_alg_values_supported": ["RSA256"],  # so it is written in Graph's own
        }
        return web.json_response(metadata)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = make_http_client(32)
    yield made
    await made.close()


@pytest.fixture
async def verifier(serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock) -> TokenVerifier:
    metadata = await serve(issuer.answer) + "/metadata"
    keys = SigningKeys((metadata,), client, clock)
    return verifier_of(keys, clock, issuers=(ISSUER, "https://graph.microsoft.com"))


def claims(**changes: object) -> dict[str, object]:
    """The claims of a notification's token; None leaves one out. There is no `iat`, as in Graph's."""
    now = int(START.timestamp())
    payload: dict[str, object] = {
        "aud": APP,
        "iss": ISSUER,
        "nbf": now,
        "exp": now + 300,
        "tid": TENANT,
        "appid": CALLER,
    }
    return {name: value for name, value in (payload | changes).items() if value is not None}


def bearer(
    payload: dict[str, object] | None = None,
    key: rsa.RSAPrivateKey = FIRST,
    scheme: str = "Bearer",
    **headers: str | None,
) -> str:
    named = {"kid": "first", "cty": "JWT", **headers}
    header = {name: value for name, value in named.items() if value is not None}
    body = json.dumps(claims() if payload is None else payload).encode()
    return f"{scheme} {jwt.PyJWS().encode(body, key, 'RS256', headers=header)}"


def unsigned() -> str:
    head = _base64(json.dumps({"alg": "none", "kid": "first"}).encode())
    return f"{head}.{_base64(json.dumps(claims()).encode())}."


def verifier_of(
    keys: SigningKeys,
    clock: SteppedClock,
    *,
    audiences: tuple[str, ...] = (APP,),
    issuers: tuple[str, ...] = (ISSUER,),
    callers: frozenset[str] | None = None,
) -> TokenVerifier:
    """A verifier of one kind of token."""
    kind = TokenKind("test", issuers, frozenset(map(lower_guids, audiences)), keys, callers, is_for_any_tenant=True)
    return TokenVerifier((kind,), clock)


async def refused(verifier: TokenVerifier, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(authorization)
    assert caught.value.__cause__ is None
    return str(caught.value)


async def test_graphs_own_kind_of_token_is_taken(verifier: TokenVerifier) -> None:
    assert await verifier.verify(bearer()) == Claims(TENANT, APP, app_id=CALLER, kind="test")


async def test_an_entra_tokens_roles_are_told(verifier: TokenVerifier) -> None:
    payload = claims(appid=None, azp=APP.upper(), oid=TENANT, roles=["Calls.Read", 5, "Calls.Manage"], iat=1)

    assert await verifier.verify(bearer(payload)) == Claims(
        TENANT, APP, APP, None, frozenset({"Calls.Read", "Calls.Manage"}), "test"
    )


async def test_a_users_token_tells_which_user(verifier: TokenVerifier) -> None:
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
    told = await refused(verifier, authorization)

    assert why in told
    assert "s3cret" not in told


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
        ({"exp": 10**400}, "`exp`"),
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
    told = await refused(verifier, bearer(claims(iss="\n" + "x" * 5000)))

    assert len(told) < 200
    assert "\n" not in told


@pytest.mark.parametrize(
    ("lifetime", "why"),
    [
        ({"nbf": START - 2 * LEEWAY, "exp": START - LEEWAY}, "expired"),
        ({"nbf": START + LEEWAY + timedelta(seconds=1), "exp": START + 2 * LEEWAY}, "not valid yet"),
    ],
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


async def settled() -> None:
    """Until no fetch is under way that nobody waits for."""
    while under_way := [task for task in asyncio.all_tasks() if task.get_name().startswith("signing keys of")]:
        await asyncio.wait(under_way)


async def test_keys_are_fetched_once_an_hour_and_nobody_waits_for_it(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock
) -> None:
    later = claims(exp=int((START + 3 * REFRESH_AFTER).timestamp()))
    await asyncio.gather(*(verifier.verify(bearer(later)) for _ in range(20)))
    clock.time += REFRESH_AFTER - timedelta(seconds=1)
    await verifier.verify(bearer(later))
    assert issuer.fetched == 1

    clock.time += timedelta(seconds=1)
    await asyncio.gather(*(verifier.verify(bearer(later)) for _ in range(20)))
    assert issuer.fetched == 1
    await settled()
    assert issuer.fetched == 2


async def test_a_new_key_is_found_when_a_token_names_it(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock
) -> None:
    await verifier.verify(bearer())
    issuer.keys = [jwk("second", SECOND)]
    clock.time += REFRESH_COOLDOWN

    await verifier.verify(bearer(kid="second", key=SECOND))

    assert "unknown" in await refused(verifier, bearer())  # the old one is withdrawn


async def test_unknown_keys_cost_one_fetch_a_minute(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock
) -> None:
    await verifier.verify(bearer())
    clock.time += REFRESH_COOLDOWN
    unknown = [bearer(kid=f"unknown-{number}") for number in range(100)]

    outcomes = await asyncio.gather(*map(verifier.verify, unknown), return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {Unauthenticated}
    assert issuer.fetched == 2


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_keys_at_hand_last_through_an_outage(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock, status: int
) -> None:
    await verifier.verify(bearer())
    issuer.broken = status
    clock.time += 3 * REFRESH_AFTER

    await verifier.verify(bearer(claims(exp=int(clock.time.timestamp()))))

    with pytest.raises(SigningKeysUnavailable, match="not known"):  # it may be a new one: asked again, it may be found
        await verifier.verify(bearer(kid="second"))


@dataclass
class Held:
    """An issuer that does not answer until it is let go."""

    issuer: Issuer
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.reached.set()
        await self.let_go.wait()
        return await self.issuer.answer(request)


async def test_who_is_cancelled_takes_the_fetch_from_nobody(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = Held(issuer)
    keys = SigningKeys((await serve(held.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock)
    first = asyncio.create_task(verifier.verify(bearer()))
    await held.reached.wait()
    second = asyncio.create_task(verifier.verify(bearer()))
    first.cancel()
    held.let_go.set()

    assert (await second).tenant_id == TENANT
    assert issuer.fetched == 1


async def test_a_document_that_does_not_answer_holds_up_nobody_whose_key_another_has(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = Held(Issuer(keys=[jwk("second", SECOND)], broken=500))
    urls = (await serve(held.answer) + "/metadata", await serve(issuer.answer) + "/metadata")
    verifier = verifier_of(SigningKeys(urls, client, clock), clock)

    for _ in range(3):  # the very first, who has to wait for the keys of the other; and then each minute
        await verifier.verify(bearer(claims(exp=int(clock.time.timestamp()) + 60)))
        await held.reached.wait()
        clock.time += REFRESH_COOLDOWN
    held.let_go.set()
    await settled()


async def test_an_outage_is_not_asked_about_again_at_once(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    await verifier.verify(bearer())
    issuer.broken = 500
    clock.time += REFRESH_AFTER
    token = bearer(claims(exp=int(clock.time.timestamp())))

    for _ in range(2):
        await verifier.verify(token)
        await settled()
    assert caplog.text.count("signing_keys.fetch.failed") == 1

    clock.time += REFRESH_COOLDOWN
    issuer.broken = None
    await verifier.verify(token)
    await settled()
    assert issuer.fetched == 2


async def test_without_any_keys_it_is_our_trouble_and_not_the_tokens(
    verifier: TokenVerifier, issuer: Issuer, clock: SteppedClock
) -> None:
    issuer.broken = 500
    with pytest.raises(SigningKeysUnavailable):
        await verifier.verify(bearer())

    issuer.broken = None
    with pytest.raises(SigningKeysUnavailable):  # it is not asked again at once
        await verifier.verify(bearer())

    clock.time += FIRST_FETCH_COOLDOWN
    await verifier.verify(bearer())


async def test_garbage_needs_no_keys_to_be_refused(verifier: TokenVerifier, issuer: Issuer) -> None:
    issuer.broken = 500

    assert "RS256" in await refused(verifier, f"Bearer {unsigned()}")


async def test_of_several_issuers_one_that_fails_spoils_no_other(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    other = Issuer(keys=[jwk("second", SECOND)], broken=500)
    urls = (await serve(other.answer) + "/metadata", await serve(issuer.answer) + "/metadata")
    verifier = verifier_of(SigningKeys(urls, client, clock), clock)

    await verifier.verify(bearer())
    with pytest.raises(SigningKeysUnavailable, match="not known"):
        await verifier.verify(bearer(kid="second", key=SECOND))

    other.broken, issuer.broken = None, 500
    clock.time += REFRESH_COOLDOWN
    await verifier.verify(bearer(kid="second", key=SECOND))
    await verifier.verify(bearer())


@pytest.mark.parametrize("jwks_uri", ["http://keys.example/keys", "file:///etc/passwd", "https://u@keys.example", "x"])
async def test_keys_come_from_trusted_addresses_alone(verifier: TokenVerifier, issuer: Issuer, jwks_uri: str) -> None:
    issuer.jwks_uri = jwks_uri

    with pytest.raises(SigningKeysUnavailable):
        await verifier.verify(bearer())


@pytest.mark.parametrize(("named", "taken"), [((), False), (("keys.example",), False), (("localhost",), True)])
async def test_keys_at_another_host_are_taken_only_if_a_setting_names_it(
    serve: Serve, issuer: Issuer, client: HttpClient, named: tuple[str, ...], taken: bool
) -> None:
    clock = SteppedClock()
    address = await serve(issuer.answer)
    issuer.jwks_uri = f"{address.replace('127.0.0.1', 'localhost')}/keys"
    verifier = verifier_of(SigningKeys((address + "/metadata",), client, clock, named), clock)

    if taken:
        await verifier.verify(bearer())
        return
    with pytest.raises(SigningKeysUnavailable):
        await verifier.verify(bearer())
    assert issuer.fetched == 0


def test_a_host_that_is_not_named_is_told_with_the_setting() -> None:
    with pytest.raises(ValueError, match=r"another host or port, at keys\.example, which SIGNING_KEY_HOSTS does not"):
        jwks_url({"jwks_uri": "https://keys.example/1"}, "https://metadata.example/1")


def test_another_port_is_another_server() -> None:
    with pytest.raises(ValueError, match="another host or port"):
        jwks_url({"jwks_uri": "https://metadata.example:8443/1"}, "https://metadata.example/1")
    for same in ("https://metadata.example:443/1", "https://METADATA.example/1"):
        assert jwks_url({"jwks_uri": same}, "https://metadata.example/1") == same


def test_a_key_need_not_say_what_it_is_for() -> None:
    """RFC 7517, 4.2: `use` is optional."""
    unsaid = {name: value for name, value in jwk("first", FIRST).items() if name != "use"}

    assert set(usable_keys({"keys": [unsaid]})) == {"first"}


GRAPH = "https://graph.microsoft.com"  # an issuer that no metadata names
V1, V2 = f"https://sts.windows.net/{TENANT}/", f"https://login.microsoftonline.com/{TENANT}/v2.0"
ANY_V2, OTHERS_V2 = V2.replace(TENANT, "{tenantid}"), V2.replace(TENANT, APP)


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


CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # Entra's tenant of personal accounts, with a key of its own


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


@pytest.mark.parametrize(
    ("key", "document", "taken"),
    [
        ("microsoftonline.us", "microsoftonline.com", False),
        ("microsoftonline.com", "MicrosoftOnline.com", True),
        (None, "microsoftonline.com", True),
        ("microsoftonline.us", None, True),
        (7, "microsoftonline.com", True),
    ],
)
def test_a_key_of_another_cloud_than_its_document_is_no_key_here(
    key: object, document: str | None, taken: bool
) -> None:
    """IDX40012: Entra's documents list keys of other clouds."""
    jwks = {"keys": [jwk("first", FIRST, cloud_instance_name=key), jwk("second", SECOND)]}

    assert ("first" in usable_keys(jwks, {"cloud_instance_name": document})) is taken


async def test_while_a_document_was_never_loaded_an_issuer_that_no_key_owns_is_unknown(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    """Else the keys that are here would sign for the issuer of those that are not."""
    missing = Issuer(keys=[jwk("second", SECOND)], named=GRAPH, broken=500)
    urls = (await serve(issuer.answer) + "/metadata", await serve(missing.answer) + "/metadata")
    verifier = verifier_of(SigningKeys(urls, client, clock), clock, issuers=(ISSUER, GRAPH))

    await verifier.verify(bearer())  # this issuer has its keys
    with pytest.raises(SigningKeysUnavailable, match="Not all keys"):
        await verifier.verify(bearer(claims(iss=GRAPH)))

    missing.broken = None
    clock.time += REFRESH_COOLDOWN
    later = claims(iss=GRAPH, exp=int(clock.time.timestamp()) + 60)
    await verifier.verify(bearer(later, key=SECOND, kid="second"))
    assert "not one of its issuer" in await refused(verifier, bearer(later))


async def test_a_document_on_its_way_is_waited_for_before_an_issuer_counts_as_nobodys(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = Held(Issuer(keys=[jwk("second", SECOND)], named="https://another.example"))
    urls = (await serve(issuer.answer) + "/metadata", await serve(held.answer) + "/metadata")
    verifier = verifier_of(SigningKeys(urls, client, clock), clock, issuers=(ISSUER, GRAPH))

    verifying = asyncio.create_task(verifier.verify(bearer(claims(iss=GRAPH))))
    await held.reached.wait()
    held.let_go.set()

    assert (await verifying).tenant_id == TENANT


async def test_a_document_that_was_never_loaded_is_asked_for_again_soon_and_then_more_rarely(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    """Though another document of the same kind is here: 5 s, then 10, then 20, up to a minute."""
    missing = Issuer(broken=500)
    asked: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((clock.time - START).total_seconds())
        return await missing.answer(request)

    urls = (await serve(issuer.answer) + "/metadata", await serve(answer) + "/metadata")
    keys = SigningKeys(urls, client, clock)
    for _ in range(300):
        await keys.load_missing(timedelta(seconds=10))
        clock.time += timedelta(seconds=1)

    assert asked == [0, 5, 15, 35, 75, 135, 195, 255]


async def test_a_fetch_that_is_cancelled_holds_up_no_later_one(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = Held(issuer)
    keys = SigningKeys((await serve(held.answer) + "/metadata",), client, clock)
    await keys.load_missing(timedelta())
    await held.reached.wait()
    (task,) = (task for task in asyncio.all_tasks() if task.get_name().startswith("signing keys"))
    task.cancel()
    await asyncio.wait([task])
    held.let_go.set()
    clock.time += FIRST_FETCH_COOLDOWN

    assert await keys.get("first")


@pytest.mark.parametrize("member", ["use", "alg", "key_ops"])
def test_null_in_a_key_means_left_out(member: str) -> None:
    assert set(usable_keys({"keys": [jwk("first", FIRST, **{member: None})]})) == {"first"}


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


async def test_of_two_keys_with_one_id_the_one_that_fits_counts(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    """Nobody promises that ids differ among issuers, nor in a key set."""
    issuer.keys = [jwk("first", SECOND), jwk("first", FIRST, endorsements=["msteams"], key_ops=["verify"])]
    other = Issuer(keys=[jwk("first", SECOND)], named="https://another.example")
    urls = tuple([await serve(each.answer) + "/metadata" for each in (other, issuer)])
    verifier = verifier_of(SigningKeys(urls, client, clock), clock)

    await verifier.verify(bearer())
    await verifier.verify(bearer(key=SECOND))


async def test_the_audience_that_fits_is_told(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    keys = SigningKeys((await serve(issuer.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock, audiences=(APP, TENANT))

    for named, told in ((APP.upper(), APP), (TENANT, TENANT), (["another", TENANT], TENANT)):
        assert (await verifier.verify(bearer(claims(aud=named)))).audience == told


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token + "=",
        lambda token: token + ".",
        lambda token: token.replace(".", ".~", 1),
        lambda token: token.replace(".", "\n.", 1),
        lambda token: token.replace(" ", " .", 1),
    ],
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


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [jwk("first", FIRST, use="enc")],
        [jwk("first", FIRST, alg="RS512")],
        [jwk("first", FIRST, kty="EC")],
        [jwk("first", FIRST, n="!")],
        [jwk("first", FIRST, e=None)],
        [jwk("first", FIRST, key_ops=["encrypt"])],
        [jwk("first", FIRST, key_ops="verify")],
        [jwk("first", SMALL)],
        [jwk("", FIRST)],
        [{"kty": "oct", "use": "sig", "kid": "first", "k": "czNjcmV0"}],
        ["first"],
    ],
)
async def test_only_rsa_keys_for_signatures_of_a_good_size_count(
    verifier: TokenVerifier, issuer: Issuer, keys: list[dict[str, object]]
) -> None:
    issuer.keys = keys

    with pytest.raises(SigningKeysUnavailable):
        await verifier.verify(bearer())


@pytest.mark.parametrize("jwks", [{}, {"keys": {}}, {"keys": None}])
def test_a_key_set_without_a_list_is_none(jwks: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no RSA key"):
        usable_keys(jwks)


def test_one_bad_key_does_not_spoil_the_good_ones() -> None:
    assert list(usable_keys({"keys": [jwk("bad", SMALL), jwk("good", FIRST, alg="RS256", x5t="x")]})) == ["good"]


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


async def test_nobody_waits_for_old_keys_to_be_fetched_again(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    """They are old and their source hangs: all go on."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if clock.time > START:
            reached.set()
            await go_on.wait()
        return await issuer.answer(request)

    verifier = verifier_of(SigningKeys((await serve(answer) + "/metadata",), client, clock), clock)
    await verifier.verify(bearer())
    clock.time += REFRESH_AFTER
    token = bearer(claims(exp=int(clock.time.timestamp())))
    await verifier.verify(token)
    await reached.wait()
    await verifier.verify(token)

    go_on.set()
    await settled()
