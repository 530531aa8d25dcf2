"""What is odd and still Graph's, or passed on by a bot as Graph sent it: it must be let in, and stored."""

from collections.abc import Callable, Iterator

from tests.system.attacks.keys import ISSUER, Json
from tests.system.attacks.scene import CALLING_APP, Case, Kind, Request, Scene

OBSERVED = "a token of Graph's that was observed"
FACTS = "payloads that were captured, and Graph's pages"


def genuine(kind: Kind, what: str, source: str, build: Callable[[Scene], Request]) -> Case:
    """A case that must be let in."""
    return Case(kind, what, source, (202,), build)


def claiming(changes: Callable[[Scene], Json]) -> Callable[[Scene], Request]:
    """With these claims."""
    return lambda scene: scene.post(scene.token(scene.claims(**changes(scene))))


def signed(by: str = "first", header: Json | None = None) -> Callable[[Scene], Request]:
    """By this key, with this header."""
    return lambda scene: scene.post(scene.token(None, by, **(header or {})))


def telling(members: Json, path: str = "/communications/calls/{}") -> Callable[[Scene], Request]:
    """A notification with these members."""
    return lambda scene: scene.post(None, scene.body(scene.item(None, path, **members)))


def spelled(make: Callable[[bytes], bytes]) -> Callable[[Scene], Request]:
    """A body, written otherwise."""
    return lambda scene: scene.post(None, make(scene.body()))


def tokens() -> Iterator[Case]:
    """Headers and claims."""
    yield genuine("form", "a token as it was observed: cty JWT, no iat", OBSERVED, lambda scene: scene.post())
    headers: dict[str, Json] = {
        "no typ and no cty": {"typ": None, "cty": None},
        "typ in lower case": {"typ": "jwt"},
        "x5t, nonce and what nobody knows": {"x5t": "first", "nonce": "x", "new": {"a": [1]}},
        "an address of keys, which is not asked": {
            "jku": "https://keys.example/none",
            "x5u": "https://keys.example/none",
        },
    }
    for what, header in headers.items():
        yield genuine("key", what, "RFC 7515 section 4", signed(header=header))
    yield genuine("key", "the next key, published before it signs", "rotation of keys", signed("next"))
    for what, changes in {
        "iat": lambda scene: {"iat": scene.now},
        "an iat that is no time": lambda _: {"iat": "now"},
        "a slash at the issuer's end": lambda _: {"iss": ISSUER + "/"},
        "Graph's second issuer": lambda _: {"iss": "https://graph.microsoft.com"},
        "the audience in upper case": lambda scene: {"aud": scene.app_id.upper()},
        "a list of one audience": lambda scene: {"aud": [scene.app_id]},
        "a list of several audiences": lambda scene: {"aud": ["https://api.botframework.com", scene.app_id]},
        "the tenant in upper case": lambda scene: {"tid": scene.tenant.upper()},
        "azp beside appid": lambda _: {"azp": CALLING_APP.upper()},
        "no app": lambda _: {"appid": None},
        "claims that nobody knows": lambda _: {"new": {"a": [1, None]}, "scp": "x", "ver": 2, "aio": "y" * 500},
    }.items():
        yield genuine("claims", what, "claims that were observed; RFC 7519 section 4", claiming(changes))
    for what, changes in {
        "our clock is 4 minutes behind": lambda scene: {"nbf": scene.now + 240, "exp": scene.now + 540},
        "our clock is 4 minutes ahead": lambda scene: {"nbf": scene.now - 540, "exp": scene.now - 240},
        "times with fractions": lambda scene: {"nbf": scene.now - 0.5, "exp": scene.now + 299.5},
        "times with exponents": lambda _: {"nbf": 1e9, "exp": 4.0e9},
    }.items():
        yield genuine("time", what, "RFC 7519 section 4.1.4: leeway; Graph's tokens live 300 s", claiming(changes))
    for scheme in ("bearer", "BEARER", "Bearer "):
        yield genuine("form", f"the scheme {scheme!r}", "RFC 9110 section 11.1: a scheme has no case", _scheme(scheme))
    yield genuine("form", "white space around the header", "RFC 9110 section 5.5", _scheme(" Bearer", behind="  \t "))


def _scheme(scheme: str, behind: str = "") -> Callable[[Scene], Request]:
    return lambda scene: scene.unsigned(("aUTHORIZATION", f"{scheme} {scene.token()}{behind}"))


def bodies() -> Iterator[Case]:
    """Notifications."""
    info: Json = {"code": 200, "subcode": 7000, "message": "DiagCode: 0#7000.@"}
    codes: dict[str, Json] = {
        "codes as numbers": info,
        "codes as text": {"code": "200", "subCode": "7000"},
        "codes that are none": {"code": {"x": 1}, "subcode": [1]},
        "a huge code": {"code": 10**40, "subcode": 1e300},
        "a message of 40,000 characters": {"code": 500, "message": "é" * 40_000},
    }
    for what, data in codes.items():
        ended = telling({"changeType": "deleted", "resourceData": {"state": "terminated", "resultInfo": data}})
        yield genuine("JSON", what, FACTS, ended)
    told: dict[str, Json] = {
        "a state that nobody knows": {"resourceData": {"state": "levitating"}},
        "members that nobody knows": {"new": {"a": [1, None, 2.5]}, "resourceData": {"state": "established", "new": 1}},
        "resourceData is a list": {"resourceData": [{"state": "establishing"}, {"state": "established"}]},
        "no resourceData": {"resourceData": None},
        "deleted without a word of why": {"changeType": "deleted", "resourceData": {}},
        "characters beyond the basic plane": {"resourceData": {"state": "established", "subject": "\U0001f4de\u202e"}},
        "control characters in a message": {"resourceData": {"state": "\x00\x1bestablished"}},
    }
    for what, members in told.items():
        yield genuine("JSON", what, FACTS, telling(members))
    roster = telling({"resourceData": [{"id": "1"}] * 50}, "/communications/calls/{}/participants")
    yield genuine("JSON", "a roster", FACTS, roster)
    for what, make in {
        "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
        "white space around it": lambda body: b"\r\n\t " + body + b" \n",
        "names escaped": lambda body: body.replace(b'"value"', b'"\\u0076alue"'),
        "slashes escaped": lambda body: body.replace(b"/", b"\\/"),
        "PascalCase": lambda body: body.replace(b"resourceUrl", b"ResourceUrl").replace(b"value", b"Value"),
        "60 levels deep, unread": lambda body: b'{"x": ' + b"[" * 60 + b"]" * 60 + b"," + body[1:],
        "a number of a thousand digits, unread": lambda body: b'{"x": ' + b"9" * 1000 + b"," + body[1:],
        "four mebibytes": lambda body: body + b" " * (4 * 1024 * 1024 - len(body)),
    }.items():
        yield genuine("JSON", what, "RFC 8259", spelled(make))
    for what, path in {
        "an absolute address": "https://graph.microsoft.com/v1.0/communications/calls/{}",
        "the older path": "/app/calls/{}",
        "without a slash at its beginning": "communications/calls/{}",
        "with a query": "/communications/calls/{}?x=1#y",
    }.items():
        yield genuine("id", what, FACTS, telling({}, path))
    for what, spell in {
        "in upper case without hyphens": lambda call: call.replace("-", "").upper(),
        "percent-encoded": lambda call: call.replace("-", "%2D"),
    }.items():
        yield genuine("id", f"the id {what}", FACTS, _id(spell))
    yield genuine("size", "100 notifications of one call", FACTS, _hundred)


def _id(spell: Callable[[str], str]) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(None, scene.body(scene.item(spell(scene.call_id))))


def _hundred(scene: Scene) -> Request:
    states = [scene.item(resourceData={"state": "established", "callChainId": str(number)}) for number in range(100)]
    return scene.post(None, scene.body(*states))


def wires() -> Iterator[Case]:
    """HTTP."""
    for kind in (
        "application/json; charset=utf-8",
        'Application/JSON;odata.metadata=minimal;charset="UTF-8"',
        "application/vnd.microsoft.comms+json",
        "text/plain",
        "application/octet-stream",
        "",
    ):
        typed = _with(("Content-Type", kind))
        yield genuine("HTTP", f"Content-Type: {kind or 'none'}", "RFC 9110 section 8.3", typed)
    identity = _with(("Content-Encoding", "identity"))
    yield genuine("HTTP", "Content-Encoding: identity", "RFC 9110 section 8.4.1", identity)
    yield genuine("HTTP", "in chunks", "RFC 9112 section 7.1", _in_chunks)
    yield genuine("HTTP", "Expect: 100-continue", "RFC 9110 section 10.1.1", _with(("Expect", "100-continue")))
    for target in (
        "/api/notifications?bot=a&bot=b",
        "/API/Notifications",
        "/api/notifications/",
        "/api/%6Eotifications",
    ):
        yield genuine("HTTP", f"POST {target}", "docs/api.md; routes of the platform have no case", _at(target))
    relayed = _with(("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Host", "bot.example"), ("Forwarded", "for=10.0.0.1"))
    yield genuine("HTTP", "passed on by a proxy", "README: a bot may pass notifications on", relayed)
    yield genuine("HTTP", "a tracing header that is none", "W3C Trace Context: ignored", _with(("traceparent", "zz")))


def _with(*headers: tuple[str, str]) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(None, None, *headers)


def _at(target: str) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(target=target)


def _in_chunks(scene: Scene) -> Request:
    whole = scene.body()
    parts = [whole[place : place + 50] for place in range(0, len(whole), 50)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    return scene.post(None, body, ("Transfer-Encoding", "chunked"))


def cases() -> Iterator[Case]:
    """All of them."""
    yield from tokens()
    yield from bodies()
    yield from wires()
