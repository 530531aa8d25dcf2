"""The rule which key may sign for which issuer and tenant, for tokens of notifications and of management.

Sources: RFC 8725, 3.8; Microsoft.IdentityModel.Validators (IDX40004, IDX40005, IDX40012). The table is in
docs/security.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.identifiers import canonical_issuer, guids_in

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ANY_TENANT = "{tenantid}"  # Entra: stands for a tenant in metadata and keys for all tenants
ENTRA_V1_ISSUER = (
    f"https://sts.windows.net/{ANY_TENANT}"  # Entra: the issuer of v1 tokens, in the public and the US clouds
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key with the issuers that are named for it. Each issuer may hold `{tenantid}`.

    Parameters
    ----------
    public_key
        The RSA key.
    issuer
        The issuer in the key itself: Entra's member `issuer` of a JWK.
    document_issuer
        The issuer in the OpenID metadata that lead to the key.
    """

    public_key: "RSAPublicKey"
    issuer: str | None = None
    document_issuer: str | None = None

    def owning_issuer(self, tenant_id: str) -> str | None:
        """Return the issuer that the key belongs to, for tokens of a tenant. The key's own issuer goes first."""
        return resolve_issuer(self.issuer or self.document_issuer, tenant_id)

    def signs_for(self, issuer: str, tenant_id: str) -> bool:
        """True if an issuer, in its canonical form, is that of the key.

        Entra signs v1 and v2 tokens with the same keys, but its keys name only the v2 issuer. Such a key also signs for
        the v1 issuer of the same tenant, if its document names the same v2 issuer.
        """
        owner = self.owning_issuer(tenant_id)
        if owner == issuer:
            return True
        is_v1 = issuer == resolve_issuer(ENTRA_V1_ISSUER, tenant_id)
        return is_v1 and self.issuer is not None and owner == resolve_issuer(self.document_issuer, tenant_id)

    def may_sign_for_unowned_issuer(self, tenant_id: str) -> bool:
        """True if the key may sign for an issuer that no key and no document names, such as Graph's second issuer.

        A key that names an issuer signs only for that issuer, and keys of a tenant's document only for that tenant.
        """
        tenants = guids_in(self.document_issuer or "")
        return self.issuer is None and (not tenants or tenant_id in tenants)


def resolve_issuer(issuer: str | None, tenant_id: str) -> str | None:
    """Return an issuer in its canonical form, with the tenant in place of `{tenantid}`."""
    return canonical_issuer(issuer.replace(ANY_TENANT, tenant_id)) if issuer else None


def issuer_allows_tenant(issuer: str, tenant_id: str) -> bool:
    """True if an issuer names no tenant, or this one. The sender chooses `tid`, but keys are bound to issuers."""
    return guids_in(issuer) <= {tenant_id}


def is_owned_issuer(issuer: str, tenant_id: str, keys: Iterable[SigningKey]) -> bool:
    """True if the issuer is that of one of the keys."""
    return any(key.owning_issuer(tenant_id) == issuer for key in keys)
