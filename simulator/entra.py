"""Microsoft Entra ID, imitated: tokens for apps, their keys, and the App Service managed identity endpoint."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import load_pem_x509_certificate
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel
from starlette.responses import JSONResponse, Response

from simulator.faults import OperationName
from simulator.refusals import Refusal, as_entra
from simulator.signing import ALGORITHM, KeyRing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from simulator.gate import Gate
    from simulator.wire import Json

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
GRAPH_ROLES = (
    "Calls.Initiate.All",
    "Calls.InitiateGroupCall.All",
    "Calls.JoinGroupCall.All",
    "Calls.JoinGroupCallAsGuest.All",
    "Calls.AccessMedia.All",
)
GRAPH_HOSTS = ("https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us")
LIFE = 3599  # seconds; what Entra gives a token of an app
V1_ISSUER = "https://sts.windows.net/{}/"  # of v1 tokens, whatever the authority's address
CLOUD = "microsoftonline.com"  # Entra: cloud_instance_name of metadata and keys
_ANY_TENANT = "{tenantid}"  # Entra: how metadata and keys for all tenants write a tenant
_ALL_TENANTS = ("common", "organizations")
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # workload identity federation


class App(BaseModel):
    """An app registration that is held to what it says. `audiences`: app roles in other APIs than Graph."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    secret: str | None = None
    certificate: str | None = Field(None, description="PEM; a client assertion must be signed by its key")
    roles: tuple[str, ...] = GRAPH_ROLES
    tenant_ids: tuple[str, ...] | None = Field(None, description="tenants that have consented; absent: all")
    audiences: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("certificate")
    @classmethod
    def _is_a_certificate(cls, pem: str | None) -> str | None:
        if pem is not None:
            key = load_pem_x509_certificate(pem.encode()).public_key()
            if not isinstance(key, rsa.RSAPublicKey):
                raise ValueError("the certificate's key must be an RSA key, as Entra asks for")
        return pem


class Identity(BaseModel):
    """The managed identity of this machine: which app it is, in which tenant."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True, frozen=True)

    app_id: str = "aaaaaaaa-0000-4000-8000-000000000001"
    tenant_id: str = "bbbbbbbb-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token says.

    `life` is in real seconds; a negative one makes a token that has expired. Without a `version` the token has a v2
    issuer and names the app in both ways, `appid` and `azp`, for readers of either.
    """

    app_id: str
    tenant_id: str
    audience: str
    roles: tuple[str, ...]
    life: int = LIFE
    issuer: str | None = None
    version: Literal["1.0", "2.0"] | None = None


@dataclass(slots=True)
class Entra:
    """The directory of all tenants. Apps that nobody has described are let in with any secret."""

    base_url: str
    keys: KeyRing = field(default_factory=lambda: KeyRing("Entra, simulated"))
    apps: dict[str, App] = field(default_factory=dict)
    identity: Identity = field(default_factory=Identity)

    def reset(self) -> None:
        """No app is described any more."""
        self.apps.clear()
        self.identity = Identity()

    def issuer(self, tenant_id: str) -> str:
        """The issuer of a tenant's v2 tokens, the same on http and https."""
        return f"{self.base_url}/{tenant_id}/v2.0"

    def published(self) -> list[Json]:
        """The keys, as Entra lists them: each with its issuer and its cloud."""
        return self.keys.published(issuer=self.issuer(_ANY_TENANT), cloud_instance_name=CLOUD)

    def is_graph(self, audience: str) -> bool:
        """Whether a token for this audience is one for Graph: the real one's names, or the simulator's own address."""
        return audience in {GRAPH_APP_ID, *GRAPH_HOSTS} or _is_loopback(audience)

    def roles(self, app_id: str, audience: str) -> tuple[str, ...]:
        """The app roles that an app has in the API of this audience."""
        app = self.apps.get(app_id.lower())
        if app is not None and audience in app.audiences:
            return app.audiences[audience]
        if self.is_graph(audience):
            return app.roles if app is not None else GRAPH_ROLES
        return ()

    def issue(self, grant: Grant) -> str:
        """A signed app-only access token, its times in real seconds."""
        now = int(time.time())
        begin = now + min(grant.life - 1, 0)
        subject = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{grant.tenant_id}/{grant.app_id}"))
        claims: dict[str, Json] = {
            "aud": grant.audience,
            "iss": grant.issuer or self._issuer(grant),
            "iat": begin,
            "nbf": begin,
            "exp": now + grant.life,
            **_caller(grant),
            "idtyp": "app",
            "oid": subject,
            "sub": subject,
            "tid": grant.tenant_id,
            "uti": uuid.uuid4().hex,
            "ver": grant.version or "2.0",
        }
        return self.keys.current.sign(claims | ({"roles": grant.roles} if grant.roles else {}))

    def _issuer(self, grant: Grant) -> str:
        return V1_ISSUER.format(grant.tenant_id) if grant.version == "1.0" else self.issuer(grant.tenant_id)


def _caller(grant: Grant) -> dict[str, Json]:
    """How a token of this version names the calling app."""
    v1, v2 = {"appid": grant.app_id, "appidacr": "1"}, {"azp": grant.app_id, "azpacr": "1"}
    match grant.version:
        case "1.0":
            return {**v1}
        case "2.0":
            return {**v2}
        case _:
            return {**v1, **v2}


def routes(entra: Entra, gate: Gate) -> list[Route]:
    """Entra's routes."""
    served = _Routes(entra)
    return [
        gate.route("POST", "/{tenant}/oauth2/v2.0/token", OperationName.TOKEN, served.token, as_entra),
        gate.route(
            "GET", "/{tenant}/v2.0/.well-known/openid-configuration", OperationName.DISCOVERY, served.metadata, as_entra
        ),
        gate.route("GET", "/{tenant}/discovery/v2.0/keys", OperationName.KEYS, served.key_set, as_entra),
        gate.route("GET", "/common/discovery/instance", OperationName.DISCOVERY, served.instance, as_entra),
        gate.route("GET", "/msi/token", OperationName.IDENTITY, served.managed_identity, as_entra),
    ]


@dataclass(frozen=True, slots=True)
class _Routes:
    entra: Entra

    async def token(self, request: Request) -> Response:
        """Client credentials: a secret, or an assertion."""
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        tenant, app_id = request.path_params["tenant"].lower(), form.get("client_id", "").lower()
        if form.get("grant_type") != "client_credentials":
            raise Refusal(400, "unsupported_grant_type", "AADSTS70003: Only client_credentials is imitated here.")
        if not app_id:
            raise Refusal(400, "invalid_request", "AADSTS900144: The request body must contain: 'client_id'.")
        self._admit(tenant, app_id, form)
        audience = _audience(form.get("scope", ""))
        token = self.entra.issue(Grant(app_id, tenant, audience, self.entra.roles(app_id, audience)))
        content = {"token_type": "Bearer", "expires_in": LIFE, "ext_expires_in": LIFE, "access_token": token}
        return JSONResponse(content, headers={"Cache-Control": "no-store"})

    async def metadata(self, request: Request) -> Response:
        """OpenID metadata; the addresses in it are on the base that was asked."""
        base, tenant = str(request.base_url).rstrip("/"), request.path_params["tenant"]
        return JSONResponse(
            {
                "issuer": self.entra.issuer(_ANY_TENANT if tenant in _ALL_TENANTS else tenant),
                "cloud_instance_name": CLOUD,
                "authorization_endpoint": f"{base}/{tenant}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/{tenant}/oauth2/v2.0/token",
                "jwks_uri": f"{base}/{tenant}/discovery/v2.0/keys",
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "response_types_supported": ["token"],
                "subject_types_supported": ["pairwise"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            }
        )

    async def key_set(self, _request: Request) -> Response:
        """The keys that Entra signs with."""
        return JSONResponse({"keys": self.entra.published()})

    async def instance(self, request: Request) -> Response:
        """Instance discovery: this authority is one, and its own only alias."""
        base, host = str(request.base_url).rstrip("/"), request.url.netloc
        alias = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
        return JSONResponse(
            {
                "tenant_discovery_endpoint": f"{base}/common/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [alias],
            }
        )

    async def managed_identity(self, request: Request) -> Response:
        """App Service's local token endpoint, api-version 2019-08-01."""
        if not request.headers.get("x-identity-header"):
            raise Refusal(401, "invalid_request", "The header X-IDENTITY-HEADER is missing.")
        if request.query_params.get("api-version") != "2019-08-01" or "resource" not in request.query_params:
            raise Refusal(400, "invalid_request", "api-version=2019-08-01 and resource are needed.")
        identity, resource = self.entra.identity, request.query_params["resource"]
        app_id = request.query_params.get("client_id", identity.app_id).lower()
        audience = resource.removesuffix("/.default").rstrip("/")
        token = self.entra.issue(Grant(app_id, identity.tenant_id, audience, self.entra.roles(app_id, audience)))
        expires_on = str(int(time.time()) + LIFE)
        content = {"access_token": token, "expires_on": expires_on, "resource": resource, "token_type": "Bearer"}
        return JSONResponse(content | {"client_id": app_id})

    def _admit(self, tenant: str, app_id: str, form: dict[str, str]) -> None:
        app = self.entra.apps.get(app_id)
        if app is not None and app.tenant_ids is not None and tenant not in {each.lower() for each in app.tenant_ids}:
            message = f"AADSTS700016: Application '{app_id}' was not found in the directory '{tenant}'."
            raise Refusal(400, "unauthorized_client", message)
        if "client_assertion" in form:
            self._check_assertion(app, tenant, form)
        elif not form.get("client_secret"):
            message = "AADSTS7000218: The request body must contain: 'client_assertion' or 'client_secret'."
            raise Refusal(401, "invalid_client", message)
        elif app is not None and form["client_secret"] != app.secret:
            raise Refusal(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")

    def _check_assertion(self, app: App | None, tenant: str, form: dict[str, str]) -> None:
        """Form, audience and times; the signature too where its key is known: a certificate's, or our own."""
        if form.get("client_assertion_type") != _ASSERTION_TYPE:
            raise Refusal(400, "invalid_request", f"AADSTS900144: client_assertion_type must be {_ASSERTION_TYPE}.")
        assertion = form["client_assertion"]
        try:
            key = self._assertion_key(app, assertion)
            claims = jwt.decode(
                assertion,
                key or "",
                algorithms=[ALGORITHM, "PS256"],
                options={"verify_signature": key is not None, "verify_aud": False, "verify_exp": True},
            )
        except jwt.PyJWTError as error:
            raise Refusal(401, "invalid_client", f"AADSTS700027: The client assertion is not valid: {error}") from error
        audience = str(claims.get("aud", ""))
        if audience != _EXCHANGE_AUDIENCE and not audience.lower().endswith(
            (f"/{tenant}/oauth2/v2.0/token", f"/{tenant}/v2.0")
        ):
            raise Refusal(401, "invalid_client", f"AADSTS700212: The assertion's audience is wrong: '{audience}'.")

    def _assertion_key(self, app: App | None, assertion: str) -> rsa.RSAPublicKey | None:
        """The key that has to have signed it, where that is known."""
        if app is not None and app.certificate is not None:
            key = load_pem_x509_certificate(app.certificate.encode()).public_key()
            return key if isinstance(key, rsa.RSAPublicKey) else None
        own = self.entra.keys.find(str(jwt.get_unverified_header(assertion).get("kid")))
        return own.public if own is not None else None


def _audience(scope: str) -> str:
    resource = scope.removesuffix("/.default")
    if not resource or resource == scope or " " in scope:
        message = f"AADSTS1002012: The provided value for scope '{scope}' is not valid: it must be <resource>/.default."
        raise Refusal(400, "invalid_scope", message)
    return resource.rstrip("/")


def _is_loopback(audience: str) -> bool:
    return audience.startswith(("http://127.0.0.1", "http://localhost", "https://127.0.0.1", "https://localhost"))
