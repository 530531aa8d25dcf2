"""Tokens that are not Graph's, and headers that try to do without one: 401, or 403 where the token is good."""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.attacks.keys import ISSUER, OTHER_ISSUER, OTHER_TENANT, Json, base64url, jwk, key, rs256
from tests.system.attacks.scene import Case, Kind, Request, Scene, compact

CONFUSION = "RFC 8725 section 2.1"
PINNED = "RFC 8725 section 3.1"
HEADERS = "RFC 8725 section 3.10; CWE-918"
KEY_IDS = "RFC 8725 section 3.10; CWE-22, CWE-89"
ISSUERS = "RFC 8725 section 3.8"
AUDIENCES = "RFC 8725 section 3.9"
TIMES = "RFC 7519 sections 4.1.4, 4.1.5; CWE-613"
BEARERS = "RFC 6750 section 2; OWASP API2"
SPOOFED = "CWE-290, OWASP API2"
PARSERS = "RFC 7519 section 4; RFC 8725 section 2.6"


def refused(kind: Kind, what: str, source: str, build: Callable[[Scene], Request], status: int = 401) -> Case:
    """A case that must be refused so."""
    return Case(kind, what, source, (status,), build)


def with_secret(secret: bytes) -> Callable[[Scene], Request]:
    """HS256 with a secret that everybody may know."""
    header: Json = {"alg": "HS256", "kid": "first"}
    return lambda scene: scene.post(
        compact(header, scene.claims(), lambda signed: hmac.digest(secret, signed, hashlib.sha256))
    )


def with_algorithm(name: object, sign: Callable[[bytes], bytes]) -> Callable[[Scene], Request]:
    """A header that names this algorithm, and this signature."""
    header: Json = {"kid": "first"} if name is None else {"alg": name, "kid": "first"}
    return lambda scene: scene.post(compact(header, scene.claims(), sign))


def padded(algorithm: hashes.HashAlgorithm, *, probabilistic: bool = False) -> Callable[[bytes], bytes]:
    """A signature by the right key with other parameters."""
    pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
    return lambda signed: key("first").sign(signed, pss if probabilistic else padding.PKCS1v15(), algorithm)


def signed_by(name: str, **header: object) -> Callable[[Scene], Request]:
    """Genuine claims under this key and header."""
    return lambda scene: scene.post(scene.token(None, name, **header))


def claiming(**changes: object) -> Callable[[Scene], Request]:
    """Well signed, with these claims."""
    return claiming_by("first", **changes)


def claiming_by(name: str, /, **changes: object) -> Callable[[Scene], Request]:
    """The same under another key."""
    return lambda scene: scene.post(scene.token(scene.claims(**changes), name))


def spoiled(spoil: Callable[[str], str]) -> Callable[[Scene], Request]:
    """A genuine token, changed."""
    return lambda scene: scene.post(spoil(scene.token()))


def headed(make: Callable[[str], tuple[tuple[str, str], ...]]) -> Callable[[Scene], Request]:
    """Headers made of a genuine token."""
    return lambda scene: scene.unsigned(*make(scene.token()))


def algorithms() -> Iterator[Case]:
    """Who chooses the algorithm."""
    public = key("first").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for name in ("none", "None", "NONE", "nOnE"):
        yield refused("algorithm", f"alg {name}, no signature", CONFUSION, with_algorithm(name, lambda _: b""))
    kept = with_algorithm("none", lambda signed: rs256("first", signed))
    yield refused("algorithm", "alg none, with a good signature", CONFUSION, kept)
    for what, secret in {
        "PEM": pem,
        "DER": der,
        "modulus": str(jwk("first")["n"]).encode(),
        "kid": b"first",
        "nothing": b"",
    }.items():
        yield refused("algorithm", f"HS256 with the public key as secret: {what}", CONFUSION, with_secret(secret))
    for name, hashed in {"RS384": hashes.SHA384(), "RS512": hashes.SHA512()}.items():
        yield refused("algorithm", f"{name} by the right key", PINNED, with_algorithm(name, padded(hashed)))
    pss = padded(hashes.SHA256(), probabilistic=True)
    yield refused("algorithm", "PS256 by the right key", PINNED, with_algorithm("PS256", pss))
    yield refused("algorithm", "RS256 by name, PS256 in truth", PINNED, with_algorithm("RS256", pss))
    yield refused(
        "algorithm", "RS256 by name, SHA-384 in truth", PINNED, with_algorithm("RS256", padded(hashes.SHA384()))
    )
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    ecdsa = with_algorithm("ES256", lambda signed: curve.sign(signed, ec.ECDSA(hashes.SHA256())))
    yield refused("algorithm", "ES256", PINNED, ecdsa)
    yield refused("algorithm", "EdDSA", PINNED, with_algorithm("EdDSA", edwards.sign))
    odd: list[tuple[object, str]] = [
        (None, PINNED),
        ("rs256", "RFC 7515 section 4.1.1: alg has case"),
        ("RSA256", "how Graph's metadata misspells RS256"),
        ("RS256 ", PINNED),
        (["RS256"], "CWE-843"),
    ]
    for alg, source in odd:
        good = with_algorithm(alg, lambda signed: rs256("first", signed))
        yield refused("algorithm", f"alg {alg!r} with a good signature", source, good)


def key_tricks() -> Iterator[Case]:
    """Who chooses the key."""
    stranger = jwk("stranger")
    yield refused("key", "a stranger's signature under Graph's kid", CONFUSION, signed_by("stranger", kid="first"))
    yield refused("key", "a stranger's key and kid", CONFUSION, signed_by("stranger"))
    yield refused("key", "a public key in the header (jwk)", HEADERS, signed_by("stranger", kid="first", jwk=stranger))
    for name in ("jku", "x5u"):
        elsewhere = signed_by("stranger", **{name: "https://keys.example/graph/keys"})
        yield refused("key", f"the address of a key set in the header ({name})", HEADERS, elsewhere)
        inside = signed_by("stranger", **{name: "http://169.254.169.254/metadata/identity/oauth2/token"})
        yield refused("key", f"the cloud's metadata service as a key set ({name})", HEADERS, inside)
    chain = signed_by("stranger", x5c=[base64url(b"a certificate")], kid=None)
    yield refused("key", "a certificate in the header (x5c), no kid", HEADERS, chain)
    yield refused("key", "x5t alone, no kid", "RFC 7515 section 4.1.7", signed_by("first", kid=None, x5t="first"))
    for kid in (
        "../../../../dev/null",
        "file:///dev/null",
        "first' OR '1'='1",
        "first|cat /etc/passwd",
        "first\0",
        "first\r\nx: y",
        "FIRST",
        " first",
        "",
        "k" * 8000,
        "__class__",
    ):
        yield refused("key", f"kid {kid[:24]!r}", KEY_IDS, signed_by("first", kid=kid))
    for odd in (1, True, ["first"], {"first": 1}):
        yield refused("key", f"kid {odd!r}, which is no text", "CWE-843", signed_by("first", kid=odd))
    weak = "RFC 7518 section 3.3: 2048 bits or more"
    yield refused("key", "a published key of 1024 bits", weak, signed_by("weak"))
    yield refused("key", "a published key for encryption", "RFC 7517 section 4.2", signed_by("for-encryption"))
    yield refused("key", "another issuer's key for Graph's issuer", ISSUERS, signed_by("of-another-issuer"))
    yield refused("key", "another tenant's key for this tenant", ISSUERS, signed_by("of-another-tenant"))
    unclaimed = claiming_by("of-another-tenant", iss="https://graph.microsoft.com")
    yield refused("key", "another tenant's key, for an issuer that nobody calls his", ISSUERS, unclaimed)
    for name in ("crit", "b64"):
        yield refused("key", f"{name} asks for more than RS256", "RFC 7515 section 4.1.11; RFC 7797", _asking(name))


def _asking(name: str) -> Callable[[Scene], Request]:
    more: Json = {"crit": ["exp"], "exp": 1} if name == "crit" else {"b64": False}
    return signed_by("first", **more)


def claims() -> Iterator[Case]:
    """Well signed by Graph, but not for us."""
    audiences: tuple[object, ...] = (
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
    for aud in audiences:
        yield refused("claims", f"aud {aud!r}", AUDIENCES, claiming(aud=aud))
    for what, change in {
        "one character off": lambda app: app[:-1] + ("0" if app[-1] != "0" else "1"),
        "one more": lambda app: app + "0",
        "one less": lambda app: app[:-1],
        "in braces": lambda app: f"{{{app}}}",
        "api://": lambda app: f"api://{app}",
        "a space": lambda app: f"{app} ",
        "in an object": lambda app: {app: app},
        "with a number beside it": lambda app: [app, 1],
        "in a list in a list": lambda app: [[app]],
    }.items():
        build = _other_audience(change)
        yield refused("claims", f"aud, {what}", AUDIENCES, build)
    for iss in (
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
    ):
        yield refused("claims", f"iss {iss!r}", ISSUERS, claiming(iss=iss))
    for tid in (None, "", "contoso.onmicrosoft.com", "common", OTHER_TENANT + "\n", "*", [OTHER_TENANT], 5):
        yield refused("claims", f"tid {tid!r}", "CWE-20: the tenant decides what may be touched", claiming(tid=tid))
    two = "RFC 8725 section 3.8: who calls must be one"
    yield refused("claims", "appid and azp that differ", two, claiming(azp=OTHER_TENANT))
    for payload in (b"{}", b"[]", b"null", b'"text"', b"", b"\xff\xfe", b"{" * 5000, "{}".encode("utf-16")):
        signed = _payload(payload)
        yield refused("claims", f"a signed payload {payload[:12]!r}", "RFC 7519 section 7.2", signed)
    twice = "a name that stands twice"
    yield refused("claims", f"{twice}: tid", PARSERS, _twice(b'"tid":"' + OTHER_TENANT.encode() + b'"'))
    yield refused("claims", f"{twice}: aud", PARSERS, _twice(b'"aud":"another"'))
    zipped = _payload(zlib.compress(b'{"tid":1}'), zip="DEF")
    yield refused("claims", "a compressed payload", "RFC 8725 section 3.6", zipped)
    nested = "RFC 8725 section 3.11: a token within a token"
    yield refused("claims", "a genuine token as the payload", nested, lambda s: s.post(s.token(s.token().encode())))


def _other_audience(change: Callable[[str], object]) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(scene.token(scene.claims(aud=change(scene.app_id))))


def _payload(payload: bytes, **header: object) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(scene.token(payload, "first", **header))


def _twice(member: bytes) -> Callable[[Scene], Request]:
    import json  # noqa: PLC0415 (this is the only place)

    return lambda scene: scene.post(scene.token(b"{" + member + b"," + json.dumps(scene.claims()).encode()[1:]))


def times() -> Iterator[Case]:
    """Too early, too late, or no time at all."""
    for what, changes in {
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
    }.items():
        yield refused("time", what, TIMES, _at(changes))


class _Digits(int):
    """A number that is written longer than Python reads."""

    def __repr__(self) -> str:
        return "9" * 5000


def _at(changes: Callable[[int], Json]) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(scene.token(scene.claims(**changes(scene.now))))


def forms() -> Iterator[Case]:
    """The header `Authorization`, and what is sent instead of it."""
    yield refused("form", "no header", BEARERS, lambda scene: scene.unsigned())
    before = "CWE-696: nothing is read before the token"
    yield refused("form", "no JSON, and a forged token", before, lambda scene: scene.post("a.b.c", b"{"))
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNzd29yZA==",
        "Negotiate YII=",
        "null",
        "Bearer null",
        "Bearer .",
    ):
        alone = _authorization(value)
        yield refused("form", f"Authorization: {value or 'nothing'}", BEARERS, alone)
    for what, make in {
        "the token without a scheme": lambda token: token,
        "another scheme": lambda token: f"PoP {token}",
        "in quotes": lambda token: f'Bearer "{token}"',
        "as a parameter": lambda token: f"Bearer token={token}",
        "scheme and colon": lambda token: f"Bearer: {token}",
        "twice in one header": lambda token: f"Bearer {token}, Bearer {token}",
        "two tokens": lambda token: f"Bearer {token} {token}",
        "percent-encoded": lambda token: f"Bearer {token.replace('.', '%2E')}",
    }.items():
        yield refused("form", what, BEARERS, headed(_one(make)))
    doubled = "RFC 9110 section 5.3; CWE-436"
    yield refused(
        "form", "the header twice, both genuine", doubled, headed(lambda token: (_bearer(token), _bearer(token)))
    )
    for what, order in {"forged first": 1, "genuine first": -1}.items():
        both = headed(_both(order))
        yield refused("form", f"the header twice, {what}", doubled, both)
    for name in (
        "Proxy-Authorization",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "X-MS-TOKEN-AAD-ACCESS-TOKEN",
        "X-Authorization",
        "Cookie",
    ):
        instead = headed(_instead(name))
        yield refused("form", f"the token in {name}", SPOOFED, instead)
    query = "RFC 6750 section 2.3: not in an address"
    yield refused(
        "form",
        "the token in the query",
        query,
        lambda s: s.unsigned(target=f"/api/notifications?access_token={s.token()}"),
    )
    principal = base64url(b'{"auth_typ":"aad","claims":[{"typ":"roles","val":"Calls.Manage"}]}')
    for name, value in {
        "x-functions-key": "an-invented-key",
        "X-MS-CLIENT-PRINCIPAL": principal,
        "X-MS-CLIENT-PRINCIPAL-ID": OTHER_TENANT,
        "X-Original-URL": "/api/health",
        "X-Rewrite-URL": "/api/health",
        "X-HTTP-Method-Override": "GET",
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "localhost",
        "X-ARR-ClientCert": "MIIB",
    }.items():
        yield refused("form", f"no token, but {name}", SPOOFED, _alone(name, value))
    compact_form = "RFC 7515 section 7.1: three parts of base64url"
    for what, spoil in {
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
    }.items():
        yield refused("form", f"a genuine token, {what}", compact_form, spoiled(spoil))
    changed = "CWE-345"
    rewritten: dict[str, Json] = {"another tenant": {"tid": OTHER_TENANT}, "a longer life": {"exp": 4_000_000_000}}
    for what, changes in rewritten.items():
        yield refused("form", f"the claims changed after signing: {what}", changed, _resewn(changes))
    yield refused("form", "a name twice in the header", PARSERS, _doubled_alg)
    for header in (b"", b"[]", b"null", b"{", b"\xff", b"[" * 9000):
        broken = _with_head(header)
        yield refused("form", f"a header {header[:8]!r}", compact_form, broken)


def _authorization(value: str) -> Callable[[Scene], Request]:
    return lambda scene: scene.unsigned(("Authorization", value))


def _one(make: Callable[[str], str]) -> Callable[[str], tuple[tuple[str, str], ...]]:
    return lambda token: (("Authorization", make(token)),)


def _bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def _both(order: int) -> Callable[[str], tuple[tuple[str, str], ...]]:
    return lambda token: (_bearer("a.b.c"), _bearer(token))[::order]


def _instead(name: str) -> Callable[[str], tuple[tuple[str, str], ...]]:
    return lambda token: ((name, f"Authorization={token}" if name == "Cookie" else f"Bearer {token}"),)


def _alone(name: str, value: str) -> Callable[[Scene], Request]:
    return lambda scene: scene.unsigned((name, value))


def _resewn(changes: Json) -> Callable[[Scene], Request]:
    def build(scene: Scene) -> Request:
        other = scene.token(scene.claims(**changes)).split(".")[1]
        head, _, signature = scene.token().split(".")
        return scene.post(f"{head}.{other}.{signature}")

    return build


def _doubled_alg(scene: Scene) -> Request:
    header = b'{"alg":"none","alg":"RS256","kid":"first"}'
    return scene.post(compact(header, scene.claims(), lambda signed: rs256("first", signed)))


def _with_head(header: bytes) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(compact(header, scene.claims(), lambda signed: rs256("first", signed)))


def tenants() -> Iterator[Case]:
    """Good tokens of one tenant for a call of another."""
    source = "CWE-639, OWASP API1: a good token, and somebody else's object"
    spellings: dict[str, Callable[[str], str]] = {
        "as it is": str,
        "in upper case": str.upper,
        "without hyphens": lambda call: call.replace("-", ""),
        "its first letter percent-encoded": lambda call: f"%{ord(call[0]):02x}{call[1:]}",
        "its hyphens percent-encoded": lambda call: call.replace("-", "%2D"),
    }
    for what, spell in spellings.items():
        yield refused("tenant", f"another tenant's call, {what}", source, _intruding(spell), 403)
    for what, path in {
        "by the older path": "/app/calls/{}",
        "by an absolute address": "https://graph.microsoft.com/v1.0/communications/calls/{}",
        "by its operation": "/communications/calls/{}/operations/1",
        "by its roster": "/communications/calls/{}/participants",
        "twice in one path": "/communications/calls/{0}/calls/{0}",
    }.items():
        yield refused("tenant", f"another tenant's call, {what}", source, _intruding(str, path), 403)
    told: dict[str, Json] = {
        "deleted": {"changeType": "deleted"},
        "terminated": {"resourceData": {"state": "terminated", "resultInfo": {"code": 200, "subcode": 7000}}},
        "with the other tenant in the body": {"tenantId": OTHER_TENANT, "resourceData": {"tenantId": OTHER_TENANT}},
    }
    for what, members in told.items():
        yield refused("tenant", f"another tenant's call, {what}", source, _intruding(str, members=members), 403)


def _intruding(
    spell: Callable[[str], str], path: str = "/communications/calls/{}", members: Json | None = None
) -> Callable[[Scene], Request]:
    return lambda scene: scene.post(None, scene.body(scene.item(spell(scene.victim), path, **(members or {}))))


def cases() -> Iterator[Case]:
    """All of them."""
    yield from algorithms()
    yield from key_tricks()
    yield from claims()
    yield from times()
    yield from forms()
    yield from tenants()
