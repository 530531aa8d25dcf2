"""The keys that forgers and Graph sign with here, and the issuer that publishes some of them over HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

type Json = dict[str, object]

ISSUER = "https://api.botframework.com"
OTHER_ISSUER = "https://another-issuer.example"
OTHER_TENANT = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9"
PUBLISHED: dict[str, Json] = {  # what the key set says of each, besides the numbers
    "first": {"endorsements": ["msteams"], "x5t": "first"},
    "next": {"alg": "RS256", "key_ops": ["verify"]},
    "for-encryption": {"use": "enc"},
    "weak": {},
    "of-another-tenant": {"issuer": f"https://sts.windows.net/{OTHER_TENANT}/"},
}


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    """The private key of this name: one is weak, `stranger` is published nowhere."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "weak" else 2048)


def rs256(name: str, signed: bytes) -> bytes:
    """The signature of RS256."""
    return key(name).sign(signed, padding.PKCS1v15(), hashes.SHA256())


def base64url(data: bytes) -> str:
    """RFC 7515: without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk(name: str, **more: object) -> Json:
    """The public half as a member of a key set."""
    numbers = key(name).public_key().public_numbers()
    modulus = base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8))
    return {"kty": "RSA", "use": "sig", "kid": name, "n": modulus, "e": base64url(numbers.e.to_bytes(3)), **more}


@dataclass
class Issuers:
    """Graph's issuer and another one, on this machine. `asked` has the path of each request."""

    address: str
    asked: list[str] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """What makes the app trust both."""
        return {"NOTIFICATION_METADATA_URLS": f"{self.address}/graph/metadata,{self.address}/other/metadata"}

    def document(self, path: str) -> Json | None:
        """What is published there."""
        match path:
            case "/graph/metadata":
                return {"issuer": ISSUER, "jwks_uri": f"{self.address}/graph/keys"}
            case "/other/metadata":
                return {"issuer": OTHER_ISSUER, "jwks_uri": f"{self.address}/other/keys"}
            case "/graph/keys":
                return {"keys": [jwk(name, **more) for name, more in PUBLISHED.items()]}
            case "/other/keys":
                return {"keys": [jwk("of-another-issuer")]}
        return None


@contextmanager
def issuers() -> Iterator[Issuers]:
    """Serve both, in a thread, so that other processes may ask."""

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
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Issuers(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
