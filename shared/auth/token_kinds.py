"""The kinds of inbound tokens: their issuers, keys, audiences and permitted senders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.auth.key_binding import ANY_TENANT, ENTRA_V1_ISSUER, resolve_issuer
from shared.auth.signing_keys import SigningKeys
from shared.config.clouds import CLOUDS
from shared.identifiers import canonical_issuer, is_guid, lower_guids
from shared.urls import is_loopback, origin

if TYPE_CHECKING:
    from shared.config.settings import Settings

LEGACY_KIND = "legacy"
ENTRA_KIND = "entra"
MANAGEMENT_KIND = "management"

_AUTHORITIES = frozenset(cloud.authority for cloud in CLOUDS.values())
# Hosts of Entra's issuers in all clouds, older names included.
_ENTRA_HOSTS = frozenset(
    {
        "sts.windows.net",
        "sts.chinacloudapi.cn",
        "login.windows.net",
        "login.microsoft.com",
        "login.chinacloudapi.cn",
        "login.partner.microsoftonline.cn",
        *(host for authority in _AUTHORITIES if (host := urlsplit(authority).hostname)),
    }
)

type MakeKeys = Callable[[tuple[str, ...]], SigningKeys]


@dataclass(frozen=True, slots=True)
class TokenKind:
    """One kind of token that a route accepts.

    Parameters
    ----------
    name
        The name in logs.
    issuers
        The accepted values of `iss`; one final slash is ignored.
    audiences
        The accepted values of `aud`.
    keys
        The keys that sign such tokens.
    callers
        The accepted client ids in `appid` or `azp`, in lower case. None: any.
    is_for_any_tenant
        True if `{tenantid}` in an issuer stands for the token's `tid`. It does not in an issuer from a setting.
    """

    name: str
    issuers: tuple[str, ...]
    audiences: frozenset[str]
    keys: SigningKeys
    callers: frozenset[str] | None = None
    is_for_any_tenant: bool = False

    def is_issued_by(self, issuer: str, tenant_id: str) -> bool:
        """True if an issuer, in its canonical form, issues this kind for a tenant."""
        if self.is_for_any_tenant:
            return any(resolve_issuer(mine, tenant_id) == issuer for mine in self.issuers)
        return any(canonical_issuer(mine) == issuer for mine in self.issuers)

    def may_be_sent_by(self, app_id: str | None) -> bool:
        """True if a calling app may send this kind."""
        return self.callers is None or app_id in self.callers


def notification_token_kinds(settings: "Settings", make_keys: MakeKeys) -> tuple[TokenKind, ...]:
    """Return the kinds that the webhook accepts: Entra's tokens, and those of the calling service's own issuer.

    Graph is moving from the second kind to the first. No date is published, so both are always accepted. Any app of any
    tenant can get a token of Entra for the bot's audience, so only the list of calling apps makes that kind safe.
    Issuers and metadata of Entra in settings therefore belong to that kind: they must not bypass the list.
    """
    callers = frozenset(settings.notification_app_ids)
    entra_named_issuers, issuers = _split_entra(settings.notification_issuers)
    entra_urls, urls = _split_entra(settings.notification_metadata_urls)
    authorities = _authorities_of(settings)
    entra = TokenKind(
        name=ENTRA_KIND,
        issuers=(*(issuer for each in authorities for issuer in entra_issuers(each)), *entra_named_issuers),
        audiences=frozenset({*settings.apps.ids, *filter(is_guid, settings.apps.audiences)}),
        keys=make_keys(tuple(dict.fromkeys((*map(entra_metadata_url, authorities), *entra_urls)))),
        callers=callers or settings.cloud.notification_callers,
        is_for_any_tenant=True,
    )
    legacy = TokenKind(LEGACY_KIND, issuers, frozenset(settings.apps.audiences), make_keys(urls), callers or None)
    return (entra, legacy) if issuers and urls else (entra,)


def management_token_kinds(settings: "Settings", make_keys: MakeKeys) -> tuple[TokenKind, ...]:
    """Return the kinds that management routes accept. Empty if the function key is enough."""
    if not settings.management_audience:
        return ()
    urls = tuple(filter(None, (settings.management_metadata_url,)))  # without a URL no token is accepted
    audiences = frozenset(map(lower_guids, settings.management_audience))
    return (TokenKind(MANAGEMENT_KIND, settings.management_issuers, audiences, make_keys(urls)),)


def entra_metadata_urls(settings: "Settings") -> tuple[str, ...]:
    """Return the URLs of Entra's OpenID metadata that verify notifications."""
    return tuple(map(entra_metadata_url, _authorities_of(settings)))


def entra_issuers(authority: str) -> tuple[str, ...]:
    """Return the issuers of Entra's v2 and v1 tokens, for any tenant."""
    return (f"{authority}/{ANY_TENANT}/v2.0", ENTRA_V1_ISSUER)


def entra_metadata_url(authority: str) -> str:
    """Return the URL of Entra's OpenID metadata for all tenants."""
    return f"{authority}/common/v2.0/.well-known/openid-configuration"


def _authorities_of(settings: "Settings") -> tuple[str, ...]:
    """Return the authorities whose tokens Graph may send: that of the cloud, or a simulator on this machine.

    AZURE_AUTHORITY_HOST may name an alias or a proxy for the app's own tokens. Issuers of tokens never name these, so
    the authority of GRAPH_CLOUD is used instead. Authorities in NOTIFICATION_ISSUERS are added.
    """
    own = origin(settings.authority)
    used = own if own in _AUTHORITIES or is_loopback(own) else settings.cloud.authority
    named = {origin(issuer) for issuer in settings.notification_issuers if "://" in issuer} & _AUTHORITIES
    return (used, *sorted(named - {used}))


def _split_entra(addresses: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split addresses into those of Entra and the others."""
    entra_addresses = tuple(address for address in addresses if urlsplit(address).hostname in _ENTRA_HOSTS)
    return entra_addresses, tuple(address for address in addresses if address not in entra_addresses)
