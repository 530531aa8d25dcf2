"""Entra's token endpoint and an identity endpoint, on this machine."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from azure.identity.aio._internal import AadClient
from azure.identity.aio._internal.managed_identity_client import AsyncManagedIdentityClient
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import load_pem_x509_certificate

from shared.graph.token_cache import (
    GraphTokens,
)

type Serve = Callable[..., Awaitable[str]]


type Make = Callable[..., GraphTokens]


APP = "aaaaaaaa-1111-2222-3333-444444444444"


TENANT = "bbbbbbbb-1111-2222-3333-444444444444"


OTHER = "cccccccc-1111-2222-3333-444444444444"


IDENTITY = "dddddddd-1111-2222-3333-444444444444"


SECRET = {"GRAPH_CREDENTIAL": "secret", "GRAPH_CLIENT_SECRET": "s3cret"}


@dataclass
class Entra:
    """Issues `token-1`, `token-2`, …; or answers as `broken` says."""

    asked: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)  # connections that requests came over
    address: str = ""
    broken: Callable[[], web.Response] | None = None
    hangs: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lifetime: int = 3600

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append({name: str(value) for name, value in form.items()})
        self.paths.append(request.path)
        self.peers.add(request.transport.get_extra_info("peername") if request.transport else None)
        if self.hangs:
            self.arrived.set()
            await self.hangs.wait()
        if self.broken:
            return self.broken()
        token = {"token_type": "Bearer", "expires_in": self.lifetime, "access_token": f"token-{len(self.asked)}"}
        return web.json_response(token)


def tenant(number: int) -> str:
    return f"bbbbbbbb-1111-2222-3333-{number:012}"


def clients_of_azure_identity() -> int:
    gc.collect()
    return sum(isinstance(each, (AadClient, AsyncManagedIdentityClient)) for each in gc.get_objects())


def refusal(code: str = "AADSTS7000215") -> web.Response:
    body = {"error": "invalid_client", "error_description": f"{code}: Invalid client secret: s3cret"}
    return web.json_response(body, status=401)


def verified(assertion: str, certificate: Path, audience: str) -> dict[str, Any]:
    """Return the claims of an assertion after the checks that Entra makes: signature, times, audience."""
    public = load_pem_x509_certificate(certificate.read_bytes()).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    claims: dict[str, Any] = jwt.decode(
        assertion, public, algorithms=["RS256", "PS256"], audience=audience, options={"require": ["exp", "jti", "sub"]}
    )
    return claims


@dataclass
class IdentityEndpoint:
    """A Functions instance's own endpoint for managed identities."""

    signed: str  # the identity's token
    asked: list[dict[str, str]] = field(default_factory=list)
    broken: bool = False
    refusal: str | None = None  # Entra's message, which the endpoint repeats

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["x-identity-header"] == "header"
        self.asked.append(dict(request.query))
        if self.refusal:
            return web.json_response({"statusCode": 400, "message": self.refusal}, status=400)
        expires_on = str(int(time.time()) + 24 * 3600)
        answer = {"access_token": self.signed, "expires_on": expires_on, "token_type": "Bearer"}
        return web.json_response(answer if self.broken else answer | {"resource": request.query["resource"]})
