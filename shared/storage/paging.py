"""Lists of records over all shards: the sorted lists of sixteen shards, merged page by page."""

import asyncio
import heapq
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.domain.calls import canonical_id
from shared.domain.scopes import Scope
from shared.errors import InvalidRequest
from shared.storage.rows import SHARDS, id_of_key, prefix_range
from shared.storage.table import KeyRange, sort_key

CONTINUATION_VERSION = 3  # a continuation of another version is refused

type Fetch[T] = Callable[[int, KeyRange, int], Awaitable[list[tuple[str, T | None]]]]
"""Takes a shard, a range and a limit. Returns the first rows of the range by key; fewer than the limit are all rows.

None instead of a record means that its row cannot be read.
"""


@dataclass(frozen=True, slots=True)
class Page[T]:
    """A page of records. `continuation` asks for the next page; it is None after the last one.

    `unreadable` has the ids of the calls of this page whose rows cannot be read.
    """

    records: tuple[T, ...]
    continuation: str | None
    unreadable: tuple[str, ...] = ()


async def list_page[T](fetch: Fetch[T], prefix: str, scope: Scope, limit: int, continuation: str | None) -> Page[T]:
    """Return one page of the records whose keys begin with `prefix`, in the order of their keys.

    Raises
    ------
    InvalidRequest
        The continuation is not one of ours, or belongs to another list.
    """
    key_range = prefix_range(prefix)
    if continuation is not None:
        key_range = KeyRange(_last_key(continuation, prefix, scope, key_range), key_range.below)
    rows = await _merge(fetch, key_range, limit + 1)
    has_more = len(rows) > limit > 0
    return Page(
        tuple(record for _, record in rows[:limit] if record),
        _continuation(prefix, scope, rows[limit - 1][0]) if has_more else None,
        tuple(id_of_key(key) for key, record in rows[:limit] if not record),
    )


async def _merge[T](fetch: Fetch[T], key_range: KeyRange, count: int) -> list[tuple[str, T | None]]:
    """Return the first rows of all shards. Each shard is asked for about its share, and again if it has more."""
    share = 2 * count // SHARDS + 4
    heads = await asyncio.gather(*(fetch(shard, key_range, share) for shard in range(SHARDS)))
    waiting = [iter(head) for head in heads]
    heap: list[tuple[bytes, int, str, T | None]] = []
    rows: list[tuple[str, T | None]] = []

    def push(shard: int) -> bool:
        for key, record in waiting[shard]:
            heapq.heappush(heap, (sort_key(key), shard, key, record))
            return True
        return False

    for shard in range(SHARDS):
        push(shard)
    while heap and len(rows) < count:
        _, shard, key, record = heapq.heappop(heap)
        rows.append((key, record))
        if not push(shard) and len(heads[shard]) == share:
            heads[shard] = await fetch(shard, KeyRange(key, key_range.below), share)
            waiting[shard] = iter(heads[shard])
            push(shard)
    return rows


def _continuation(prefix: str, scope: Scope, key: str) -> str:
    return (
        urlsafe_b64encode(json.dumps([CONTINUATION_VERSION, prefix, _scope_ids(scope), key]).encode())
        .decode()
        .rstrip("=")
    )


def _last_key(continuation: str, prefix: str, scope: Scope, key_range: KeyRange) -> str:
    try:
        text = urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4))
        match json.loads(text):
            case [version, its_prefix, its_scope, str(key)] if (version, its_prefix, its_scope) == (
                CONTINUATION_VERSION,
                prefix,
                _scope_ids(scope),
            ) and _is_key(key, key_range):
                return key
    except (ValueError, RecursionError, InvalidRequest):  # no base64, UTF-8 or JSON, or no id
        pass
    detail = (
        "It is not the continuation of this list. Take the one that the page before gave, with the same parameters."
    )
    raise InvalidRequest("The continuation cannot be used.", (("continuation", detail),))


def matching_scope(scope: Scope) -> dict[str, list[str]]:
    """Return the part of a scope that Table Storage can filter by.

    A query cannot ask for rows without an app. If the scope includes them, rows of all apps are read.
    """
    ids_by_column = {"tenantId": scope.tenants, "appId": scope.apps}
    return {
        column: sorted(map(str, ids)) for column, ids in ids_by_column.items() if ids is not None and None not in ids
    }


def _scope_ids(scope: Scope) -> list[list[str] | None]:
    return [None if ids is None else sorted(each or "" for each in ids) for ids in (scope.tenants, scope.apps)]


def _is_key(key: str, key_range: KeyRange) -> bool:
    """True if it can be a key of this list. Nothing else may get into a query of Table Storage."""
    call_id = id_of_key(key)
    head = key.removesuffix(call_id)
    is_in_range = sort_key(key_range.above) < sort_key(key) < sort_key(key_range.below)
    return is_in_range and head.isascii() and head.isprintable() and canonical_id(call_id) == call_id
