"""Which calls a caller of the management routes may see and touch."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shared.calls import Call
from shared.errors import Forbidden
from shared.identifiers import guid

MOST_TENANTS = 10  # of one caller: Table Storage takes 15 comparisons in a filter
ANYBODY = "*"  # who is named by no other entry of MANAGEMENT_CALLERS
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Scope:
    """The calls of these tenants; None: all calls. What lies outside is to be as if it did not exist."""

    tenants: frozenset[str] | None = None

    @property
    def everything(self) -> bool:
        """Whether it is bound to nothing."""
        return self.tenants is None

    def holds(self, call: Call) -> bool:
        """Whether a call lies within."""
        return self.covers(call.tenant_id)

    def covers(self, tenant_id: str) -> bool:
        """Whether a tenant's calls lie within."""
        return self.tenants is None or tenant_id.lower() in self.tenants

    def narrowed(self, tenant_id: str | None) -> frozenset[str] | None:
        """The tenants to list where one was asked for, or none; None: all."""
        if tenant_id is None:
            return self.tenants
        return frozenset({tenant_id.lower()} if self.covers(tenant_id) else ())


EVERYTHING = Scope()


def scope_of(app_id: str | None, callers: Mapping[str, Scope] | None) -> Scope:
    """What a caller may see by MANAGEMENT_CALLERS; everything where that is not set.

    Raises
    ------
    Forbidden
        It is set, and names neither this caller nor `*`.
    """
    if callers is None:
        return EVERYTHING
    scope = callers.get((app_id or "").lower()) or callers.get(ANYBODY)
    if scope is None:
        raise Forbidden("The token's app is not named in MANAGEMENT_CALLERS, and neither is `*`.")
    return scope


def read_callers(value: object) -> object:
    """MANAGEMENT_CALLERS, from its text.

    Raises
    ------
    ValueError
        It is not as it should be; the message says what to write, and repeats nothing of it.
    """
    if not isinstance(value, str):
        return value
    try:
        given = json.loads(value, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON object, a caller once in it") from None
    if not isinstance(given, dict) or not given:
        raise ValueError('must be a JSON object of client ids, such as {"<client id>": {"tenants": ["<tenant id>"]}}')
    return {_caller(name): _scope(bound) for name, bound in given.items()}


def _once(pairs: Collection[tuple[str, object]]) -> dict[str, object]:
    members = {name.lower(): value for name, value in pairs}
    if len(members) < len(pairs):
        raise ValueError("twice")
    return members


def _caller(name: str) -> str:
    if name == ANYBODY:
        return name
    try:
        return guid(name)
    except ValueError:
        raise ValueError("names a caller that is neither a client id (a GUID) nor `*`") from None


def _scope(bound: object) -> Scope:
    if bound == _ALL:
        return EVERYTHING
    match bound:
        case {"tenants": [*tenants], **others} if not others and 1 <= len(tenants) <= MOST_TENANTS:
            try:
                return Scope(frozenset(guid(str(tenant)) for tenant in tenants))
            except ValueError:
                raise ValueError("names a tenant that is no GUID") from None
    raise ValueError(f'gives each caller "{_ALL}", or {{"tenants": […]}} with 1 to {MOST_TENANTS} tenants by GUID')
