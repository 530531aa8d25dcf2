"""Certificates for https: a certificate authority that is created at the start, and the certificates it signs."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_LIFETIME = timedelta(days=30)
_CLOCK_SKEW = timedelta(hours=1)  # certificates are valid from this long ago
_CA_NAME = "Call simulator, a certificate authority of this run"


class CertificateAuthority:
    """A certificate authority for one process. Its private key is never written to disk."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = _sign(_CA_NAME, self._key, _CA_NAME, self._key, ca=True)

    def write_certificate(self, path: Path) -> None:
        """Write the authority's certificate as PEM, for SSL_CERT_FILE.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        path.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def write_server_identity(self, path: Path) -> None:
        """Write a key and a certificate for localhost and 127.0.0.1 as one PEM that only its owner can read."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign("localhost", key, _CA_NAME, self._key, ca=False)
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + certificate.public_bytes(Encoding.PEM)
        )


def self_signed(name: str, key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return a certificate for this key, signed by the same key."""
    return _sign(name, key, name, key, ca=False)


def _sign(subject: str, key: PrivateKey, issuer: str, issuer_key: PrivateKey, *, ca: bool) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_key_usage(ca=ca), critical=True)
    )
    if not ca:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    """Return the key usage that a strict verifier, Python 3.13's default, requires.

    All keys may sign data. Only the authority's key may sign certificates.
    """
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
