"""The kinds of tokens that come in: who issues them, what signs them, for whom they are, and who may send them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from shared.clouds import CLOUDS
from shared.identifiers import lower_guids
from shared.key_binding import ANY_TENANT, ENTRA_V1_ISSUER, resolved
from shared.signing_keys import SigningKeys

if TYPE_CHECKING:
    from shared.settings import Settings

LEGACY = "legacy"
ENTRA = "entra"
MANAGEMENT = "management"

type MakeKeys = Callable[[tuple[str, ...]], SigningKeys]


@dataclass(frozen=True, slots=True)
class TokenKind:
    """One kind of token that a door takes.

    Parameters
    ----------
    name
        What logs call it.
    issuers
        What `iss` may be. `{tenantid}` stands for the token's `tid`; one slash at the end is ignored.
    audiences
        What `aud` may be.
    keys
        What such tokens are signed with.
    callers
        The client ids, in lower case, that `appid` or `azp` must be one of; None: it is not looked at.
    """

    name: str
    issuers: tuple[str, ...]
    audiences: frozenset[str]
    keys: SigningKeys
    callers: frozenset[str] | None = None

    def is_issued_by(self, issuer: str, tenant_id: str) -> bool:
        """Whether an issuer, in its canonical form, issues this kind for a tenant."""
        return any(resolved(mine, tenant_id) == issuer for mine in self.issuers)

    def lets_in(self, app_id: str | None) -> bool:
        """Whether a calling app may send it."""
        return self.callers is None or app_id in self.callers


def of_notifications(settings: "Settings", make_keys: MakeKeys) -> tuple[TokenKind, ...]:
    """What the webhook takes: Entra's tokens, and those of the calling service's own issuer.

    Graph moves from the second kind to the first; when is not published, so both are always taken. Any app of any
    tenant may get a token of Entra for the bot's audience: the list of calling apps makes that kind safe, so it is
    never without one. An Entra issuer in NOTIFICATION_ISSUERS does not go around the list, as this kind is asked first.
    """
    callers = frozenset(settings.notification_app_ids)
    entra = TokenKind(
        name=ENTRA,
        issuers=entra_issuers(settings.authority),
        audiences=frozenset(settings.apps.ids),
        keys=make_keys((entra_metadata_url(settings.authority),)),
        callers=callers or settings.cloud.notification_callers,
    )
    legacy = TokenKind(
        name=LEGACY,
        issuers=tuple(issuer for issuer in settings.notification_issuers if not _is_entras(issuer)),
        audiences=frozenset(settings.apps.audiences),
        keys=make_keys(settings.notification_metadata_urls),
        callers=callers or None,
    )
    return entra, legacy


def of_management(settings: "Settings", make_keys: MakeKeys) -> tuple[TokenKind, ...]:
    """What management routes take; nothing if the function key is all that is asked for."""
    if not settings.management_audience:
        return ()
    urls = tuple(filter(None, (settings.management_metadata_url,)))  # without one no token is good
    audiences = frozenset(map(lower_guids, settings.management_audience))
    return (TokenKind(MANAGEMENT, settings.management_issuers, audiences, make_keys(urls)),)


def entra_issuers(authority: str) -> tuple[str, ...]:
    """The issuers of Entra's v2 and v1 tokens, for any tenant."""
    return (f"{authority}/{ANY_TENANT}/v2.0", ENTRA_V1_ISSUER)


def entra_metadata_url(authority: str) -> str:
    """Entra's OpenID metadata for all tenants."""
    return f"{authority}/common/v2.0/.well-known/openid-configuration"


def _is_entras(issuer: str) -> bool:
    known = (ENTRA_V1_ISSUER, *(cloud.authority for cloud in CLOUDS.values()))
    return urlsplit(issuer).hostname in {urlsplit(each).hostname for each in known}
