"""Requests without a well-formed token: odd `Authorization` headers, and other headers instead. All get 401."""

from collections.abc import Callable, Iterator

from tests.system.attacks.cases import Case, all_refused, refused
from tests.system.attacks.keys import OTHER_TENANT, Json, base64url
from tests.system.attacks.raw_http import Request
from tests.system.attacks.request_builders import Build, RequestBuilder, with_raw_header, with_token

BEARERS = "RFC 6750 section 2; OWASP API2"
SPOOFED = "CWE-290, OWASP API2"
PARSERS = "RFC 7519 section 4; RFC 8725 section 2.6"
REPEATED = "RFC 9110 section 5.3; CWE-436"
COMPACT_FORM = "RFC 7515 section 7.1: three parts of base64url"

BAD_VALUES = (
    "",
    "Bearer",
    "Bearer ",
    "Basic dXNlcjpwYXNzd29yZA==",
    "Negotiate YII=",
    "null",
    "Bearer null",
    "Bearer .",
)
BAD_FORMS: dict[str, Callable[[str], str]] = {  # made of a genuine token
    "the token without a scheme": lambda token: token,
    "another scheme": lambda token: f"PoP {token}",
    "in quotes": lambda token: f'Bearer "{token}"',
    "as a parameter": lambda token: f"Bearer token={token}",
    "scheme and colon": lambda token: f"Bearer: {token}",
    "twice in one header": lambda token: f"Bearer {token}, Bearer {token}",
    "two tokens": lambda token: f"Bearer {token} {token}",
    "percent-encoded": lambda token: f"Bearer {token.replace('.', '%2E')}",
}
OTHER_HEADERS = (
    *("Proxy-Authorization", "X-Forwarded-Authorization", "X-Original-Authorization"),
    *("X-MS-TOKEN-AAD-ACCESS-TOKEN", "X-Authorization", "Cookie"),
)
SPOOFED_HEADERS = {
    "x-functions-key": "an-invented-key",
    "X-MS-CLIENT-PRINCIPAL": base64url(b'{"auth_typ":"aad","claims":[{"typ":"roles","val":"Calls.Manage"}]}'),
    "X-MS-CLIENT-PRINCIPAL-ID": OTHER_TENANT,
    "X-Original-URL": "/api/health",
    "X-Rewrite-URL": "/api/health",
    "X-HTTP-Method-Override": "GET",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-ARR-ClientCert": "MIIB",
}
DAMAGES: dict[str, Callable[[str], str]] = {  # of a genuine token
    "the signature stripped": lambda token: token.rpartition(".")[0] + ".",
    "the signature and its dot stripped": lambda token: token.rpartition(".")[0],
    "the payload stripped": lambda token: "..".join((token.split(".")[0], token.split(".")[2])),
    "a fourth part": lambda token: token + ".x",
    "five parts, as if encrypted": lambda token: token + ".x.y",
    "padding": lambda token: token + "==",
    "a character that decoders skip": lambda token: token[:-9] + "~" + token[-9:],
    "a line break within": lambda token: token[:-9] + "\t" + token[-9:],
    "one bit of the signature changed": lambda token: token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:],
    "the signature cut": lambda token: token[:-8],
    "the signature longer": lambda token: token + "AAAA",
    "the signature all zeros": lambda token: token.rpartition(".")[0] + "." + "A" * 342,
    "beyond 16,384 characters": lambda token: token + "A" * 16_384,
}
REWRITTEN: dict[str, Json] = {"another tenant": {"tid": OTHER_TENANT}, "a longer life": {"exp": 4_000_000_000}}
BAD_TOKEN_HEADERS = (b"", b"[]", b"null", b"{", b"\xff", b"[" * 9000)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _authorization()
    yield from _repeated()
    yield from _elsewhere()
    yield from _damaged_tokens()


def _authorization() -> Iterator[Case]:
    yield refused("form", "no header", BEARERS, lambda builder: builder.unsigned())
    before = "CWE-696: nothing is read before the token"
    yield refused("form", "no JSON, and a forged token", before, lambda builder: builder.post("a.b.c", b"{"))
    for value in BAD_VALUES:
        alone = _with_header("Authorization", value)
        yield refused("form", f"Authorization: {value or 'nothing'}", BEARERS, alone)
    builds = {what: _with_token_header("Authorization", form) for what, form in BAD_FORMS.items()}
    yield from all_refused("form", BEARERS, builds)


def _repeated() -> Iterator[Case]:
    """The header `Authorization` twice."""
    builds: dict[str, Build] = {
        "both genuine": lambda builder: builder.unsigned(*2 * [_bearer(builder.token())]),
        "forged first": lambda builder: builder.unsigned(_bearer("a.b.c"), _bearer(builder.token())),
        "genuine first": lambda builder: builder.unsigned(_bearer(builder.token()), _bearer("a.b.c")),
    }
    for what, build in builds.items():
        yield refused("form", f"the header twice, {what}", REPEATED, build)


def _elsewhere() -> Iterator[Case]:
    """A genuine token in another place, and headers that claim to replace it."""
    for name in OTHER_HEADERS:
        scheme = "Authorization=" if name == "Cookie" else "Bearer "
        yield refused("form", f"the token in {name}", SPOOFED, _with_token_header(name, scheme.__add__))
    query = "RFC 6750 section 2.3: not in an address"
    yield refused("form", "the token in the query", query, _in_query)
    builds = {f"no token, but {name}": _with_header(name, value) for name, value in SPOOFED_HEADERS.items()}
    yield from all_refused("form", SPOOFED, builds)


def _damaged_tokens() -> Iterator[Case]:
    for what, damage in DAMAGES.items():
        yield refused("form", f"a genuine token, {what}", COMPACT_FORM, with_token(damage))
    for what, changes in REWRITTEN.items():
        yield refused("form", f"the claims changed after signing: {what}", "CWE-345", _rewritten(changes))
    twice = with_raw_header(b'{"alg":"none","alg":"RS256","kid":"first"}')
    yield refused("form", "a name twice in the header", PARSERS, twice)
    for header in BAD_TOKEN_HEADERS:
        yield refused("form", f"a header {header[:8]!r}", COMPACT_FORM, with_raw_header(header))


def _bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def _with_header(name: str, value: str) -> Build:
    """Build a request with this header and without a token."""
    return lambda builder: builder.unsigned((name, value))


def _with_token_header(name: str, form: Callable[[str], str]) -> Build:
    """Build a request with this header, made of a genuine token."""
    return lambda builder: builder.unsigned((name, form(builder.token())))


def _in_query(builder: RequestBuilder) -> Request:
    return builder.unsigned(target=f"/api/notifications?access_token={builder.token()}")


def _rewritten(changes: Json) -> Build:
    """Build a token whose payload was replaced after it was signed."""

    def build(builder: RequestBuilder) -> Request:
        payload = builder.token(builder.claims(**changes)).split(".")[1]
        head, _, signature = builder.token().split(".")
        return builder.post(f"{head}.{payload}.{signature}")

    return build
