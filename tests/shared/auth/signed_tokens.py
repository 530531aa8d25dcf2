"""Issuers with real keys, and the tokens that they sign."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.auth.signing_keys import (
    SigningKeys,
)
from shared.auth.token_kinds import TokenKind
from shared.auth.tokens import TokenVerifier
from shared.errors import Unauthenticated
from shared.identifiers import lower_guids
from tests.support.clocks import SteppedClock

type Serve = Callable[..., Awaitable[str]]


APP = "aaaaaaaa-1111-2222-3333-444444444444"


TENANT = "bbbbbbbb-1111-2222-3333-444444444444"


CALLER = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"


ISSUER = "https://api.botframework.com"


START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


FIRST, SECOND = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


def jwk(kid: str, key: rsa.RSAPrivateKey, **more: object) -> dict[str, object]:
    numbers = key.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    modulus, exponent = numbers.n.to_bytes(size), numbers.e.to_bytes(3)
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": _base64(modulus), "e": _base64(exponent), **more}


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Issuer:
    """OpenID metadata and keys. `broken` is the status that both answer instead."""

    keys: list[dict[str, object]] = field(default_factory=lambda: [jwk("first", FIRST)])
    broken: int | None = None
    jwks_uri: str | None = None
    named: str = ISSUER
    fetched: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        if self.broken:
            return web.Response(status=self.broken)
        if request.path == "/keys":
            self.fetched += 1
            await asyncio.sleep(0)  # lets others in, as a network would
            return web.json_response({"keys": self.keys})
        own = f"http://{request.host}/keys"
        metadata = {
            "issuer": self.named,
            "jwks_uri": self.jwks_uri or own,
            "id_token_signing_alg_values_supported": ["RSA256"],  # so it is written in Graph's own
        }
        return web.json_response(metadata)


def claims(**changes: object) -> dict[str, object]:
    """The claims of a notification's token; None leaves one out. There is no `iat`, as in Graph's."""
    now = int(START.timestamp())
    payload: dict[str, object] = {
        "aud": APP,
        "iss": ISSUER,
        "nbf": now,
        "exp": now + 300,
        "tid": TENANT,
        "appid": CALLER,
    }
    return {name: value for name, value in (payload | changes).items() if value is not None}


def bearer(
    payload: dict[str, object] | None = None,
    key: rsa.RSAPrivateKey = FIRST,
    scheme: str = "Bearer",
    **headers: str | None,
) -> str:
    named = {"kid": "first", "cty": "JWT", **headers}
    header = {name: value for name, value in named.items() if value is not None}
    body = json.dumps(claims() if payload is None else payload).encode()
    return f"{scheme} {jwt.PyJWS().encode(body, key, 'RS256', headers=header)}"


def unsigned() -> str:
    head = _base64(json.dumps({"alg": "none", "kid": "first"}).encode())
    return f"{head}.{_base64(json.dumps(claims()).encode())}."


def verifier_of(
    keys: SigningKeys,
    clock: SteppedClock,
    *,
    audiences: tuple[str, ...] = (APP,),
    issuers: tuple[str, ...] = (ISSUER,),
    callers: frozenset[str] | None = None,
) -> TokenVerifier:
    """A verifier of one kind of token."""
    kind = TokenKind("test", issuers, frozenset(map(lower_guids, audiences)), keys, callers, is_for_any_tenant=True)
    return TokenVerifier((kind,), clock)


async def refused(verifier: TokenVerifier, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(authorization)
    assert caught.value.__cause__ is None
    return str(caught.value)


async def settled() -> None:
    """Wait until no background fetch is under way."""
    while under_way := [task for task in asyncio.all_tasks() if task.get_name().startswith("signing keys of")]:
        await asyncio.wait(under_way)


@dataclass
class PausedIssuer:
    """An issuer that does not answer until it is let go."""

    issuer: Issuer
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        self.reached.set()
        await self.let_go.wait()
        return await self.issuer.answer(request)


GRAPH = "https://graph.microsoft.com"  # an issuer that no metadata names


V1, V2 = f"https://sts.windows.net/{TENANT}/", f"https://login.microsoftonline.com/{TENANT}/v2.0"


ANY_V2, OTHERS_V2 = V2.replace(TENANT, "{tenantid}"), V2.replace(TENANT, APP)


CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # Entra's tenant of personal accounts, with a key of its own
