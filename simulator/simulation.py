"""Everything that the simulator knows, put together."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from simulator.authorization import Authorization
from simulator.calls import Calls
from simulator.clock import Clock
from simulator.delivery import Delivery, Signers
from simulator.entra import Entra
from simulator.faults import Faults
from simulator.gate import Connections, Gate
from simulator.journal import Journal
from simulator.operations import Operations
from simulator.signing import KeyRing

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Options:
    """How a simulation is made.

    `seed` fixes ids, faults and delivery; `base_url` is where it is served. `login_url` is where Entra is served by
    https, if it is: then that is its authority, which its issuers begin with.
    """

    base_url: str = "http://127.0.0.1:8080"
    speed: float = 1.0
    seed: int | None = None
    login_url: str | None = None


class Simulation:
    """One Graph with its Entra, its calls and their clock."""

    def __init__(self, options: Options, callbacks: httpx.AsyncBaseTransport | None = None) -> None:
        self._seed = str(options.seed) if options.seed is not None else secrets.token_hex(8)
        self.clock = Clock(options.speed)
        self.notification_keys = KeyRing("Calling service, simulated")
        self.entra = Entra(options.login_url or options.base_url)
        self.connections = Connections()
        self.signers = Signers(self.notification_keys, self.entra)
        self.delivery = Delivery(self.clock, self.signers, self._seed, callbacks)
        self._random_ids, self._random_faults = Random(), Random()
        self.calls = Calls(self.clock, self._random_ids, self.delivery.announce)
        self.operations = Operations(self.clock, self.calls, self.delivery.announce_operation)
        self.faults = Faults(self.clock, self._random_faults)
        self.journal = Journal()
        self.authorization = Authorization(self.entra)
        self.gate = Gate(self.clock, self.calls, self.faults, self.journal, self.connections)
        self.reset()

    async def advance(self, seconds: float) -> None:
        """Step the clock; what that sets off, deliveries included, is done when this returns."""
        await self.clock.advance(seconds, self._settle)

    def reset(self) -> None:
        """As just started: no calls, faults, apps or requests; the first speed and modes. The keys stay."""
        self._random_ids.seed(f"{self._seed} ids")
        self._random_faults.seed(f"{self._seed} faults")
        self.clock.reset()
        self.calls.clear()
        self.operations.files.clear()
        self.faults.clear()
        self.journal.clear()
        self.delivery.reset()
        self.entra.reset()

    async def close(self) -> None:
        """Stop the clock and the deliveries."""
        self.clock.stop()
        await self.delivery.close()

    async def _settle(self) -> None:
        await asyncio.sleep(0)  # who slept on the clock goes first
        await self.delivery.settle()
