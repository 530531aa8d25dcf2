"""One request to the webhook, made by Graph or by somebody who pretends to be it, and sent over a bare socket."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from tests.system.attacks.keys import ISSUER, Json, base64url, rs256

CALLING_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # as it was observed
PATIENCE = 20  # seconds
TARGET = "/api/notifications"

type Kind = Literal["algorithm", "key", "claims", "time", "form", "tenant", "size", "JSON", "id", "HTTP"]


@dataclass(frozen=True)
class Request:
    """An HTTP request, byte by byte. `raw_head` is the head of one that is not well formed."""

    headers: tuple[tuple[str, str | bytes], ...] = ()
    body: bytes = b""
    method: str = "POST"
    target: str = TARGET
    raw_head: bytes | None = None

    def wire(self, host: str) -> bytes:
        """What is sent. Length and type are added where the case does not say them itself."""
        if self.raw_head is not None:
            return self.raw_head.replace(b"HOST", host.encode()) + self.body
        named = {name.lower() for name, _ in self.headers}
        own = [("Host", host), ("Connection", "close"), ("Content-Type", "application/json")]
        if "transfer-encoding" not in named:
            own.append(("Content-Length", str(len(self.body))))
        lines = [(name, value) for name, value in own if name.lower() not in named] + list(self.headers)
        head = b"".join(_bytes(name) + b": " + _bytes(value) + b"\r\n" for name, value in lines)
        return f"{self.method} {self.target} HTTP/1.1\r\n".encode() + head + b"\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    """What came back; the status is None where the connection was closed without a word."""

    status: int | None
    body: bytes


@dataclass(frozen=True)
class Scene:
    """Who plays: a call of ours that nobody knows yet, and one of another tenant that must not be touched.

    `authority` is Entra's address.
    """

    app_id: str
    victim: str
    authority: str = "https://login.microsoftonline.com"
    tenant: str = field(default_factory=lambda: str(uuid.uuid4()))
    call_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    def claims(self, **changes: object) -> Json:
        """Claims as in Graph's tokens, without `iat`; None leaves one out."""
        payload: Json = {"aud": self.app_id, "iss": ISSUER, "nbf": self.now, "exp": self.now + 300}
        payload |= {"tid": self.tenant, "appid": CALLING_APP, **changes}
        return {name: value for name, value in payload.items() if value is not None}

    def v2_claims(self, **changes: object) -> Json:
        """Claims of an Entra token of the second version."""
        issuer = f"{self.authority}/{changes.get('tid', self.tenant)}/v2.0"
        named: Json = {"iss": issuer, "appid": None, "azp": CALLING_APP, "exp": self.now + 3600, "ver": "2.0"}
        return self.claims(**named | changes)

    def v1_claims(self, **changes: object) -> Json:
        """Claims of an Entra token of the first version."""
        issuer = f"https://sts.windows.net/{changes.get('tid', self.tenant)}/"
        return self.claims(**{"iss": issuer, "exp": self.now + 3600, "ver": "1.0"} | changes)

    def token(self, payload: Json | bytes | None = None, signed_by: str = "first", **header: object) -> str:
        """A compact token, signed with RS256 whatever its header says; None leaves a member of the header out."""
        named: Json = {"alg": "RS256", "kid": signed_by, "typ": "JWT", "cty": "JWT", **header}
        shown = {name: value for name, value in named.items() if value is not None}
        return compact(shown, self.claims() if payload is None else payload, lambda signed: rs256(signed_by, signed))

    def item(self, call_id: str | None = None, path: str = "/communications/calls/{}", **members: object) -> Json:
        """One notification: that the call is established."""
        return {
            "@odata.type": "#microsoft.graph.commsNotification",
            "changeType": "updated",
            "resourceUrl": path.format(self.call_id if call_id is None else call_id),
            "resourceData": {"@odata.type": "#microsoft.graph.call", "state": "established"},
            **members,
        }

    def body(self, *items: object) -> bytes:
        """A body of these notifications, or of one that is genuine."""
        return json.dumps({"value": list(items or [self.item()])}).encode()

    def post(
        self,
        token: str | None = None,
        body: bytes | None = None,
        *headers: tuple[str, str | bytes],
        target: str = TARGET,
        method: str = "POST",
    ) -> Request:
        """Graph's POST, but for what is given."""
        signed = ("Authorization", f"Bearer {self.token() if token is None else token}")
        return Request((signed, *headers), self.body() if body is None else body, method, target)

    def unsigned(self, *headers: tuple[str, str | bytes], target: str = TARGET) -> Request:
        """A POST that only these headers, if any, authorize."""
        return Request(headers, self.body(), target=target)


@dataclass(frozen=True)
class Case:
    """One thing that is tried. `source` says where the idea comes from; `statuses` how it may be answered.

    What is answered with 202 must be on record afterwards, and nothing else.
    """

    kind: Kind
    what: str
    source: str
    statuses: tuple[int | None, ...]
    build: Callable[[Scene], Request]

    def __str__(self) -> str:
        """A name for the test: ASCII, and not too long."""
        return f"{self.kind}: {self.what}"[:80].encode("ascii", "replace").decode()

    @property
    def is_genuine(self) -> bool:
        """Whether it must be let in."""
        return self.statuses == (202,)


def compact(header: Json | bytes, payload: Json | bytes, sign: Callable[[bytes], bytes]) -> str:
    """A JWS in its compact form."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(map(base64url, parts))
    return f"{signed}.{base64url(sign(signed.encode()))}"


async def send(address: str, request: Request) -> Answer:
    """Send it over a socket of its own, and read until the other end closes."""
    host = urlsplit(address).netloc
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(request.wire(host))
            answer = await _read(reader)
    finally:
        writer.close()
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    return Answer(int(head[:3]) if head[:3].isdigit() else None, body)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except ConnectionResetError:  # it did not care to read all
        return b""


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
