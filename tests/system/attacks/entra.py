"""Tokens of Entra, to which Graph's notifications are moving: whose they must be, and what signs them."""

from collections.abc import Callable, Iterator

from tests.system.attacks.genuine import genuine
from tests.system.attacks.keys import ISSUER, OTHER_TENANT, Json
from tests.system.attacks.scene import CALLING_APP, Case, Request, Scene
from tests.system.attacks.tokens import claiming, refused

CALLERS = "Microsoft.Graph.Communications 1.2.0.18742: a list of calling apps; OWASP API2"
KEYS = "Microsoft.IdentityModel IDX40004, IDX40005, IDX40012; RFC 8725 section 3.8"
BOUND = "RFC 7800; RFC 9449: a token that is bound to a key is no bearer token"
TYPES = "RFC 8725 section 3.11"
JSON = "RFC 8259 sections 6 and 8.2"
OBSERVED = "Microsoft.Graph.Communications 1.2.0.18742, run on 71 tokens"
STRANGER = "5b1f0f1c-1d5c-4b7e-9f0c-2f6a0c7d9e11"  # an app of some tenant, which may get a token for the bot's audience
OTHER_CLOUD = "https://login.microsoftonline.us"


def v2(by: str = "entra", header: Json | None = None, **changes: object) -> Callable[[Scene], Request]:
    """A token of the second version, with these claims."""
    return lambda scene: scene.post(scene.token(scene.v2_claims(**changes), by, **(header or {})))


def v1(by: str = "entra", **changes: object) -> Callable[[Scene], Request]:
    """A token of the first version."""
    return lambda scene: scene.post(scene.token(scene.v1_claims(**changes), by))


def with_issuer(make: Callable[[Scene], str], by: str = "entra", **changes: object) -> Callable[[Scene], Request]:
    """A token of the second version from this issuer."""
    return lambda scene: scene.post(scene.token(scene.v2_claims(iss=make(scene), **changes), by))


def callers() -> Iterator[Case]:
    """Any app of any tenant may get a token for the bot's audience: who calls decides."""
    for what, build in {
        "an app of its own tenant, v2": v2(azp=STRANGER),
        "an app of its own tenant, v1": v1(appid=STRANGER),
        "the bot itself": lambda scene: v2(azp=scene.app_id)(scene),
        "no app, v2": v2(azp=None),
        "no app, v1": v1(appid=None),
    }.items():
        yield refused("claims", f"an Entra token of {what}", CALLERS, build, 403)
    for what, app in {
        "the service's id with a space": f"{CALLING_APP} ",
        "the service's id in a list": [CALLING_APP],
        "a number": 7,
        "a wildcard": "*",
        "nothing": "",
        "a line break": f"{CALLING_APP}\r\nx",
    }.items():
        yield refused("claims", f"an Entra token whose azp is {what}", CALLERS, v2(azp=app))
    yield refused("claims", "the service's appid beside a stranger's azp", CALLERS, v2(azp=STRANGER, appid=CALLING_APP))
    yield refused("claims", "an azp that is no text beside a good appid", CALLERS, v1(azp=[CALLING_APP]))


def keys() -> Iterator[Case]:
    """Which key signs for which issuer."""
    yield refused("key", "another tenant's Entra key, v2", KEYS, v2("entra-of-another-tenant"))
    yield refused("key", "another tenant's Entra key, v1", KEYS, v1("entra-of-another-tenant"))
    yield refused("key", "an Entra key of another cloud", KEYS, v2("entra-of-another-cloud"))
    yield refused("key", "the legacy key for an Entra issuer", KEYS, v2("first"))
    yield refused("key", "an Entra key for the legacy issuer", KEYS, v2(iss=ISSUER))
    yield refused("key", "an Entra key for Graph's second issuer", KEYS, v2(iss="https://graph.microsoft.com"))
    yield refused("key", "an Entra key that no document has", KEYS, v2("stranger"))
    theirs: dict[str, Callable[[Scene], str]] = {
        "v2": lambda scene: f"{scene.authority}/{scene.tenant}/v2.0",
        "v1": lambda scene: f"https://sts.windows.net/{scene.tenant}/",
    }
    for version, make in theirs.items():
        for by in ("entra", "entra-of-another-tenant"):
            build = with_issuer(make, by, tid=OTHER_TENANT)
            yield refused("key", f"{version} issuer of one tenant, tid of another, by {by}", KEYS, build)


def issuers() -> Iterator[Case]:
    """Whose token it is."""
    others: dict[str, Callable[[Scene], str]] = {
        "of another cloud": lambda scene: f"{OTHER_CLOUD}/{scene.tenant}/v2.0",
        "of all tenants": lambda scene: f"{scene.authority}/common/v2.0",
        "with the template in it": lambda scene: f"{scene.authority}/{{tenantid}}/v2.0",
        "of the older metadata": lambda scene: f"{scene.authority}/{scene.tenant}",
        "in http": lambda scene: f"{scene.authority.replace('https', 'http')}/{scene.tenant}/v2.0",
        "of another path": lambda scene: f"{scene.authority}/{scene.tenant}/v2.0/x",
    }
    for what, make in others.items():
        yield refused("claims", f"an Entra issuer {what}", KEYS, with_issuer(make))
    for what, change in {"api://": "api://{}", "/.default": "{}/.default", "upper scheme": "API://{}"}.items():
        audience = _audience(change)
        yield refused("claims", f"an Entra token with the audience {what}", "RFC 8725 section 3.9", audience)


def _audience(form: str) -> Callable[[Scene], Request]:
    return lambda scene: v2(aud=form.format(scene.app_id))(scene)


def forms() -> Iterator[Case]:
    """What is no bearer token, or has two readings."""
    yield refused("claims", "an Entra token bound by cnf", BOUND, v2(cnf={"kid": "x"}))
    yield refused("claims", "a legacy token bound by cnf", BOUND, claiming(cnf={"kid": "x"}))
    for kind in ("dpop+jwt", "logout+jwt", "secevent+jwt", "pop", 7):
        yield refused("claims", f"typ {kind!r}", TYPES, v2(header={"typ": kind}))
    yield refused("JSON", "NaN in the payload", JSON, v2(nonce=float("nan")))
    yield refused("JSON", "Infinity in the header", JSON, v2(header={"x": float("inf")}))
    yield refused("JSON", "half a surrogate pair in a claim", JSON, v2(sub="\ud800"))
    yield refused("time", "exp before nbf", "RFC 7519 sections 4.1.4, 4.1.5", _backwards)
    spelling = "RFC 4648 section 3.5: bits that are left over"
    yield refused("form", "another spelling of the signature's last character", spelling, _respelled)


def _backwards(scene: Scene) -> Request:
    return v2(nbf=scene.now, exp=scene.now - 1)(scene)


def _respelled(scene: Scene) -> Request:
    token = scene.token(scene.v2_claims(), "entra")
    return scene.post(token[:-1] + chr(ord(token[-1]) + 1))  # A, Q, g or w: the next letter differs in unused bits


def accepted() -> Iterator[Case]:
    """What must stay accepted."""
    for what, build in {
        "v2, azp": v2(),
        "v1, appid": v1(),
        "the caller in upper case": v2(azp=CALLING_APP.upper()),
        "azp beside the same appid": v2(appid=CALLING_APP),
        "no slash at the v1 issuer's end": lambda scene: v1(iss=f"https://sts.windows.net/{scene.tenant}")(scene),
        "the tenant in upper case": lambda scene: v2(tid=scene.tenant.upper())(scene),
        "at+jwt": v2(header={"typ": "at+jwt"}),
        "no typ": v2(header={"typ": None, "cty": None}),
        "a key with null for use and alg": v2("entra-next"),
        "roles, idtyp and an iat that is no time": v2(roles=["x"], idtyp="app", iat="now"),
        "a list of one audience": lambda scene: v2(aud=[scene.app_id])(scene),
    }.items():
        yield genuine("claims", f"an Entra token: {what}", OBSERVED, build)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from callers()
    yield from keys()
    yield from issuers()
    yield from forms()
    yield from accepted()
