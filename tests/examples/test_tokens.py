"""The example bots refuse every forged token that Call Keeper's webhook refuses, and accept the genuine ones."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from local.stack.processes import Children
from local.stack.stack import APP_ID
from tests.examples.bots import Bot, Programs, trusting
from tests.system.attacks import accepted, authorization_header, claims, entra, signatures
from tests.system.attacks.cases import Case
from tests.system.attacks.keys import ISSUER, OTHER_TENANT, Issuers
from tests.system.attacks.raw_http import Request, send
from tests.system.attacks.request_builders import CALLING_APP, Build, RequestBuilder

VICTIM = "9d0e4c2a-7f51-4b8e-a3d6-5c1f0b7e90f4"
STRANGER = "5b1f0f1c-1d5c-4b7e-9f0c-2f6a0c7d9e11"
ATTACKS = [case for module in (signatures, claims, authorization_header, entra) for case in module.cases()]
ODD_TOKENS = {"key", "claims", "time", "form"}  # kinds of genuine cases; the others are about bodies and addresses
# Call Keeper refuses these. A bot's library may not, which does no harm: an issuer that the bot trusts signed each of
# them for this bot, and the calling app is a trusted one.
LENIENT = {
    "key: a published key of 1024 bits",
    "key: b64 asks for more than RS256",
    "claims: aud, with a number beside it",
    "claims: appid and azp that differ",
    "claims: a name that stands twice: tid",
    "claims: a name that stands twice: aud",
    "time: no nbf",
    "time: exp as text",
    "time: exp of 400 digits",
    "time: exp before nbf",
    "form: the header twice, both genuine",
    "form: the header twice, genuine first",
    "form: a genuine token, padding",
    "form: a name twice in the header",
    "form: another spelling of the signature's last character",
    "claims: an Entra token of the bot itself",  # that is a late delivery
    *(f"claims: typ {name!r}" for name in ("dpop+jwt", "logout+jwt", "secevent+jwt", "pop", 7)),
    "JSON: NaN in the payload",
    "JSON: Infinity in the header",
    "JSON: half a surrogate pair in a claim",
}
# Call Keeper accepts these, for older senders. Microsoft's SDK refuses most of them, and so does a bot.
STRICT = {
    "claims: a slash at the issuer's end",
    "claims: Graph's second issuer",
    "claims: the audience in upper case",
    "claims: an Entra token: the caller in upper case",
    "claims: an Entra token: no slash at the v1 issuer's end",
    "claims: an iat that is no time",
    "claims: an Entra token: roles, idtyp and an iat that is no time",
    "claims: an Entra token: a key with null for use and alg",
}


def _late(version: str, **changes: object) -> Build:
    """Build a late delivery: an Entra token of the bot for the bot itself."""

    def build(builder: RequestBuilder) -> Request:
        if version == "v1":
            payload = builder.v1_claims(**{"appid": builder.app_id} | changes)
        else:
            payload = builder.v2_claims(**{"azp": builder.app_id} | changes)
        return builder.post(builder.token(payload, "entra"))

    return build


def _for_events(token: Build) -> Build:
    """Build a request to the bot's route for events, with the token of another request."""
    return lambda builder: replace(token(builder), target="/events")


def _graphs(builder: RequestBuilder) -> Request:
    return builder.post(builder.token(builder.v2_claims(azp=CALLING_APP), "entra"))


FORGED_LATE = {
    "of another app, v1": _late("v1", appid=STRANGER),
    "of another app, v2": _late("v2", azp=STRANGER),
    "for another audience": _late("v2", aud=STRANGER),
    "for the audience api://": lambda builder: _late("v2", aud=f"api://{builder.app_id}")(builder),
    "of another tenant's issuer": lambda builder: _late(
        "v2", iss=f"{builder.authority}/{OTHER_TENANT}/v2.0", tid=builder.tenant
    )(builder),
    "of the legacy issuer": _late("v2", iss=ISSUER),
    "expired": lambda builder: _late("v2", nbf=builder.now - 4000, exp=builder.now - 301)(builder),
    "in alg none": lambda builder: builder.post(
        builder.token(builder.v2_claims(azp=builder.app_id), "entra", alg="none")
    ),
    "of another cloud's key": lambda builder: builder.post(
        builder.token(builder.v2_claims(azp=builder.app_id), "entra-of-another-cloud")
    ),
    "of another tenant's key": lambda builder: builder.post(
        builder.token(builder.v2_claims(azp=builder.app_id), "entra-of-another-tenant")
    ),
    "of no published key": lambda builder: builder.post(
        builder.token(builder.v2_claims(azp=builder.app_id), "stranger")
    ),
}


@pytest.fixture(scope="module")
def bot(programs: Programs, children: Children, language: str, published: Issuers) -> Iterator[Bot]:
    """Return a bot that trusts the published keys. It reaches no Graph."""
    settings = {
        "BOT_APP_ID": APP_ID,
        "BOT_CALLBACK": "http://127.0.0.1:9/notifications",
        "GRAPH_URL": "http://127.0.0.1:9",
        "LOGIN_URL": published.authority,
        "LEGACY_METADATA": f"{published.address}/graph/metadata",
        **trusting(published.ca_file),
    }
    bot = Bot(programs, children, language, settings).start()
    yield bot
    bot.kill()


async def _answer(bot: Bot, published: Issuers, build: Build) -> int | None:
    builder = RequestBuilder(APP_ID, VICTIM, published.authority)
    request = build(builder)
    target = request.target if request.target == "/events" else "/notifications"
    return (await send(bot.address, replace(request, target=target))).status


async def _accepted(bot: Bot, published: Issuers, cases: list[Case]) -> set[str]:
    return {case.id for case in cases if await _answer(bot, published, case.build) == 202}


async def test_a_token_that_call_keeper_refuses_is_refused(bot: Bot, published: Issuers) -> None:
    """Each attack on Call Keeper's webhook is tried. That of a tenant on another's call needs Call Keeper's records."""
    attacks = [case for case in ATTACKS if not case.must_be_accepted and case.kind != "tenant"]
    assert len(attacks) > 100
    assert await _accepted(bot, published, attacks) <= LENIENT
    assert {case.id for case in attacks} >= LENIENT


async def test_a_genuine_token_is_accepted(bot: Bot, published: Issuers) -> None:
    genuine = [case for case in (*entra.cases(), *accepted.cases()) if case.must_be_accepted]
    genuine = [case for case in genuine if case.kind in ODD_TOKENS]
    assert len(genuine) > 20
    assert {case.id for case in genuine} - await _accepted(bot, published, genuine) <= STRICT


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_late_delivery_of_call_keeper_is_accepted(bot: Bot, published: Issuers, version: str) -> None:
    assert await _answer(bot, published, _late(version)) == 202


@pytest.mark.parametrize("build", FORGED_LATE.values(), ids=FORGED_LATE.keys())
async def test_a_forged_late_delivery_is_refused(bot: Bot, published: Issuers, build: Build) -> None:
    assert await _answer(bot, published, build) == 401


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_an_event_needs_a_token_of_the_bot_itself(bot: Bot, published: Issuers, version: str) -> None:
    event = b'{"type": "call.established", "data": {}}'

    def build(builder: RequestBuilder) -> Request:
        return replace(_late(version)(builder), body=event, target="/events")

    assert await _answer(bot, published, build) == 202


@pytest.mark.parametrize(
    "build",
    [
        *(pytest.param(build, id=f"late delivery {what}") for what, build in FORGED_LATE.items()),
        pytest.param(_graphs, id="Graph's Entra token"),
        pytest.param(lambda builder: builder.post(), id="Graph's legacy token"),
        pytest.param(lambda builder: builder.unsigned(), id="no token"),
    ],
)
async def test_an_event_with_another_token_is_refused(bot: Bot, published: Issuers, build: Build) -> None:
    """Also Graph's own: its token is for notifications, and a receiver of one could send events with it."""
    assert await _answer(bot, published, _for_events(build)) == 401
