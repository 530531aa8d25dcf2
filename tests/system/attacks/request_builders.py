"""Builders of requests to the webhook: genuine ones, and changed ones for the cases of the corpus."""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.system.attacks.keys import ISSUER, Json, base64url, rs256
from tests.system.attacks.raw_http import TARGET, Request

CALLING_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"  # the id of Graph's calling service, as it was observed
CALL_PATH = "/communications/calls/{}"

type Build = Callable[[RequestBuilder], Request]


@dataclass(frozen=True)
class RequestBuilder:
    """Builds requests about a call that the app does not know yet.

    Attributes
    ----------
    app_id
        The bot's app id, the audience of its tokens.
    victim
        The id of a stored call of another tenant, which no request may change.
    authority
        The address of Entra.
    tenant, call_id
        The tenant and the call of the request.
    """

    app_id: str
    victim: str
    authority: str = "https://login.microsoftonline.com"
    tenant: str = field(default_factory=lambda: str(uuid.uuid4()))
    call_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def now(self) -> int:
        """The time in seconds since 1970."""
        return int(time.time())

    def claims(self, **changes: object) -> Json:
        """Return claims as Graph's tokens have them, without `iat`. A change to None removes a claim."""
        payload: Json = {"aud": self.app_id, "iss": ISSUER, "nbf": self.now, "exp": self.now + 300}
        payload |= {"tid": self.tenant, "appid": CALLING_APP, **changes}
        return {name: value for name, value in payload.items() if value is not None}

    def v2_claims(self, **changes: object) -> Json:
        """Return claims of an Entra token of version 2."""
        issuer = f"{self.authority}/{changes.get('tid', self.tenant)}/v2.0"
        named: Json = {"iss": issuer, "appid": None, "azp": CALLING_APP, "exp": self.now + 3600, "ver": "2.0"}
        return self.claims(**named | changes)

    def v1_claims(self, **changes: object) -> Json:
        """Return claims of an Entra token of version 1."""
        issuer = f"https://sts.windows.net/{changes.get('tid', self.tenant)}/"
        return self.claims(**{"iss": issuer, "exp": self.now + 3600, "ver": "1.0"} | changes)

    def token(self, payload: Json | bytes | None = None, signed_by: str = "first", **header: object) -> str:
        """Return a compact token, signed with RS256 whatever its header says. None removes a member of the header."""
        named: Json = {"alg": "RS256", "kid": signed_by, "typ": "JWT", "cty": "JWT", **header}
        given = {name: value for name, value in named.items() if value is not None}
        return compact(given, self.claims() if payload is None else payload, lambda signed: rs256(signed_by, signed))

    def item(self, call_id: str | None = None, path: str = CALL_PATH, **members: object) -> Json:
        """Return one notification, which reports that the call is established."""
        return {
            "@odata.type": "#microsoft.graph.commsNotification",
            "changeType": "updated",
            "resourceUrl": path.format(self.call_id if call_id is None else call_id),
            "resourceData": {"@odata.type": "#microsoft.graph.call", "state": "established"},
            **members,
        }

    def body(self, *items: object) -> bytes:
        """Return a body of these notifications, or of one genuine notification."""
        return json.dumps({"value": list(items or [self.item()])}).encode()

    def post(
        self,
        token: str | None = None,
        body: bytes | None = None,
        *headers: tuple[str, str | bytes],
        target: str = TARGET,
        method: str = "POST",
    ) -> Request:
        """Return Graph's POST. What is not given is genuine."""
        signed = ("Authorization", f"Bearer {self.token() if token is None else token}")
        return Request((signed, *headers), self.body() if body is None else body, method, target)

    def unsigned(self, *headers: tuple[str, str | bytes], target: str = TARGET) -> Request:
        """Return a POST without Graph's token, with these headers."""
        return Request(headers, self.body(), target=target)


def compact(header: Json | bytes, payload: Json | bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return a JWS in its compact form."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(map(base64url, parts))
    return f"{signed}.{base64url(sign(signed.encode()))}"


def with_algorithm(name: object, sign: Callable[[bytes], bytes]) -> Build:
    """Build a token with this algorithm in its header, signed by `sign`. None: no algorithm."""
    header: Json = {"kid": "first"} if name is None else {"alg": name, "kid": "first"}
    return lambda builder: builder.post(compact(header, builder.claims(), sign))


def with_raw_header(header: bytes) -> Build:
    """Build a token with these bytes as its header, signed by the right key."""
    return lambda builder: builder.post(compact(header, builder.claims(), lambda signed: rs256("first", signed)))


def signed_by(name: str, **header: object) -> Build:
    """Build a token of genuine claims with this key and header."""
    return lambda builder: builder.post(builder.token(None, name, **header))


def with_claims(**changes: object) -> Build:
    """Build a well signed token with these claims."""
    return with_claims_of(lambda _: changes)


def with_claims_of(changes: Callable[[RequestBuilder], Json]) -> Build:
    """Build a well signed token with claims that depend on the request."""
    return lambda builder: builder.post(builder.token(builder.claims(**changes(builder))))


def with_payload(payload: bytes, **header: object) -> Build:
    """Build a well signed token with these bytes as its payload."""
    return lambda builder: builder.post(builder.token(payload, "first", **header))


def with_token(change: Callable[[str], str]) -> Build:
    """Build a request with a genuine token, changed."""
    return lambda builder: builder.post(change(builder.token()))


def with_body(make: Callable[[bytes], bytes], *headers: tuple[str, str]) -> Build:
    """Build a request with a good token, these headers, and a body made of a genuine one."""
    return lambda builder: builder.post(None, make(builder.body()), *headers)


def with_item(path: str = CALL_PATH, members: Json | None = None) -> Build:
    """Build a notification about the resource at this path, with these members."""
    return lambda builder: builder.post(None, builder.body(builder.item(None, path, **(members or {}))))


def with_headers(*headers: tuple[str, str]) -> Build:
    """Build a genuine request with these headers."""
    return lambda builder: builder.post(None, None, *headers)


def at_target(target: str, method: str = "POST") -> Build:
    """Build a genuine request to another target, or with another method."""
    return lambda builder: builder.post(target=target, method=method)
