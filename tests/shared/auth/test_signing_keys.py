"""The signing keys: when they are fetched, how long they are kept, and which are usable."""

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web

from shared.auth.signing_keys import (
    FIRST_FETCH_COOLDOWN,
    REFRESH_AFTER,
    REFRESH_COOLDOWN,
    SigningKeys,
    jwks_url,
    usable_keys,
)
from shared.auth.tokens import TokenVerifier
from shared.errors import SigningKeysUnavailable, Unauthenticated
from shared.http_client import HttpClient
from tests.shared.auth.signed_tokens import (
    FIRST,
    GRAPH,
    ISSUER,
    SECOND,
    SMALL,
    START,
    TENANT,
    Issuer,
    PausedIssuer,
    Serve,
    bearer,
    claims,
    jwk,
    refused,
    settled,
    verifier_of,
)
from tests.support.clocks import SteppedClock


async def test_keys_are_fetched_once_an_hour_in_the_background(
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


async def test_a_cancelled_request_does_not_cancel_the_fetch_of_others(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = PausedIssuer(issuer)
    keys = SigningKeys((await serve(held.answer) + "/metadata",), client, clock)
    verifier = verifier_of(keys, clock)
    first = asyncio.create_task(verifier.verify(bearer()))
    await held.reached.wait()
    second = asyncio.create_task(verifier.verify(bearer()))
    first.cancel()
    held.let_go.set()

    assert (await second).tenant_id == TENANT
    assert issuer.fetched == 1


async def test_a_document_that_does_not_answer_delays_no_key_of_another_document(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = PausedIssuer(Issuer(keys=[jwk("second", SECOND)], broken=500))
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


def test_a_host_that_is_not_named_is_reported_with_the_setting() -> None:
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


async def test_an_issuer_counts_as_unknown_only_after_the_pending_documents(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = PausedIssuer(Issuer(keys=[jwk("second", SECOND)], named="https://another.example"))
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
    for _ in range(300):  # seconds: four cooldowns of a minute, and those before them (75 s)
        await keys.load_missing(timedelta(seconds=10))
        clock.time += timedelta(seconds=1)

    assert asked == [0, 5, 15, 35, 75, 135, 195, 255]


async def test_a_fetch_that_is_cancelled_holds_up_no_later_one(
    serve: Serve, issuer: Issuer, client: HttpClient, clock: SteppedClock
) -> None:
    held = PausedIssuer(issuer)
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
    ids=[
        *("no key", "use=enc", "alg=RS512", "kty=EC", "n is not base64", "no exponent", "key_ops=encrypt"),
        *("key_ops is text", "1024 bits", "empty kid", "symmetric", "text instead of a key"),
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
