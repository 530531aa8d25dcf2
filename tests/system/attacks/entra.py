"""Tokens of Entra, to which Graph's notifications are moving: which tenant issued them, and which key signs them."""

from collections.abc import Callable, Iterator

from tests.system.attacks.cases import Case, all_accepted, all_refused, refused
from tests.system.attacks.keys import ISSUER, OTHER_TENANT, Json
from tests.system.attacks.raw_http import Request
from tests.system.attacks.request_builders import CALLING_APP, Build, RequestBuilder, with_claims

CALLERS = "Microsoft.Graph.Communications 1.2.0.18742: a list of calling apps; OWASP API2"
KEYS = "Microsoft.IdentityModel IDX40004, IDX40005, IDX40012; RFC 8725 section 3.8"
BOUND = "RFC 7800; RFC 9449: a token that is bound to a key is no bearer token"
TYPES = "RFC 8725 section 3.11"
JSON = "RFC 8259 sections 6 and 8.2"
OBSERVED = "Microsoft.Graph.Communications 1.2.0.18742, run on 71 tokens"
STRANGER = "5b1f0f1c-1d5c-4b7e-9f0c-2f6a0c7d9e11"  # an app of some tenant, which may get a token for the bot's audience
OTHER_CLOUD = "https://login.microsoftonline.us"


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _callers()
    yield from _keys()
    yield from _issuers()
    yield from _forms()
    yield from _accepted()


def _v2(by: str = "entra", header: Json | None = None, **changes: object) -> Build:
    """Build a token of version 2 with these claims."""
    return _v2_of(lambda _: changes, by, header)


def _v2_of(changes: Callable[[RequestBuilder], Json], by: str = "entra", header: Json | None = None) -> Build:
    """Build a token of version 2 with claims that depend on the request."""
    return lambda builder: builder.post(builder.token(builder.v2_claims(**changes(builder)), by, **(header or {})))


def _v1(by: str = "entra", **changes: object) -> Build:
    """Build a token of version 1."""
    return lambda builder: builder.post(builder.token(builder.v1_claims(**changes), by))


def _with_issuer(make: Callable[[RequestBuilder], str], by: str = "entra", **changes: object) -> Build:
    """Build a token of version 2 from this issuer."""
    return _v2_of(lambda builder: {"iss": make(builder), **changes}, by)


def _callers() -> Iterator[Case]:
    """Any app of any tenant may get a token for the bot's audience, so the caller decides."""
    builds = {
        "an app of its own tenant, v2": _v2(azp=STRANGER),
        "an app of its own tenant, v1": _v1(appid=STRANGER),
        "the bot itself": _v2_of(lambda builder: {"azp": builder.app_id}),
        "no app, v2": _v2(azp=None),
        "no app, v1": _v1(appid=None),
    }
    for what, build in builds.items():
        yield refused("claims", f"an Entra token of {what}", CALLERS, build, 403)
    apps: dict[str, object] = {
        "the service's id with a space": f"{CALLING_APP} ",
        "the service's id in a list": [CALLING_APP],
        "a number": 7,
        "a wildcard": "*",
        "nothing": "",
        "a line break": f"{CALLING_APP}\r\nx",
    }
    for what, app in apps.items():
        yield refused("claims", f"an Entra token whose azp is {what}", CALLERS, _v2(azp=app))
    beside = _v2(azp=STRANGER, appid=CALLING_APP)
    yield refused("claims", "the service's appid beside a stranger's azp", CALLERS, beside)
    yield refused("claims", "an azp that is no text beside a good appid", CALLERS, _v1(azp=[CALLING_APP]))


def _keys() -> Iterator[Case]:
    """Keys that do not sign for the token's issuer."""
    builds = {
        "another tenant's Entra key, v2": _v2("entra-of-another-tenant"),
        "another tenant's Entra key, v1": _v1("entra-of-another-tenant"),
        "an Entra key of another cloud": _v2("entra-of-another-cloud"),
        "the legacy key for an Entra issuer": _v2("first"),
        "an Entra key for the legacy issuer": _v2(iss=ISSUER),
        "an Entra key for Graph's second issuer": _v2(iss="https://graph.microsoft.com"),
        "an Entra key that no document has": _v2("stranger"),
    }
    yield from all_refused("key", KEYS, builds)
    issuers: dict[str, Callable[[RequestBuilder], str]] = {
        "v2": lambda builder: f"{builder.authority}/{builder.tenant}/v2.0",
        "v1": lambda builder: f"https://sts.windows.net/{builder.tenant}/",
    }
    for version, make in issuers.items():
        for by in ("entra", "entra-of-another-tenant"):
            build = _with_issuer(make, by, tid=OTHER_TENANT)
            yield refused("key", f"{version} issuer of one tenant, tid of another, by {by}", KEYS, build)


def _issuers() -> Iterator[Case]:
    issuers: dict[str, Callable[[RequestBuilder], str]] = {
        "of another cloud": lambda builder: f"{OTHER_CLOUD}/{builder.tenant}/v2.0",
        "of all tenants": lambda builder: f"{builder.authority}/common/v2.0",
        "with the template in it": lambda builder: f"{builder.authority}/{{tenantid}}/v2.0",
        "of the older metadata": lambda builder: f"{builder.authority}/{builder.tenant}",
        "in http": lambda builder: f"{builder.authority.replace('https', 'http')}/{builder.tenant}/v2.0",
        "of another path": lambda builder: f"{builder.authority}/{builder.tenant}/v2.0/x",
    }
    for what, make in issuers.items():
        yield refused("claims", f"an Entra issuer {what}", KEYS, _with_issuer(make))
    audiences = {"api://": "api://{}", "/.default": "{}/.default", "upper scheme": "API://{}"}
    for what, form in audiences.items():
        source = "RFC 8725 section 3.9"
        yield refused("claims", f"an Entra token with the audience {what}", source, _with_audience(form))


def _forms() -> Iterator[Case]:
    """Tokens that are not bearer tokens, or have two readings."""
    yield refused("claims", "an Entra token bound by cnf", BOUND, _v2(cnf={"kid": "x"}))
    yield refused("claims", "a legacy token bound by cnf", BOUND, with_claims(cnf={"kid": "x"}))
    for kind in ("dpop+jwt", "logout+jwt", "secevent+jwt", "pop", 7):
        yield refused("claims", f"typ {kind!r}", TYPES, _v2(header={"typ": kind}))
    yield refused("JSON", "NaN in the payload", JSON, _v2(nonce=float("nan")))
    yield refused("JSON", "Infinity in the header", JSON, _v2(header={"x": float("inf")}))
    yield refused("JSON", "half a surrogate pair in a claim", JSON, _v2(sub="\ud800"))
    backwards = _v2_of(lambda builder: {"nbf": builder.now, "exp": builder.now - 1})
    yield refused("time", "exp before nbf", "RFC 7519 sections 4.1.4, 4.1.5", backwards)
    spelling = "RFC 4648 section 3.5: bits that are left over"
    yield refused("form", "another spelling of the signature's last character", spelling, _respelled)


def _accepted() -> Iterator[Case]:
    builds = {
        "v2, azp": _v2(),
        "v1, appid": _v1(),
        "the caller in upper case": _v2(azp=CALLING_APP.upper()),
        "azp beside the same appid": _v2(appid=CALLING_APP),
        "no slash at the v1 issuer's end": _without_slash,
        "the tenant in upper case": _v2_of(lambda builder: {"tid": builder.tenant.upper()}),
        "at+jwt": _v2(header={"typ": "at+jwt"}),
        "no typ": _v2(header={"typ": None, "cty": None}),
        "a key with null for use and alg": _v2("entra-next"),
        "roles, idtyp and an iat that is no time": _v2(roles=["x"], idtyp="app", iat="now"),
        "a list of one audience": _v2_of(lambda builder: {"aud": [builder.app_id]}),
    }
    yield from all_accepted("claims", OBSERVED, {f"an Entra token: {what}": build for what, build in builds.items()})


def _with_audience(form: str) -> Build:
    return _v2_of(lambda builder: {"aud": form.format(builder.app_id)})


def _without_slash(builder: RequestBuilder) -> Request:
    return _v1(iss=f"https://sts.windows.net/{builder.tenant}")(builder)


def _respelled(builder: RequestBuilder) -> Request:
    token = builder.token(builder.v2_claims(), "entra")
    return builder.post(token[:-1] + chr(ord(token[-1]) + 1))  # A, Q, g or w: the next letter differs in unused bits
