"""Tokens that choose how they are verified, or with which key: all are refused with 401."""

import hashlib
import hmac
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.system.attacks.cases import Case, all_refused, refused
from tests.system.attacks.keys import base64url, jwk, key, rs256
from tests.system.attacks.request_builders import Build, signed_by, with_algorithm

CONFUSION = "RFC 8725 section 2.1"
PINNED = "RFC 8725 section 3.1"
HEADERS = "RFC 8725 section 3.10; CWE-918"
KEY_IDS = "RFC 8725 section 3.10; CWE-22, CWE-89"
ISSUERS = "RFC 8725 section 3.8"
OTHER_KEY_SETS = {  # by what an address in the header is
    "the address of a key set in the header": "https://keys.example/graph/keys",
    "the cloud's metadata service as a key set": "http://169.254.169.254/metadata/identity/oauth2/token",
}
BAD_KEY_IDS = (
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
)


def cases() -> Iterator[Case]:
    """Yield all cases."""
    yield from _unsigned()
    yield from _public_key_as_secret()
    yield from _other_algorithms()
    yield from _foreign_keys()
    yield from _key_ids()
    yield from _unfit_keys()


def _unsigned() -> Iterator[Case]:
    for name in ("none", "None", "NONE", "nOnE"):
        yield refused("algorithm", f"alg {name}, no signature", CONFUSION, with_algorithm(name, lambda _: b""))
    signed = with_algorithm("none", _sign)
    yield refused("algorithm", "alg none, with a good signature", CONFUSION, signed)


def _public_key_as_secret() -> Iterator[Case]:
    """HS256 with a secret that anyone can know."""
    public = key("first").public_key()
    secrets = {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "modulus": str(jwk("first")["n"]).encode(),
        "kid": b"first",
        "nothing": b"",
    }
    for what, secret in secrets.items():
        forged = with_algorithm("HS256", _hs256(secret))
        yield refused("algorithm", f"HS256 with the public key as secret: {what}", CONFUSION, forged)


def _other_algorithms() -> Iterator[Case]:
    """A good key with other parameters, other kinds of key, and other spellings of RS256."""
    pss, sha384, sha512 = _rsa(hashes.SHA256(), pss=True), _rsa(hashes.SHA384()), _rsa(hashes.SHA512())
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    signed: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "RS384 by the right key": ("RS384", sha384),
        "RS512 by the right key": ("RS512", sha512),
        "PS256 by the right key": ("PS256", pss),
        "RS256 by name, PS256 in truth": ("RS256", pss),
        "RS256 by name, SHA-384 in truth": ("RS256", sha384),
        "ES256": ("ES256", lambda signed: curve.sign(signed, ec.ECDSA(hashes.SHA256()))),
        "EdDSA": ("EdDSA", edwards.sign),
    }
    for what, (name, sign) in signed.items():
        yield refused("algorithm", what, PINNED, with_algorithm(name, sign))
    spellings: list[tuple[object, str]] = [
        (None, PINNED),
        ("rs256", "RFC 7515 section 4.1.1: alg has case"),
        ("RSA256", "how Graph's metadata misspells RS256"),
        ("RS256 ", PINNED),
        (["RS256"], "CWE-843"),
    ]
    for spelling, source in spellings:
        yield refused("algorithm", f"alg {spelling!r} with a good signature", source, with_algorithm(spelling, _sign))


def _foreign_keys() -> Iterator[Case]:
    """Keys that the token brings along, or says where to get."""
    yield refused("key", "a stranger's signature under Graph's kid", CONFUSION, signed_by("stranger", kid="first"))
    yield refused("key", "a stranger's key and kid", CONFUSION, signed_by("stranger"))
    own = signed_by("stranger", kid="first", jwk=jwk("stranger"))
    yield refused("key", "a public key in the header (jwk)", HEADERS, own)
    for what, url in OTHER_KEY_SETS.items():
        for name in ("jku", "x5u"):
            yield refused("key", f"{what} ({name})", HEADERS, signed_by("stranger", **{name: url}))
    chain = signed_by("stranger", x5c=[base64url(b"a certificate")], kid=None)
    yield refused("key", "a certificate in the header (x5c), no kid", HEADERS, chain)


def _key_ids() -> Iterator[Case]:
    yield refused("key", "x5t alone, no kid", "RFC 7515 section 4.1.7", signed_by("first", kid=None, x5t="first"))
    for kid in BAD_KEY_IDS:
        yield refused("key", f"kid {kid[:24]!r}", KEY_IDS, signed_by("first", kid=kid))
    for value in (1, True, ["first"], {"first": 1}):
        yield refused("key", f"kid {value!r}, which is no text", "CWE-843", signed_by("first", kid=value))


def _unfit_keys() -> Iterator[Case]:
    """Published keys that may not sign this token, and headers that ask for more than RS256."""
    weak = "RFC 7518 section 3.3: 2048 bits or more"
    yield refused("key", "a published key of 1024 bits", weak, signed_by("weak"))
    yield refused("key", "a published key for encryption", "RFC 7517 section 4.2", signed_by("for-encryption"))
    unclaimed: Build = lambda builder: builder.post(  # noqa: E731 (one line of a table)
        builder.token(builder.claims(iss="https://graph.microsoft.com"), "of-another-tenant")
    )
    issuers = {
        "another issuer's key for Graph's issuer": signed_by("of-another-issuer"),
        "another tenant's key for this tenant": signed_by("of-another-tenant"),
        "another tenant's key, for an issuer that nobody calls his": unclaimed,
    }
    yield from all_refused("key", ISSUERS, issuers)
    extensions = {
        "crit asks for more than RS256": signed_by("first", crit=["exp"], exp=1),
        "b64 asks for more than RS256": signed_by("first", b64=False),
    }
    yield from all_refused("key", "RFC 7515 section 4.1.11; RFC 7797", extensions)


def _sign(signed: bytes) -> bytes:
    return rs256("first", signed)


def _hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.digest(secret, signed, hashlib.sha256)


def _rsa(algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> Callable[[bytes], bytes]:
    """Return a signature by the right key, but with other parameters than RS256."""
    scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH) if pss else padding.PKCS1v15()
    return lambda signed: key("first").sign(signed, scheme, algorithm)
