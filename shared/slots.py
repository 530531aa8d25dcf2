"""How many requests are in flight at once, and how tenants share them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.leases import Lease, TenantApp

MAX_BESIDE_SWEEPS = 8  # keepAlives of registrations and retries; the host works on four messages at once


class Slots:
    """So many requests in flight in a process; three quarters of them at most for one tenant while sweeps have others.

    Without that, a tenant whose answers take seconds would hold all slots, and the calls of the others would wait.

    A few more, `beside_sweeps`, are for keepAlives of registrations and retries: in the queue of the sweeps they would
    wait behind all workers of all shards.
    """

    def __init__(self, limit: int) -> None:
        self.beside_sweeps = asyncio.Semaphore(MAX_BESIDE_SWEEPS)
        self._free = asyncio.Semaphore(limit)
        self._share = max(1, limit * 3 // 4)
        self._held: Counter[TenantApp] = Counter()
        self._present: Counter[TenantApp] = Counter()  # tenants of the sweeps that run
        self._change: asyncio.Event | None = None

    def has_room(self, account: TenantApp) -> bool:
        """Whether the tenant may have one more."""
        return len(self._present) <= 1 or self._held[account] < self._share

    @contextmanager
    def shared_by(self, accounts: Iterable[TenantApp]) -> Iterator[None]:
        """A sweep of these tenants' calls runs as long as this lasts."""
        distinct = set(accounts)
        self._present.update(distinct)
        try:
            yield
        finally:
            for account in distinct:
                self._less(self._present, account)

    @asynccontextmanager
    async def one(self, choose: Callable[[], Lease | None]) -> AsyncGenerator[Lease | None]:
        """Hold a slot for the lease that `choose` names as soon as one is free. None: for nobody."""
        async with self._free:
            lease = choose()
            if lease is None:
                yield None
                return
            account = lease.tenant_app
            self._held[account] += 1
            try:
                yield lease
            finally:
                self._less(self._held, account)

    async def change(self) -> None:
        """Wait until somebody may have room who had none."""
        self._change = self._change or asyncio.Event()
        await self._change.wait()

    def _less(self, counter: Counter[TenantApp], account: TenantApp) -> None:
        counter[account] -= 1
        if not counter[account]:
            del counter[account]
        if self._change:  # nearly always nobody waits
            self._change.set()
            self._change = None
