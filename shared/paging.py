"""Lists of calls over all shards: sixteen sorted lists made one, a page at a time."""

import asyncio
import heapq
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable

from shared.callers import Scope
from shared.calls import Call, Status, canonical_id
from shared.errors import InvalidRequest
from shared.rows import Window, below, last_part, order
from shared.store import SHARDS, Page

VERSION = 2  # of the continuation; another one is refused
_KINDS = {Status.ACTIVE: "active", Status.ENDED: "recent"}

type Fetch = Callable[[int, Window, int], Awaitable[list[tuple[str, Call | None]]]]
"""(shard, window, at most so many) → the first rows of the window, by key. Fewer than asked for are all there are.

None stands for a call whose row cannot be read.
"""


async def list_page(fetch: Fetch, status: Status, scope: Scope, limit: int, continuation: str | None) -> Page:
    """One page of calls, by their keys.

    Raises
    ------
    InvalidRequest
        The continuation is none of ours, or belongs to another list.
    """
    window = below(_KINDS[status])
    if continuation is not None:
        window = Window(_last_key(continuation, status, scope, window), window.below)
    rows = await _merge(fetch, window, limit + 1)
    more = len(rows) > limit > 0
    return Page(
        tuple(call for _, call in rows[:limit] if call),
        _continuation(status, scope, rows[limit - 1][0]) if more else None,
        tuple(last_part(key) for key, call in rows[:limit] if not call),
    )


async def _merge(fetch: Fetch, window: Window, count: int) -> list[tuple[str, Call | None]]:
    """The first rows of all shards. A shard is asked for about its share, and again when it turns out to have more."""
    share = 2 * count // SHARDS + 4
    heads = await asyncio.gather(*(fetch(shard, window, share) for shard in range(SHARDS)))
    waiting = [iter(head) for head in heads]
    heap: list[tuple[bytes, int, str, Call | None]] = []
    rows: list[tuple[str, Call | None]] = []

    def push(shard: int) -> bool:
        for key, call in waiting[shard]:
            heapq.heappush(heap, (order(key), shard, key, call))
            return True
        return False

    for shard in range(SHARDS):
        push(shard)
    while heap and len(rows) < count:
        _, shard, key, call = heapq.heappop(heap)
        rows.append((key, call))
        if not push(shard) and len(heads[shard]) == share:
            heads[shard] = await fetch(shard, Window(key, window.below), share)
            waiting[shard] = iter(heads[shard])
            push(shard)
    return rows


def _continuation(status: Status, scope: Scope, key: str) -> str:
    return urlsafe_b64encode(json.dumps([VERSION, status, _listed(scope), key]).encode()).decode().rstrip("=")


def _last_key(continuation: str, status: Status, scope: Scope, window: Window) -> str:
    try:
        text = urlsafe_b64decode(continuation + "=" * (-len(continuation) % 4))
        match json.loads(text):
            case [version, its_status, its_scope, str(key)] if (version, its_status, its_scope) == (
                VERSION,
                status,
                _listed(scope),
            ) and _is_key(key, window):
                return key
    except (ValueError, RecursionError, InvalidRequest):  # not base64, not UTF-8, not JSON, no id
        pass
    detail = (
        "It is not the continuation of this list. Take the one that the page before gave, with the same parameters."
    )
    raise InvalidRequest("The continuation cannot be used.", (("continuation", detail),))


def _listed(scope: Scope) -> list[list[str] | None]:
    return [None if ids is None else sorted(each or "" for each in ids) for ids in (scope.tenants, scope.apps)]


def _is_key(key: str, window: Window) -> bool:
    """Whether it may be a key of this list: nothing else must get into a query of Table Storage."""
    call_id = last_part(key)
    head = key.removesuffix(call_id)
    inside = order(window.above) < order(key) < order(window.below)
    return inside and head.isascii() and head.isprintable() and canonical_id(call_id) == call_id
