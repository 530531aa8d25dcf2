"""A bot's certificate: the assertions that it signs, and the moments at which its file is read."""

import base64
import hashlib
import os
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509 import Certificate

from shared.graph.certificates import BotCertificate
from simulator.tls import self_signed

AUDIENCE = "https://login.microsoftonline.com/bbbbbbbb-1111-2222-3333-444444444444/oauth2/v2.0/token"
APP = "aaaaaaaa-1111-2222-3333-444444444444"

type Pair = tuple[rsa.RSAPrivateKey, Certificate]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    return [(key, self_signed(f"bot {number}", key)) for number, key in enumerate(keys)]


def write(path: Path, pair: Pair, encryption: KeySerializationEncryption | None = None) -> Path:
    key, certificate = pair
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return path


def test_an_assertion_is_as_entra_wants_it(tmp_path: Path, pairs: list[Pair]) -> None:
    made = BotCertificate(str(write(tmp_path / "bot.pem", pairs[0])), None).sign_assertion(APP, AUDIENCE)

    claims = jwt.decode(made, pairs[0][0].public_key(), ["PS256"], audience=AUDIENCE)
    digest = hashlib.sha256(pairs[0][1].public_bytes(Encoding.DER)).digest()
    head = jwt.get_unverified_header(made)
    assert head == {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    assert claims.keys() == {"aud", "iss", "sub", "jti", "iat", "nbf", "exp"}
    assert (claims["iss"], claims["sub"]) == (APP, APP)
    assert claims["exp"] - claims["nbf"] == timedelta(minutes=10).total_seconds()


def test_each_assertion_has_an_id_of_its_own(tmp_path: Path, pairs: list[Pair]) -> None:
    certificate = BotCertificate(str(write(tmp_path / "bot.pem", pairs[0])), None)

    made = [certificate.sign_assertion(APP, AUDIENCE) for _ in range(2)]

    ids = {jwt.decode(each, options={"verify_signature": False})["jti"] for each in made}
    assert len(ids) == 2


def test_the_file_is_read_again_only_if_it_has_changed(tmp_path: Path, pairs: list[Pair]) -> None:
    path = write(tmp_path / "bot.pem", pairs[0])
    certificate, read_at = BotCertificate(str(path), None), path.stat().st_mtime_ns
    certificate.sign_assertion(APP, AUDIENCE)

    write(path, pairs[1])
    os.utime(path, ns=(read_at, read_at))
    jwt.decode(certificate.sign_assertion(APP, AUDIENCE), pairs[0][0].public_key(), ["PS256"], audience=AUDIENCE)

    os.utime(path, ns=(read_at + 1_000_000, read_at + 1_000_000))
    jwt.decode(certificate.sign_assertion(APP, AUDIENCE), pairs[1][0].public_key(), ["PS256"], audience=AUDIENCE)


@pytest.mark.parametrize("form", ["pem", "pkcs12"])
def test_a_password_opens_it(tmp_path: Path, pairs: list[Pair], form: str) -> None:
    path, locked = tmp_path / "bot", BestAvailableEncryption(b"p4ssword")
    if form == "pem":
        write(path, pairs[0], locked)
    else:
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"bot", *pairs[0], None, locked))

    made = BotCertificate(str(path), "p4ssword").sign_assertion(APP, AUDIENCE)

    assert jwt.decode(made, pairs[0][0].public_key(), ["PS256"], audience=AUDIENCE)
    with pytest.raises(ValueError, match=r"(?i)password") as caught:
        BotCertificate(str(path), "wr0ng").sign_assertion(APP, AUDIENCE)
    assert "wr0ng" not in str(caught.value)


def test_a_key_that_is_not_rsa_is_refused(tmp_path: Path, pairs: list[Pair]) -> None:
    path = tmp_path / "bot.pem"
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key + pairs[0][1].public_bytes(Encoding.PEM))

    with pytest.raises(ValueError, match="RSA key"):
        BotCertificate(str(path), None).sign_assertion(APP, AUDIENCE)
