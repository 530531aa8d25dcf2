"""The calls that a caller of the management routes may read and manage."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from shared.domain.calls import Call
from shared.errors import Forbidden
from shared.identifiers import canonical_guid
from shared.untrusted_json import refuse_duplicates

MAX_SCOPE_IDS = 10  # tenants and apps of a caller: Table Storage allows 15 comparisons in a filter, and the keys need 3
ANY_CALLER = "*"  # callers without an entry of their own in MANAGEMENT_CALLERS
_ALL_CALLS = "all"
_MEMBERS = {"tenants", "apps"}


@dataclass(frozen=True, slots=True)
class Scope:
    """The calls of these tenants and these apps; None means all. To the caller, other calls do not exist."""

    tenants: frozenset[str] | None = None
    apps: frozenset[str | None] | None = None  # None in the set: calls recorded before calls had an app

    @property
    def is_unrestricted(self) -> bool:
        """True if the scope contains all calls."""
        return self == UNRESTRICTED

    @property
    def is_empty(self) -> bool:
        """True if the scope can contain no call."""
        return frozenset() in {self.tenants, self.apps}

    def contains(self, call: Call) -> bool:
        """True if the scope contains the call."""
        return self.covers_tenant(call.tenant_id) and self.covers_app(call.app_id)

    def covers_tenant(self, tenant_id: str) -> bool:
        """True if the scope may contain calls of the tenant."""
        return self.tenants is None or tenant_id.lower() in self.tenants

    def covers_app(self, app_id: str | None) -> bool:
        """True if the scope may contain calls of the app."""
        return self.apps is None or app_id in self.apps

    def narrow_to(self, tenant_id: str | None) -> Self:
        """Return the part of the scope for a tenant, or the whole scope for None."""
        if tenant_id is None:
            return self
        return replace(self, tenants=frozenset({tenant_id.lower()} if self.covers_tenant(tenant_id) else ()))

    def with_appless_calls(self, default_app_id: str) -> Self:
        """Return the scope with the calls without an app, if it contains the default app: they belong to it."""
        if self.apps is None or default_app_id not in self.apps:
            return self
        return replace(self, apps=self.apps | {None})


UNRESTRICTED = Scope()


def scope_of(client: str, callers: Mapping[str, Scope] | None) -> Scope:
    """Return the scope of a client by MANAGEMENT_CALLERS. Without that setting it is unrestricted.

    `client` is what `Settings.management_client` returns.

    Raises
    ------
    Forbidden
        The setting names neither this client nor `*`, or it names this client id only for another tenant: `*` does not
        apply to a client id that is named.
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
    """Parse the text of MANAGEMENT_CALLERS.

    Raises
    ------
    ValueError
        The text is not valid. The message says what to write, and repeats nothing of the text.
    """
    if not isinstance(value, str):
        return value
    try:
        given = json.loads(value, object_pairs_hook=_unique_callers)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object that names each caller once") from None
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
        f'must give each caller "{_ALL_CALLS}", or an object with "tenants", "apps" or both: lists of GUIDs, '
        f"none of them empty, {MAX_SCOPE_IDS} in all at most"
    )


def _parse_guids(ids: object) -> frozenset[str]:
    if not isinstance(ids, list) or not ids:
        raise ValueError("gives a caller tenants or apps that are not a list, or an empty list")
    try:
        return frozenset(canonical_guid(str(each)) for each in ids)
    except ValueError:
        raise ValueError("names a tenant or an app that is not a GUID") from None
