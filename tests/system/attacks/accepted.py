"""Requests that are odd and still Graph's, or passed on by a bot as Graph sent them: accepted and stored."""

from collections.abc import Callable, Iterator

from tests.system.attacks.cases import Case, accepted, all_accepted
from tests.system.attacks.keys import ISSUER, Json
from tests.system.attacks.raw_http import Request
from tests.system.attacks.request_builders import (
    CALLING_APP,
    Build,
    RequestBuilder,
    at_target,
    signed_by,
    with_body,
    with_claims_of,
    with_headers,
    with_item,
)

OBSERVED = "a token of Graph's that was observed"
CLAIMS_OBSERVED = "claims that were observed; RFC 7519 section 4"
LEEWAY = "RFC 7519 section 4.1.4: leeway; Graph's tokens live 300 s"
FACTS = "payloads that were captured, and Graph's pages"

TOKEN_HEADERS: dict[str, Json] = {
    "no typ and no cty": {"typ": None, "cty": None},
    "typ in lower case": {"typ": "jwt"},
    "x5t, nonce and what nobody knows": {"x5t": "first", "nonce": "x", "new": {"a": [1]}},
    "an address of keys, which is not asked": {"jku": "https://keys.example/none", "x5u": "https://keys.example/none"},
}
CLAIMS: dict[str, Callable[[RequestBuilder], Json]] = {
    "iat": lambda builder: {"iat": builder.now},
    "an iat that is no time": lambda _: {"iat": "now"},
    "a slash at the issuer's end": lambda _: {"iss": ISSUER + "/"},
    "Graph's second issuer": lambda _: {"iss": "https://graph.microsoft.com"},
    "the audience in upper case": lambda builder: {"aud": builder.app_id.upper()},
    "a list of one audience": lambda builder: {"aud": [builder.app_id]},
    "a list of several audiences": lambda builder: {"aud": ["https://api.botframework.com", builder.app_id]},
    "the tenant in upper case": lambda builder: {"tid": builder.tenant.upper()},
    "azp beside appid": lambda _: {"azp": CALLING_APP.upper()},
    "no app": lambda _: {"appid": None},
    "claims that nobody knows": lambda _: {"new": {"a": [1, None]}, "scp": "x", "ver": 2, "aio": "y" * 500},
}
TIMES: dict[str, Callable[[RequestBuilder], Json]] = {
    "our clock is 4 minutes behind": lambda builder: {"nbf": builder.now + 240, "exp": builder.now + 540},
    "our clock is 4 minutes ahead": lambda builder: {"nbf": builder.now - 540, "exp": builder.now - 240},
    "times with fractions": lambda builder: {"nbf": builder.now - 0.5, "exp": builder.now + 299.5},
    "times with exponents": lambda _: {"nbf": 1e9, "exp": 4.0e9},
}
RESULTS: dict[str, Json] = {
    "codes as numbers": {"code": 200, "subcode": 7000, "message": "DiagCode: 0#7000.@"},
    "codes as text": {"code": "200", "subCode": "7000"},
    "codes that are none": {"code": {"x": 1}, "subcode": [1]},
    "a huge code": {"code": 10**40, "subcode": 1e300},
    "a message of 40,000 characters": {"code": 500, "message": "é" * 40_000},
}
MEMBERS: dict[str, Json] = {
    "a state that nobody knows": {"resourceData": {"state": "levitating"}},
    "members that nobody knows": {"new": {"a": [1, None, 2.5]}, "resourceData": {"state": "established", "new": 1}},
    "resourceData is a list": {"resourceData": [{"state": "establishing"}, {"state": "established"}]},
    "no resourceData": {"resourceData": None},
    "deleted without a word of why": {"changeType": "deleted", "resourceData": {}},
    "characters beyond the basic plane": {"resourceData": {"state": "established", "subject": "\U0001f4de\u202e"}},
    "control characters in a message": {"resourceData": {"state": "\x00\x1bestablished"}},
}
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "white space around it": lambda body: b"\r\n\t " + body + b" \n",
    "names escaped": lambda body: body.replace(b'"value"', b'"\\u0076alue"'),
    "slashes escaped": lambda body: body.replace(b"/", b"\\/"),
    "PascalCase": lambda body: body.replace(b"resourceUrl", b"ResourceUrl").replace(b"value", b"Value"),
    "60 levels deep, unread": lambda body: b'{"x": ' + b"[" * 60 + b"]" * 60 + b"," + body[1:],
    "a number of a thousand digits, unread": lambda body: b'{"x": ' + b"9" * 1000 + b"," + body[1:],
    "four mebibytes": lambda body: body + b" " * (4 * 1024 * 1024 - len(body)),
}
PATHS = {
    "an absolute address": "https://graph.microsoft.com/v1.0/communications/calls/{}",
    "the older path": "/app/calls/{}",
    "without a slash at its beginning": "communications/calls/{}",
    "with a query": "/communications/calls/{}?x=1#y",
}
CALL_IDS: dict[str, Callable[[str], str]] = {
    "in upper case without hyphens": lambda call: call.replace("-", "").upper(),
    "percent-encoded": lambda call: call.replace("-", "%2D"),
}
CONTENT_TYPES = (
    "application/json; charset=utf-8",
    'Application/JSON;odata.metadata=minimal;charset="UTF-8"',
    "application/vnd.microsoft.comms+json",
    "text/plain",
    "application/octet-stream",
    "",
)
TARGETS = (*("/api/notifications?bot=a&bot=b", "/API/Notifications", "/api/notifications/", "/api/%6Eotifications"),)
PROXY = (("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Host", "bot.example"), ("Forwarded", "for=10.0.0.1"))


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _tokens()
    yield from _authorization()
    yield from _notifications()
    yield from _http()


def _tokens() -> Iterator[Case]:
    headers = {what: signed_by("first", **header) for what, header in TOKEN_HEADERS.items()}
    yield from all_accepted("key", "RFC 7515 section 4", headers)
    yield accepted("key", "the next key, published before it signs", "rotation of keys", signed_by("next"))
    yield from all_accepted("claims", CLAIMS_OBSERVED, {what: with_claims_of(make) for what, make in CLAIMS.items()})
    yield from all_accepted("time", LEEWAY, {what: with_claims_of(make) for what, make in TIMES.items()})


def _authorization() -> Iterator[Case]:
    yield accepted("form", "a token as it was observed: cty JWT, no iat", OBSERVED, lambda builder: builder.post())
    for scheme in ("bearer", "BEARER", "Bearer "):
        source = "RFC 9110 section 11.1: a scheme has no case"
        yield accepted("form", f"the scheme {scheme!r}", source, _with_scheme(scheme))
    spaces = _with_scheme(" Bearer", behind="  \t ")
    yield accepted("form", "white space around the header", "RFC 9110 section 5.5", spaces)


def _notifications() -> Iterator[Case]:
    yield from all_accepted("JSON", FACTS, {what: _ended(result) for what, result in RESULTS.items()})
    yield from all_accepted("JSON", FACTS, {what: with_item(members=members) for what, members in MEMBERS.items()})
    roster = with_item("/communications/calls/{}/participants", {"resourceData": [{"id": "1"}] * 50})
    yield accepted("JSON", "a roster", FACTS, roster)
    yield from all_accepted("JSON", "RFC 8259", {what: with_body(make) for what, make in SPELLINGS.items()})
    yield from all_accepted("id", FACTS, {what: with_item(path) for what, path in PATHS.items()})
    yield from all_accepted("id", FACTS, {f"the id {what}": _with_call_id(spell) for what, spell in CALL_IDS.items()})
    yield accepted("size", "100 notifications of one call", FACTS, _of_one_call)


def _http() -> Iterator[Case]:
    for kind in CONTENT_TYPES:
        typed = with_headers(("Content-Type", kind))
        yield accepted("HTTP", f"Content-Type: {kind or 'none'}", "RFC 9110 section 8.3", typed)
    identity = with_headers(("Content-Encoding", "identity"))
    yield accepted("HTTP", "Content-Encoding: identity", "RFC 9110 section 8.4.1", identity)
    yield accepted("HTTP", "in chunks", "RFC 9112 section 7.1", _in_chunks)
    expecting = with_headers(("Expect", "100-continue"))
    yield accepted("HTTP", "Expect: 100-continue", "RFC 9110 section 10.1.1", expecting)
    for target in TARGETS:
        yield accepted("HTTP", f"POST {target}", "docs/api.md; routes of the platform have no case", at_target(target))
    yield accepted("HTTP", "passed on by a proxy", "README: a bot may pass notifications on", with_headers(*PROXY))
    tracing = with_headers(("traceparent", "zz"))
    yield accepted("HTTP", "a tracing header that is none", "W3C Trace Context: ignored", tracing)


def _with_scheme(scheme: str, behind: str = "") -> Build:
    return lambda builder: builder.unsigned(("aUTHORIZATION", f"{scheme} {builder.token()}{behind}"))


def _ended(result: Json) -> Build:
    return with_item(members={"changeType": "deleted", "resourceData": {"state": "terminated", "resultInfo": result}})


def _with_call_id(spell: Callable[[str], str]) -> Build:
    return lambda builder: builder.post(None, builder.body(builder.item(spell(builder.call_id))))


def _of_one_call(builder: RequestBuilder) -> Request:
    states = [builder.item(resourceData={"state": "established", "callChainId": str(it)}) for it in range(100)]
    return builder.post(None, builder.body(*states))


def _in_chunks(builder: RequestBuilder) -> Request:
    whole = builder.body()
    parts = [whole[start : start + 50] for start in range(0, len(whole), 50)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    return builder.post(None, body, ("Transfer-Encoding", "chunked"))
