"""The kinds of tokens that come in: who issues them, what signs them, for whom they are, and who may send them."""

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
# Hosts of Entra's issuers in all clouds, older names too.
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
    """One kind of token that a door takes.

    Parameters
    ----------
    name
        What logs call it.
    issuers
        What `iss` may be; one slash at the end is ignored.
    audiences
        What `aud` may be.
    keys
        What such tokens are signed with.
    callers
        The client ids, in lower case, that `appid` or `azp` must be one of; None: it is not looked at.
    is_for_any_tenant
        Whether `{tenantid}` in an issuer stands for the token's `tid`. In an issuer that a setting names it does not.
    """

    name: str
    issuers: tuple[str, ...]
    audiences: frozenset[str]
    keys: SigningKeys
    callers: frozenset[str] | None = None
    is_for_any_tenant: bool = False

    def is_issued_by(self, issuer: str, tenant_id: str) -> bool:
        """Whether an issuer, in its canonical form, issues this kind for a tenant."""
        if self.is_for_any_tenant:
            return any(resolve_issuer(mine, tenant_id) == issuer for mine in self.issuers)
        return any(canonical_issuer(mine) == issuer for mine in self.issuers)

    def may_be_sent_by(self, app_id: str | None) -> bool:
        """Whether a calling app may send it."""
        return self.callers is None or app_id in self.callers


def notification_token_kinds(settings: "Settings", make_keys: MakeKeys) -> tuple[TokenKind, ...]:
    """What the webhook takes: Entra's tokens, and those of the calling service's own issuer.

    Graph moves from the second kind to the first; when is not published, so both are always taken. Any app of any
    tenant may get a token of Entra for the bot's audience: the list of calling apps makes that kind safe. So issuers
    and metadata of Entra that settings name belong to that kind, and do not go around the list.
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
    """What management routes take; nothing if the function key is all that is asked for."""
    if not settings.management_audience:
        return ()
    urls = tuple(filter(None, (settings.management_metadata_url,)))  # without one no token is good
    audiences = frozenset(map(lower_guids, settings.management_audience))
    return (TokenKind(MANAGEMENT_KIND, settings.management_issuers, audiences, make_keys(urls)),)


def entra_metadata_urls(settings: "Settings") -> tuple[str, ...]:
    """Entra's OpenID metadata for all tenants, by which notifications are verified."""
    return tuple(map(entra_metadata_url, _authorities_of(settings)))


def entra_issuers(authority: str) -> tuple[str, ...]:
    """The issuers of Entra's v2 and v1 tokens, for any tenant."""
    return (f"{authority}/{ANY_TENANT}/v2.0", ENTRA_V1_ISSUER)


def entra_metadata_url(authority: str) -> str:
    """Entra's OpenID metadata for all tenants."""
    return f"{authority}/common/v2.0/.well-known/openid-configuration"


def _authorities_of(settings: "Settings") -> tuple[str, ...]:
    """The authority whose tokens Graph sends: a cloud's, or this machine's simulator.

    An alias or a proxy, as AZURE_AUTHORITY_HOST may name one for the app's own tokens, is in no token's issuer. Clouds
    that an issuer of NOTIFICATION_ISSUERS names are added.
    """
    own = origin(settings.authority)
    used = own if own in _AUTHORITIES or is_loopback(own) else settings.cloud.authority
    named = {origin(issuer) for issuer in settings.notification_issuers if "://" in issuer} & _AUTHORITIES
    return (used, *sorted(named - {used}))


def _split_entra(addresses: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of Entra, and the others."""
    entra_addresses = tuple(address for address in addresses if urlsplit(address).hostname in _ENTRA_HOSTS)
    return entra_addresses, tuple(address for address in addresses if address not in entra_addresses)
