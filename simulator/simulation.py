"""One simulation: all parts of the simulator, built and connected."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from simulator.authorization import Authorization
from simulator.calls import Calls
from simulator.clock import Clock
from simulator.delivery import Delivery, NotificationTokens
from simulator.entra import Entra
from simulator.faults import Faults
from simulator.journal import Journal
from simulator.middleware import Connections, Middleware
from simulator.operations import Operations
from simulator.signing import KeyRing

if TYPE_CHECKING:
    from datetime import timedelta

    import httpx


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a simulation.

    Parameters
    ----------
    base_url
        The http address of the server.
    speed
        Simulated seconds per real second.
    seed
        A number that makes ids, faults and delivery repeatable.
    login_url
        The https address of Entra, if it is served by https. It is then the authority, with which issuers begin.
    """

    base_url: str = "http://127.0.0.1:8080"
    speed: float = 1.0
    seed: int | None = None
    login_url: str | None = None


class Simulation:
    """One Graph with its Entra, its calls and their clock.

    `notification_transport` takes the notifications instead of the network, for tests.
    """

    def __init__(self, options: Options, notification_transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._seed = str(options.seed) if options.seed is not None else secrets.token_hex(8)
        self.clock = Clock(options.speed)
        self.notification_keys = KeyRing("Calling service, simulated")
        self.entra = Entra(options.login_url or options.base_url)
        self.connections = Connections()
        self.notification_tokens = NotificationTokens(self.notification_keys, self.entra)
        self.delivery = Delivery(self.clock, self.notification_tokens, self._seed, notification_transport)
        self._random_ids, self._random_faults = Random(), Random()
        self.calls = Calls(self.clock, self._random_ids, self.delivery.notify_call)
        self.operations = Operations(self.clock, self.calls, self.delivery.notify_operation)
        self.faults = Faults(self.clock, self._random_faults)
        self.journal = Journal()
        self.authorization = Authorization(self.entra)
        self.middleware = Middleware(self.clock, self.calls, self.faults, self.journal, self.connections)
        self.reset()

    async def advance(self, step: timedelta) -> None:
        """Step the clock. Return when all effects of the step are complete, deliveries included."""
        await self.clock.advance(step, self._settle)

    def reset(self) -> None:
        """Return to the state after the start: no calls, faults, apps or requests, initial speed and settings.

        The signing keys stay.
        """
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
        await asyncio.sleep(0)  # let the tasks run that slept on the clock
        await self.delivery.settle()
