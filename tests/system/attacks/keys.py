"""Signing keys of Graph, Entra and forgers, and the issuers that publish some of them."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from simulator.tls import CertificateAuthority

type Json = dict[str, object]

ISSUER = "https://api.botframework.com"
OTHER_ISSUER = "https://another-issuer.example"
OTHER_TENANT = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"
PUBLISHED: dict[str, Json] = {  # members of each key in the key set, besides the numbers
    "first": {"endorsements": ["msteams"], "x5t": "first"},
    "next": {"alg": "RS256", "key_ops": ["verify"]},
    "for-encryption": {"use": "enc"},
    "weak": {},
    "of-another-tenant": {"issuer": f"https://sts.windows.net/{OTHER_TENANT}/"},
}

ENTRA_CLOUD = "microsoftonline.com"
ENTRA_METADATA, ENTRA_KEYS = "/common/v2.0/.well-known/openid-configuration", "/common/discovery/v2.0/keys"
ENTRA_PUBLISHED: dict[str, Json] = {  # `{}` is Entra's address
    "entra": {"issuer": "{}/{{tenantid}}/v2.0", "cloud_instance_name": ENTRA_CLOUD},
    "entra-next": {"issuer": "{}/{{tenantid}}/v2.0", "use": None, "alg": None},
    "entra-of-another-tenant": {"issuer": f"{{}}/{OTHER_TENANT}/v2.0", "cloud_instance_name": ENTRA_CLOUD},
    "entra-of-another-cloud": {"issuer": "{}/{{tenantid}}/v2.0", "cloud_instance_name": "microsoftonline.us"},
    "entra-malformed": {"n": "!"},
}


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    """Return the private key of this name. `weak` is too short, and `stranger` is not published."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "weak" else 2048)


def rs256(name: str, signed: bytes) -> bytes:
    """Return the signature of RS256."""
    return key(name).sign(signed, padding.PKCS1v15(), hashes.SHA256())


def base64url(data: bytes) -> str:
    """Return base64url without padding, as RFC 7515 has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(name: str, **more: object) -> Json:
    """Return the public key as a member of a key set."""
    numbers = key(name).public_key().public_numbers()
    modulus = base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8))
    return {"kty": "RSA", "use": "sig", "kid": name, "n": modulus, "e": base64url(numbers.e.to_bytes(3)), **more}


@dataclass
class Issuers:
    """Graph's issuer, another one, and Entra over https, on this machine. `asked` has the path of each request."""

    address: str
    authority: str
    ca_file: Path
    asked: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """The settings that make the app trust these issuers."""
        return {
            "NOTIFICATION_METADATA_URLS": f"{self.address}/graph/metadata,{self.address}/other/metadata",
            "AZURE_AUTHORITY_HOST": self.authority,
            "SSL_CERT_FILE": str(self.ca_file),
        }

    def document(self, path: str) -> Json | None:
        """Return the document at a path, or None."""
        entra = {"issuer": f"{self.authority}/{{tenantid}}/v2.0", "cloud_instance_name": ENTRA_CLOUD}
        published: dict[str, Json] = {
            "/graph/metadata": {"issuer": ISSUER, "jwks_uri": f"{self.address}/graph/keys"},
            "/graph/keys": {"keys": [jwk(name, **more) for name, more in PUBLISHED.items()]},
            "/other/metadata": {"issuer": OTHER_ISSUER, "jwks_uri": f"{self.address}/other/keys"},
            "/other/keys": {"keys": [jwk("of-another-issuer")]},
            ENTRA_METADATA: {**entra, "jwks_uri": f"{self.authority}{ENTRA_KEYS}"},
            ENTRA_KEYS: {"keys": [self._entra_key(name, more) for name, more in ENTRA_PUBLISHED.items()]},
        }
        return published.get(path)

    def _entra_key(self, name: str, more: Json) -> Json:
        issuer = {"issuer": str(more["issuer"]).format(self.authority)} if "issuer" in more else {}
        return jwk(name, **(more | issuer))


@contextmanager
def issuers(folder: Path) -> Iterator[Issuers]:
    """Serve the issuers in threads, so that other processes can ask. `folder` gets the certificates."""
    certificates = CertificateAuthority()
    certificates.write_server_identity(folder / "server.pem")
    certificates.write_certificate(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            document = found.document(self.path)
            content = json.dumps(document).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with _serving(Handler) as plain, _serving(Handler, context) as secure:
        address, authority = f"http://127.0.0.1:{plain}", f"https://localhost:{secure}"
        found = Issuers(address, authority, folder / "ca.pem")
        yield found


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a server in a thread, and yield its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
