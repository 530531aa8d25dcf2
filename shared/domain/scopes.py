"""Which calls a caller of the management routes may see and touch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from shared.domain.calls import Call
from shared.errors import Forbidden
from shared.identifiers import canonical_guid
from shared.untrusted_json import refuse_duplicates

MAX_SCOPE_IDS = 10  # tenants and apps of a caller: Table Storage takes 15 comparisons in a filter, the keys have 3
ANY_CALLER = "*"  # who is named by no other entry of MANAGEMENT_CALLERS
_ALL_CALLS = "all"
_MEMBERS = {"tenants", "apps"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The calls of these tenants and these apps; None: of all. What lies outside is to be as if it did not exist."""

    tenants: frozenset[str] | None = None
    apps: frozenset[str | None] | None = None  # None among them: calls that were written down before calls had an app

    @property
    def is_unrestricted(self) -> bool:
        """Whether it is bound to nothing."""
        return self == UNRESTRICTED

    @property
    def is_empty(self) -> bool:
        """Whether no call can lie within."""
        return frozenset() in {self.tenants, self.apps}

    def contains(self, call: Call) -> bool:
        """Whether a call lies within."""
        return self.covers_tenant(call.tenant_id) and self.covers_app(call.app_id)

    def covers_tenant(self, tenant_id: str) -> bool:
        """Whether a tenant's calls may lie within."""
        return self.tenants is None or tenant_id.lower() in self.tenants

    def covers_app(self, app_id: str | None) -> bool:
        """Whether an app's calls may lie within."""
        return self.apps is None or app_id in self.apps

    def narrow_to(self, tenant_id: str | None) -> Self:
        """What of it is of a tenant, if one is named."""
        if tenant_id is None:
            return self
        return replace(self, tenants=frozenset({tenant_id.lower()} if self.covers_tenant(tenant_id) else ()))

    def with_appless_calls(self, default_app_id: str) -> Self:
        """The same where calls without an app are those of the default app."""
        if self.apps is None or default_app_id not in self.apps:
            return self
        return replace(self, apps=self.apps | {None})


UNRESTRICTED = Scope()


def scope_of(client: str, callers: Mapping[str, Scope] | None) -> Scope:
    """What a client, as `Settings.management_client` writes it, may see by MANAGEMENT_CALLERS; everything if not set.

    Raises
    ------
    Forbidden
        It is set, and names neither this client nor `*`; or it names this client id for another tenant alone: who is
        bound by name is never anybody.
    """
    if callers is None:
        return UNRESTRICTED
    app_id = client.partition("@")[0]
    named = any(name.partition("@")[0] == app_id for name in callers)
    scope = callers.get(client) if named else callers.get(ANY_CALLER)
    if scope is None:
        raise Forbidden("The token's app is not named in MANAGEMENT_CALLERS for its tenant, and neither is `*`.")
    return scope


def parse_callers(value: object) -> object:
    """MANAGEMENT_CALLERS, from its text.

    Raises
    ------
    ValueError
        It is not as it should be; the message says what to write, and repeats nothing of it.
    """
    if not isinstance(value, str):
        return value
    try:
        given = json.loads(value, object_pairs_hook=_unique_callers)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object, a caller once in it") from None
    if not isinstance(given, dict) or not given:
        raise ValueError('must be a JSON object of client ids, such as {"<client id>": {"tenants": ["<tenant id>"]}}')
    return {_parse_caller(name): _parse_scope(given_scope) for name, given_scope in given.items()}


def _unique_callers(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """Refuse a client id that is named twice, in any case."""
    return refuse_duplicates((name.lower(), value) for name, value in pairs)


def _parse_caller(name: str) -> str:
    if name == ANY_CALLER:
        return name
    try:
        return "@".join(map(canonical_guid, name.split("@", maxsplit=1)))
    except ValueError:
        raise ValueError(
            "names a caller that is neither a client id (a GUID), nor `<client id>@<tenant id>`, nor `*`"
        ) from None


def _parse_scope(given: object) -> Scope:
    if given == _ALL_CALLS:
        return UNRESTRICTED
    if isinstance(given, dict) and given and given.keys() <= _MEMBERS:
        parts = {name: _parse_guids(ids) for name, ids in given.items()}
        if sum(map(len, given.values())) <= MAX_SCOPE_IDS:
            return Scope(**parts)
    raise ValueError(
        f'gives each caller "{_ALL_CALLS}", or an object with "tenants", "apps" or both: lists of GUIDs, '
        f"none of them empty, {MAX_SCOPE_IDS} in all at most"
    )


def _parse_guids(ids: object) -> frozenset[str]:
    if not isinstance(ids, list) or not ids:
        raise ValueError("gives a caller tenants or apps that are no list, or an empty one")
    try:
        return frozenset(canonical_guid(str(each)) for each in ids)
    except ValueError:
        raise ValueError("names a tenant or an app that is no GUID") from None
