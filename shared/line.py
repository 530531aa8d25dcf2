"""Who is next in a sweep: the call with the earliest deadline, unless its tenant holds its share of the slots."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from shared.leases import Lease, TenantApp


class Line:
    """Leases that wait for their keepAlive.

    Parameters
    ----------
    leases
        In the order in which they shall be taken.
    has_room
        Whether one more of a tenant may be taken now.
    """

    def __init__(self, leases: Iterable[Lease], has_room: Callable[[TenantApp], bool]) -> None:
        self._leases = deque(leases)
        self._has_room = has_room
        self._aside: dict[TenantApp, deque[Lease]] = {}  # passed over, in order

    def __len__(self) -> int:
        return len(self._leases) + sum(map(len, self._aside.values()))

    def take(self) -> Lease | None:
        """The next one whose tenant has room."""
        for account in self._aside:
            if self._has_room(account):
                return self._take_aside(account)
        while self._leases:
            lease = self._leases.popleft()
            if lease.tenant_app not in self._aside and self._has_room(lease.tenant_app):
                return lease
            self._aside.setdefault(lease.tenant_app, deque()).append(lease)
        return None

    def put_back(self, leases: Iterable[Lease]) -> None:
        """Those that were taken, and are to be left to another sweep."""
        self._leases.extend(leases)

    def rest(self) -> list[Lease]:
        """Those that were not taken, in no order."""
        return [*self._leases, *(lease for leases in self._aside.values() for lease in leases)]

    def _take_aside(self, account: TenantApp) -> Lease:
        leases = self._aside[account]
        lease = leases.popleft()
        if not leases:
            del self._aside[account]
        return lease


class Hand:
    """The leases of a process: another shard is read only while fewer than `most` of those at hand are not done.

    So that small shards are swept all at once, where the calls of one slow tenant hold up nobody else's, while of large
    ones little more than one lies in memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._reading = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._has_room.set()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for the turn to read a shard; it ends when the shard's leases were taken."""
        async with self._reading:
            await self._has_room.wait()
            yield

    def take(self, count: int) -> "Held":
        """Take the leases of a shard."""
        self.change(count)
        return Held(self, count)

    def change(self, by: int) -> None:
        """So many more, or fewer, are at hand."""
        self._count += by
        if self._count < self._most:
            self._has_room.set()
        else:
            self._has_room.clear()


class Held:
    """The leases of one shard, until `release`."""

    def __init__(self, hand: Hand, count: int) -> None:
        self._hand = hand
        self._count = count

    def one_done(self) -> None:
        """One of them need not be held any more."""
        self._count -= 1
        self._hand.change(-1)

    def release(self) -> None:
        """Nor do the others: they are left to another sweep."""
        self._hand.change(-self._count)
        self._count = 0
