"""Lists of calls over all shards: the sorted lists of sixteen shards, merged page by page."""

import asyncio
import heapq
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.domain.calls import Call, Status, canonical_id
from shared.domain.scopes import Scope
from shared.errors import InvalidRequest
from shared.storage.rows import SHARDS, id_of_key, prefix_range
from shared.storage.table import KeyRange, sort_key

CONTINUATION_VERSION = 2  # a continuation of another version is refused
_ROW_PREFIXES = {Status.ACTIVE: "active", Status.ENDED: "recent"}

type Fetch = Callable[[int, KeyRange, int], Awaitable[list[tuple[str, Call | None]]]]
"""Takes a shard, a range and a limit. Returns the first rows of the range by key; fewer than the limit are all rows.

None instead of a call means that its row cannot be read.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of calls. `continuation` asks for the next page; it is None after the last one.

    `unreadable` has the ids of the calls of this page whose rows cannot be read.
    """

    calls: tuple[Call, ...]
    continuation: str | None
    unreadable: tuple[str, ...] = ()


async def list_page(fetch: Fetch, status: Status, scope: Scope, limit: int, continuation: str | None) -> Page:
    """Return one page of calls, in the order of their keys.

    Raises
    ------
    InvalidRequest
        The continuation is not one of ours, or belongs to another list.
    """
    key_range = prefix_range(_ROW_PREFIXES[status])
    if continuation is not None:
        key_range = KeyRange(_last_key(continuation, status, scope, key_range), key_range.below)
    rows = await _merge(fetch, key_range, limit + 1)
    has_more = len(rows) > limit > 0
    return Page(
        tuple(call for _, call in rows[:limit] if call),
        _continuation(status, scope, rows[limit - 1][0]) if has_more else None,
        tuple(id_of_key(key) for key, call in rows[:limit] if not call),
    )


async def _merge(fetch: Fetch, key_range: KeyRange, count: int) -> list[tuple[str, Call | None]]:
    """Return the first rows of all shards. Each shard is asked for about its share, and again if it has more."""
    share = 2 * count // SHARDS + 4
    heads = await asyncio.gather(*(fetch(shard, key_range, share) for shard in range(SHARDS)))
    waiting = [iter(head) for head in heads]
    heap: list[tuple[bytes, int, str, Call | None]] = []
    rows: list[tuple[str, Call | None]] = []

    def push(shard: int) -> bool:
        for key, call in waiting[shard]:
            heapq.heappush(heap, (sort_key(key), shard, key, call))
            return True
        return False

    for shard in range(SHARDS):
        push(shard)
    while heap and len(rows) < count:
        _, shard, key, call = heapq.heappop(heap)
        rows.append((key, call))
        if not push(shard) and len(heads[shard]) == share:
            heads[shard] = await fetch(shard, KeyRange(key, key_range.below), share)
            waiting[shard] = iter(heads[shard])
            push(shard)
    return rows


def _continuation(status: Status, scope: Scope, key: str) -> str:
    return (
        urlsafe_b64encode(json.dumps([CONTINUATION_VERSION, status, _scope_ids(scope), key]).encode())
        .decode()
        .rstrip("=")
    )


def _last_key(continuation: str, status: Status, scope: Scope, key_range: KeyRange) -> str:
    try:
        text = urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4))
        match json.loads(text):
            case [version, its_status, its_scope, str(key)] if (version, its_status, its_scope) == (
                CONTINUATION_VERSION,
                status,
                _scope_ids(scope),
            ) and _is_key(key, key_range):
                return key
    except (ValueError, RecursionError, InvalidRequest):  # no base64, UTF-8 or JSON, or no id
        pass
    detail = (
        "It is not the continuation of this list. Take the one that the page before gave, with the same parameters."
    )
    raise InvalidRequest("The continuation cannot be used.", (("continuation", detail),))


def _scope_ids(scope: Scope) -> list[list[str] | None]:
    return [None if ids is None else sorted(each or "" for each in ids) for ids in (scope.tenants, scope.apps)]


def _is_key(key: str, key_range: KeyRange) -> bool:
    """True if it can be a key of this list. Nothing else may get into a query of Table Storage."""
    call_id = id_of_key(key)
    head = key.removesuffix(call_id)
    is_in_range = sort_key(key_range.above) < sort_key(key) < sort_key(key_range.below)
    return is_in_range and head.isascii() and head.isprintable() and canonical_id(call_id) == call_id
