"""A simulated Microsoft Entra ID: tokens of apps, signing keys, and App Service's managed identity endpoint."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import load_pem_x509_certificate
from pydantic import Field, field_validator
from starlette.responses import JSONResponse, Response

from simulator.faults import OperationName
from simulator.refusals import Refusal, entra_error
from simulator.signing import ALGORITHM, KeyRing
from simulator.wire import ControlModel

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from simulator.middleware import Middleware
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
TOKEN_LIFETIME = timedelta(seconds=3599)  # Entra: expires_in of an app's token
V1_ISSUER = "https://sts.windows.net/{}/"  # of v1 tokens, independent of the authority's address
CLOUD_INSTANCE = "microsoftonline.com"  # Entra: cloud_instance_name of metadata and keys
_ANY_TENANT = "{tenantid}"  # Entra: the tenant's placeholder in metadata and keys for all tenants
_ALL_TENANTS = ("common", "organizations")
_EXPIRES_IN = int(TOKEN_LIFETIME.total_seconds())
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"  # workload identity federation


class AudienceRefusal(StrEnum):
    """The reason why Entra issues no token for an audience."""

    ASSIGNMENT_REQUIRED = "assignmentRequired"
    NOT_FOUND = "notFound"


class AppRegistration(ControlModel):
    """An app registration, which Entra enforces.

    `audiences` maps the audiences of other APIs to the app's roles, and `refused_audiences` maps those for which the
    app gets no token to the reason. `own_token_version` is the version of the app's tokens for itself: as an audience
    an app decides on it (Entra: `requestedAccessTokenVersion` of the manifest).
    """

    secret: str | None = None
    certificate: str | None = Field(None, description="PEM; a client assertion must be signed by its key")
    roles: tuple[str, ...] = GRAPH_ROLES
    tenant_ids: tuple[str, ...] | None = Field(None, description="tenants that have consented; absent: all tenants")
    audiences: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    refused_audiences: dict[str, AudienceRefusal] = Field(default_factory=dict)
    own_token_version: Literal["1.0", "2.0"] = "2.0"  # noqa: S105 a version, no secret

    @field_validator("certificate")
    @classmethod
    def _is_a_certificate(cls, pem: str | None) -> str | None:
        if pem is not None:
            key = load_pem_x509_certificate(pem.encode()).public_key()
            if not isinstance(key, rsa.RSAPublicKey):
                raise ValueError("the certificate's key must be an RSA key, as Entra requires")
        return pem


class ManagedIdentity(ControlModel):
    """The managed identity of this machine: its app and tenant."""

    app_id: str = "aaaaaaaa-0000-4000-8000-000000000001"
    tenant_id: str = "bbbbbbbb-0000-4000-8000-000000000001"


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """The content of a token.

    `lifetime` is real time; a negative one makes an expired token. Without a `version` the token has a v2 issuer and
    names the app in both ways, `appid` and `azp`, for readers of either.
    """

    app_id: str
    tenant_id: str
    audience: str
    roles: tuple[str, ...]
    lifetime: timedelta = TOKEN_LIFETIME
    issuer: str | None = None
    version: Literal["1.0", "2.0"] | None = None


@dataclass(slots=True)
class Entra:
    """The directory of all tenants. An app without a registration gets a token with any secret."""

    base_url: str
    keys: KeyRing = field(default_factory=lambda: KeyRing("Entra, simulated"))
    apps: dict[str, AppRegistration] = field(default_factory=dict)
    identity: ManagedIdentity = field(default_factory=ManagedIdentity)

    def reset(self) -> None:
        """Remove all app registrations, and restore the default managed identity."""
        self.apps.clear()
        self.identity = ManagedIdentity()

    def issuer(self, tenant_id: str) -> str:
        """Return the issuer of a tenant's v2 tokens, which is the same on http and https."""
        return f"{self.base_url}/{tenant_id}/v2.0"

    def jwks(self) -> list[Json]:
        """Return the keys of Entra's key set, each with its issuer and its cloud."""
        return self.keys.jwks(issuer=self.issuer(_ANY_TENANT), cloud_instance_name=CLOUD_INSTANCE)

    def is_graph(self, audience: str) -> bool:
        """True if this audience is Graph: one of the real Graph's names, or a loopback address as the simulator's."""
        return audience in {GRAPH_APP_ID, *GRAPH_HOSTS} or _is_loopback_url(audience)

    def roles(self, app_id: str, audience: str) -> tuple[str, ...]:
        """Return the roles that an app has in the API of this audience."""
        app = self.apps.get(app_id.lower())
        if app is not None and audience in app.audiences:
            return app.audiences[audience]
        if self.is_graph(audience):
            return app.roles if app is not None else GRAPH_ROLES
        return ()

    def issue_for(self, app_id: str, tenant_id: str, audience: str) -> str:
        """Return the token that an app gets for an audience, as requested: for Graph, another API, or the app itself.

        Raises
        ------
        Refusal
            400 if the app's registration says that Entra refuses tokens for this audience.
        """
        app = self.apps.get(app_id, AppRegistration())
        if audience in app.refused_audiences:
            raise _refused_audience(app_id, tenant_id, audience, app.refused_audiences[audience])
        roles = self.roles(app_id, audience)
        if audience.lower() not in {app_id, f"api://{app_id}"}:
            return self.issue(TokenSpec(app_id, tenant_id, audience, roles))
        version = app.own_token_version
        # Entra: in v2 tokens `aud` is always the API's client id, in v1 tokens it is the requested resource.
        return self.issue(
            TokenSpec(app_id, tenant_id, app_id if version == "2.0" else audience, roles, version=version)
        )

    def issue(self, spec: TokenSpec) -> str:
        """Return a signed app-only access token. Its times are real."""
        now, lifetime = int(time.time()), int(spec.lifetime.total_seconds())
        begin = now + min(lifetime - 1, 0)  # before the expiry, even if that is in the past
        subject = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{spec.tenant_id}/{spec.app_id}"))
        claims: dict[str, Json] = {
            "aud": spec.audience,
            "iss": spec.issuer or self._issuer(spec),
            "iat": begin,
            "nbf": begin,
            "exp": now + lifetime,
            **_app_claims(spec),
            "idtyp": "app",
            "oid": subject,
            "sub": subject,
            "tid": spec.tenant_id,
            "uti": uuid.uuid4().hex,
            "ver": spec.version or "2.0",
        }
        return self.keys.current.sign(claims | ({"roles": spec.roles} if spec.roles else {}))

    def _issuer(self, spec: TokenSpec) -> str:
        return V1_ISSUER.format(spec.tenant_id) if spec.version == "1.0" else self.issuer(spec.tenant_id)


def _app_claims(spec: TokenSpec) -> dict[str, Json]:
    """Return the claims that name the calling app in a token of this version."""
    v1, v2 = {"appid": spec.app_id, "appidacr": "1"}, {"azp": spec.app_id, "azpacr": "1"}
    match spec.version:
        case "1.0":
            return {**v1}
        case "2.0":
            return {**v2}
        case _:
            return {**v1, **v2}


def routes(entra: Entra, middleware: Middleware) -> list[Route]:
    """Return Entra's routes."""
    handlers = _Handlers(entra)
    return [
        middleware.route("POST", "/{tenant}/oauth2/v2.0/token", OperationName.TOKEN, handlers.token, entra_error),
        middleware.route(
            "GET",
            "/{tenant}/v2.0/.well-known/openid-configuration",
            OperationName.DISCOVERY,
            handlers.metadata,
            entra_error,
        ),
        middleware.route("GET", "/{tenant}/discovery/v2.0/keys", OperationName.KEYS, handlers.key_set, entra_error),
        middleware.route("GET", "/common/discovery/instance", OperationName.DISCOVERY, handlers.instance, entra_error),
        middleware.route("GET", "/msi/token", OperationName.IDENTITY, handlers.managed_identity, entra_error),
    ]


@dataclass(frozen=True, slots=True)
class _Handlers:
    entra: Entra

    async def token(self, request: Request) -> Response:
        """Issue a token for client credentials: a secret or an assertion."""
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        tenant, app_id = request.path_params["tenant"].lower(), form.get("client_id", "").lower()
        if form.get("grant_type") != "client_credentials":
            raise Refusal(400, "unsupported_grant_type", "AADSTS70003: The simulator supports only client_credentials.")
        if not app_id:
            raise Refusal(400, "invalid_request", "AADSTS900144: The request body must contain: 'client_id'.")
        self._authenticate_app(tenant, app_id, form)
        token = self.entra.issue_for(app_id, tenant, _audience(form.get("scope", "")))
        content = {
            "token_type": "Bearer",
            "expires_in": _EXPIRES_IN,
            "ext_expires_in": _EXPIRES_IN,
            "access_token": token,
        }
        return JSONResponse(content, headers={"Cache-Control": "no-store"})

    async def metadata(self, request: Request) -> Response:
        """Return OpenID metadata, whose URLs begin with the base URL of the request."""
        base, tenant = str(request.base_url).rstrip("/"), request.path_params["tenant"]
        return JSONResponse(
            {
                "issuer": self.entra.issuer(_ANY_TENANT if tenant in _ALL_TENANTS else tenant),
                "cloud_instance_name": CLOUD_INSTANCE,
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
        """Return the keys with which Entra signs."""
        return JSONResponse({"keys": self.entra.jwks()})

    async def instance(self, request: Request) -> Response:
        """Return the instance discovery document: this authority exists, and is its own only alias."""
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
        """Issue a token as App Service's local endpoint does, api-version 2019-08-01."""
        if not request.headers.get("x-identity-header"):
            raise Refusal(401, "invalid_request", "The header X-IDENTITY-HEADER is missing.")
        if request.query_params.get("api-version") != "2019-08-01" or "resource" not in request.query_params:
            raise Refusal(400, "invalid_request", "api-version=2019-08-01 and resource are required.")
        identity, resource = self.entra.identity, request.query_params["resource"]
        app_id = request.query_params.get("client_id", identity.app_id).lower()
        token = self.entra.issue_for(app_id, identity.tenant_id, resource.removesuffix("/.default").rstrip("/"))
        expires_on = str(int(time.time()) + _EXPIRES_IN)
        content = {"access_token": token, "expires_on": expires_on, "resource": resource, "token_type": "Bearer"}
        return JSONResponse(content | {"client_id": app_id})

    def _authenticate_app(self, tenant: str, app_id: str, form: dict[str, str]) -> None:
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

    def _check_assertion(self, app: AppRegistration | None, tenant: str, form: dict[str, str]) -> None:
        """Check the form, audience and times of an assertion, and its signature if the key is known."""
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

    def _assertion_key(self, app: AppRegistration | None, assertion: str) -> rsa.RSAPublicKey | None:
        """Return the key that must have signed an assertion, the certificate's or Entra's, or None if it is unknown."""
        if app is not None and app.certificate is not None:
            key = load_pem_x509_certificate(app.certificate.encode()).public_key()
            return key if isinstance(key, rsa.RSAPublicKey) else None
        own = self.entra.keys.find(str(jwt.get_unverified_header(assertion).get("kid")))
        return own.public if own is not None else None


def _refused_audience(app_id: str, tenant_id: str, audience: str, reason: AudienceRefusal) -> Refusal:
    """Return Entra's refusal of a token for an audience. Its error names are observed, its numbers documented."""
    if reason is AudienceRefusal.ASSIGNMENT_REQUIRED:
        message = f"AADSTS501051: Application '{app_id}' is not assigned to a role for the application '{audience}'."
        return Refusal(400, "invalid_grant", message)
    message = f"AADSTS500011: The resource principal named {audience} was not found in the tenant named {tenant_id}."
    return Refusal(400, "invalid_resource", message)


def _audience(scope: str) -> str:
    resource = scope.removesuffix("/.default")
    if not resource or resource == scope or " " in scope:
        message = f"AADSTS1002012: The provided value for scope '{scope}' is not valid: it must be <resource>/.default."
        raise Refusal(400, "invalid_scope", message)
    return resource.rstrip("/")


def _is_loopback_url(audience: str) -> bool:
    return audience.startswith(("http://127.0.0.1", "http://localhost", "https://127.0.0.1", "https://localhost"))
