"""Well signed tokens whose claims are not for us, too old, or of another tenant: 401, or 403 for another tenant."""

import json
import zlib
from collections.abc import Callable, Iterator

from tests.system.attacks.cases import Case, all_refused, refused
from tests.system.attacks.keys import ISSUER, OTHER_ISSUER, OTHER_TENANT, Json
from tests.system.attacks.request_builders import CALL_PATH, Build, with_claims, with_claims_of, with_payload

ISSUERS = "RFC 8725 section 3.8"
AUDIENCES = "RFC 8725 section 3.9"
TIMES = "RFC 7519 sections 4.1.4, 4.1.5; CWE-613"
PARSERS = "RFC 7519 section 4; RFC 8725 section 2.6"
OTHER_OBJECTS = "CWE-639, OWASP API1: a good token, and somebody else's object"

BAD_AUDIENCES: tuple[object, ...] = (
    None,
    "",
    "00000000-1111-2222-3333-444444444444",
    "https://graph.microsoft.com",
    [],
    {},
    ["another"],
    7,
    True,
)
SIMILAR_AUDIENCES: dict[str, Callable[[str], object]] = {  # made of the bot's app id
    "one character off": lambda app: app[:-1] + ("0" if app[-1] != "0" else "1"),
    "one more": lambda app: app + "0",
    "one less": lambda app: app[:-1],
    "in braces": lambda app: f"{{{app}}}",
    "api://": lambda app: f"api://{app}",
    "a space": lambda app: f"{app} ",
    "in an object": lambda app: {app: app},
    "with a number beside it": lambda app: [app, 1],
    "in a list in a list": lambda app: [[app]],
}
BAD_ISSUERS: tuple[object, ...] = (
    None,
    "",
    ISSUER[:-1],
    ISSUER + "n",
    ISSUER.replace("o", "0", 1),
    ISSUER.replace("https", "http"),
    ISSUER.upper(),
    ISSUER + "//",
    ISSUER + "/v2.0",
    ISSUER + ".evil.example",
    ISSUER + "@evil.example",
    ISSUER + "\0",
    ISSUER.replace("o", "\u043e", 1),
    f"https://sts.windows.net/{OTHER_TENANT}/",
    OTHER_ISSUER,
    [ISSUER],
    {"": ISSUER},
)
BAD_TENANTS: tuple[object, ...] = (
    *(None, "", "contoso.onmicrosoft.com", "common", OTHER_TENANT + "\n", "*", [OTHER_TENANT], 5),
)
BAD_PAYLOADS = (b"{}", b"[]", b"null", b'"text"', b"", b"\xff\xfe", b"{" * 5000, "{}".encode("utf-16"))


class _Digits(int):
    """A number with more digits than Python reads."""

    def __repr__(self) -> str:
        return "9" * 5000


BAD_TIMES: dict[str, Callable[[int], Json]] = {  # made of the time in seconds since 1970
    "expired 301 s ago": lambda now: {"exp": now - 301},
    "expired a year ago": lambda now: {"nbf": now - 31_536_000, "exp": now - 31_535_700},
    "valid in 6 minutes": lambda now: {"nbf": now + 360, "exp": now + 660},
    "nbf in milliseconds": lambda now: {"nbf": now * 1000},
    "exp in minutes": lambda now: {"exp": now // 60},
    "no exp": lambda _: {"exp": None},
    "no nbf": lambda _: {"nbf": None},
    "exp as text": lambda now: {"exp": str(now + 300)},
    "exp true": lambda _: {"exp": True},
    "exp without end": lambda _: {"exp": float("inf")},
    "exp no number": lambda _: {"exp": float("nan")},
    "nbf without beginning": lambda _: {"nbf": float("-inf")},
    "exp of 400 digits": lambda _: {"exp": 10**400},
    "exp of 5,000 digits": lambda _: {"exp": _Digits()},
    "exp in a list": lambda now: {"exp": [now + 300]},
    "exp below zero": lambda _: {"exp": -1},
}
SPELLINGS: dict[str, Callable[[str], str]] = {  # of a call id
    "as it is": str,
    "in upper case": str.upper,
    "without hyphens": lambda call: call.replace("-", ""),
    "its first letter percent-encoded": lambda call: f"%{ord(call[0]):02x}{call[1:]}",
    "its hyphens percent-encoded": lambda call: call.replace("-", "%2D"),
}
PATHS = {
    "by the older path": "/app/calls/{}",
    "by an absolute address": "https://graph.microsoft.com/v1.0/communications/calls/{}",
    "by its operation": "/communications/calls/{}/operations/1",
    "by its roster": "/communications/calls/{}/participants",
    "twice in one path": "/communications/calls/{0}/calls/{0}",
}
MEMBERS: dict[str, Json] = {
    "deleted": {"changeType": "deleted"},
    "terminated": {"resourceData": {"state": "terminated", "resultInfo": {"code": 200, "subcode": 7000}}},
    "with the other tenant in the body": {"tenantId": OTHER_TENANT, "resourceData": {"tenantId": OTHER_TENANT}},
}


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _audiences()
    yield from _issuers_and_tenants()
    yield from _payloads()
    yield from _times()
    yield from _other_tenants()


def _audiences() -> Iterator[Case]:
    for aud in BAD_AUDIENCES:
        yield refused("claims", f"aud {aud!r}", AUDIENCES, with_claims(aud=aud))
    for what, change in SIMILAR_AUDIENCES.items():
        yield refused("claims", f"aud, {what}", AUDIENCES, _with_audience(change))


def _issuers_and_tenants() -> Iterator[Case]:
    for iss in BAD_ISSUERS:
        yield refused("claims", f"iss {iss!r}", ISSUERS, with_claims(iss=iss))
    for tid in BAD_TENANTS:
        source = "CWE-20: the tenant decides what may be touched"
        yield refused("claims", f"tid {tid!r}", source, with_claims(tid=tid))
    two = "RFC 8725 section 3.8: who calls must be one"
    yield refused("claims", "appid and azp that differ", two, with_claims(azp=OTHER_TENANT))


def _payloads() -> Iterator[Case]:
    for payload in BAD_PAYLOADS:
        signed = with_payload(payload)
        yield refused("claims", f"a signed payload {payload[:12]!r}", "RFC 7519 section 7.2", signed)
    twice = {
        "a name that stands twice: tid": _with_member_first(b'"tid":"' + OTHER_TENANT.encode() + b'"'),
        "a name that stands twice: aud": _with_member_first(b'"aud":"another"'),
    }
    yield from all_refused("claims", PARSERS, twice)
    zipped = with_payload(zlib.compress(b'{"tid":1}'), zip="DEF")
    yield refused("claims", "a compressed payload", "RFC 8725 section 3.6", zipped)
    nested: Build = lambda builder: builder.post(builder.token(builder.token().encode()))  # noqa: E731 (as in a table)
    source = "RFC 8725 section 3.11: a token within a token"
    yield refused("claims", "a genuine token as the payload", source, nested)


def _times() -> Iterator[Case]:
    """Tokens that are too early, too late, or without a time."""
    for what, changes in BAD_TIMES.items():
        yield refused("time", what, TIMES, _with_times(changes))


def _other_tenants() -> Iterator[Case]:
    """Good tokens of one tenant for a call of another."""
    builds = {what: _for_victim(spell) for what, spell in SPELLINGS.items()}
    builds |= {what: _for_victim(str, path) for what, path in PATHS.items()}
    builds |= {what: _for_victim(str, members=members) for what, members in MEMBERS.items()}
    for what, build in builds.items():
        yield refused("tenant", f"another tenant's call, {what}", OTHER_OBJECTS, build, 403)


def _with_audience(change: Callable[[str], object]) -> Build:
    return with_claims_of(lambda builder: {"aud": change(builder.app_id)})


def _with_times(changes: Callable[[int], Json]) -> Build:
    return with_claims_of(lambda builder: changes(builder.now))


def _with_member_first(member: bytes) -> Build:
    """Build a token whose payload has this member before the genuine ones."""
    return lambda builder: builder.post(builder.token(b"{" + member + b"," + json.dumps(builder.claims()).encode()[1:]))


def _for_victim(spell: Callable[[str], str], path: str = CALL_PATH, members: Json | None = None) -> Build:
    """Build a notification about the stored call of the other tenant."""
    more = members or {}
    return lambda builder: builder.post(None, builder.body(builder.item(spell(builder.victim), path, **more)))
