"""The certificate of a bot: it is read once, and signs the assertions that prove the bot to Entra."""

import base64
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.x509 import Certificate

_ASSERTION_LIFETIME = timedelta(minutes=10)  # Entra: "certificate credentials" page advises 5 to 10 minutes
_PEM_PREFIX = b"-----"


@dataclass(frozen=True, slots=True)
class _LoadedCertificate:
    version: int  # modification time of the file, in nanoseconds
    key: "RSAPrivateKey"
    thumbprint: str


class BotCertificate:
    """A PEM or PKCS12 file with certificate and key.

    Reading a key takes 50 ms, because cryptography checks it. So it is read once for all tenants, and again only if the
    file has changed. azure-identity's CertificateCredential would read it for each tenant.
    """

    def __init__(self, path: str, password: str | None) -> None:
        self._path = Path(path)
        self._password = password.encode() if password else None
        self._loaded: _LoadedCertificate | None = None

    def sign_assertion(self, app_id: str, audience: str) -> str:
        """Return a client assertion of the app for a token endpoint (Entra: "certificate credentials" page).

        Raises
        ------
        OSError, ValueError, TypeError
            The file cannot be read, or has no certificate with an RSA key that this password opens.
        """
        import jwt  # noqa: PLC0415 slow to import

        loaded, now = self._load(), datetime.now(UTC)
        claims = {"aud": audience, "iss": app_id, "sub": app_id, "jti": str(uuid.uuid4())}
        times = {"iat": now, "nbf": now, "exp": now + _ASSERTION_LIFETIME}
        return jwt.encode(claims | times, loaded.key, "PS256", headers={"x5t#S256": loaded.thumbprint})

    def _load(self) -> _LoadedCertificate:
        version = self._path.stat().st_mtime_ns
        if self._loaded is None or self._loaded.version != version:
            self._loaded = _LoadedCertificate(version, *_parse_certificate(self._path.read_bytes(), self._password))
        return self._loaded


def _parse_certificate(content: bytes, password: bytes | None) -> tuple["RSAPrivateKey", str]:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 slow to import
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 slow to import

    key, certificate = (_load_pem if content.startswith(_PEM_PREFIX) else _load_pkcs12)(content, password)
    if not isinstance(key, RSAPrivateKey) or certificate is None:
        raise ValueError("the file must have a certificate and its RSA key")
    thumbprint = base64.urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=")
    return key, thumbprint.decode()


def _load_pem(content: bytes, password: bytes | None) -> tuple[object, "Certificate"]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 slow to import
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 slow to import

    return load_pem_private_key(content, password), load_pem_x509_certificate(content)


def _load_pkcs12(content: bytes, password: bytes | None) -> tuple[object, "Certificate | None"]:
    from cryptography.hazmat.primitives.serialization.pkcs12 import (  # noqa: PLC0415 slow to import
        load_key_and_certificates,
    )

    key, certificate, _chain = load_key_and_certificates(content, password)
    return key, certificate
