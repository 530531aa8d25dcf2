"""The calls that every contestant renews: the same ids in the same order, so that Graph can name a missing one."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator

TENANT = "7b9c2f60-1d5e-4a8b-9c3f-2e6d8a0b4c11"
IN_FLIGHT = 32  # requests at once: the default of KEEP_ALIVE_CONCURRENCY
_FIRST_ID = uuid.UUID("5b0d8a40-93c6-4a53-8a70-0d8b5a3c1f00").int


def call_ids(count: int, first: int = 0) -> Iterator[str]:
    """Return `count` ids, beginning with number `first`. They are GUIDs in lower case, as Graph writes them."""
    numbers = range(first, first + count)
    return (str(uuid.UUID(int=_FIRST_ID + (number * 0x9E3779B97F4A7C15 << 48) & (1 << 128) - 1)) for number in numbers)


async def run_concurrently(ids: Iterable[str], work: Callable[[str], Awaitable[None]]) -> None:
    """Do the work for each id, `IN_FLIGHT` of them at once."""
    left = iter(ids)

    async def run_worker() -> None:
        for call_id in left:
            await work(call_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(run_worker())
