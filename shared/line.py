"""Who is next in a sweep: the call with the earliest deadline, unless its tenant holds its share of the slots."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from shared.calls import Account, Lease


class Line:
    """Leases that wait for their keepAlive.

    Parameters
    ----------
    leases
        In the order in which they shall be taken.
    has_room
        Whether one more of a tenant may be taken now.
    """

    def __init__(self, leases: Iterable[Lease], has_room: Callable[[Account], bool]) -> None:
        self._leases = deque(leases)
        self._has_room = has_room
        self._aside: dict[Account, deque[Lease]] = {}  # passed over, in order

    def __len__(self) -> int:
        return len(self._leases) + sum(map(len, self._aside.values()))

    def take(self) -> Lease | None:
        """The next one whose tenant has room."""
        for account in self._aside:
            if self._has_room(account):
                return self._take_aside(account)
        while self._leases:
            lease = self._leases.popleft()
            if lease.account not in self._aside and self._has_room(lease.account):
                return lease
            self._aside.setdefault(lease.account, deque()).append(lease)
        return None

    def rest(self) -> list[Lease]:
        """Those that were not taken, in no order."""
        return [*self._leases, *(lease for leases in self._aside.values() for lease in leases)]

    def _take_aside(self, account: Account) -> Lease:
        leases = self._aside[account]
        lease = leases.popleft()
        if not leases:
            del self._aside[account]
        return lease


class Hand:
    """The lines of a process: another shard is read only when fewer leases than `most` wait in those at hand.

    So that small shards are swept all at once, where the calls of one slow tenant hold up nobody else's, while of large
    ones little more than one lies in memory.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: list[Line] = []
        self._reading = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._has_room.set()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for the turn to read a shard; it ends when the shard's line was added."""
        async with self._reading:
            await self._has_room.wait()
            yield

    def add(self, line: Line) -> None:
        """It counts from now on."""
        self._lines.append(line)
        if self._waiting() >= self._most:
            self._has_room.clear()

    def remove(self, line: Line) -> None:
        """It does not any more."""
        self._lines.remove(line)
        self.look()

    def look(self) -> None:
        """A lease was taken from a line: there may be room now."""
        if not self._has_room.is_set() and self._waiting() < self._most:
            self._has_room.set()

    def _waiting(self) -> int:
        return sum(map(len, self._lines))
