"""One run: a world and its bots, for the hours of the fault profile and one more hour without faults."""

import asyncio

from soak.bots import Bots
from soak.checker import Findings
from soak.fault_kinds import TICK
from soak.fault_schedule import FaultProfile
from soak.intervals import HOUR, MINUTE
from soak.loop import VirtualLoop
from soak.virtual_graph import VirtualCall
from soak.world import World


class Run:
    """One run of a seed.

    Parameters
    ----------
    seed
        Defines the faults and all other random choices.
    profile
        The faults and the workload that the run can get.
    loop
        The event loop in virtual time.
    """

    def __init__(self, seed: int, profile: FaultProfile, loop: VirtualLoop) -> None:
        self.world = World(seed, profile, loop)
        self._bots = Bots(self.world, seed)
        self.world.graph.on_end = self._on_call_end

    async def execute(self) -> Findings:
        """Run to the end, and return what the checker found."""
        self.world.start()
        self._bots.start()
        await asyncio.sleep(self.world.schedule.seconds + HOUR)
        self.world.checker.check_final_state()
        if self.world.relay:
            self.world.relay.checker.check_final_state()
        return self._complete_findings()

    def _complete_findings(self) -> Findings:
        world, findings = self.world, self.world.findings
        counts, queue = findings.counts, world.queue
        counts["calls"] = len(world.graph.calls)
        counts["faults"] = world.schedule.count_faults()
        counts["messages"], counts["lost"], counts["poisoned"] = queue.sent, queue.lost, queue.poisoned
        if world.relay:
            counts["relay messages"], counts["relay lost"] = world.relay.queue.sent, world.relay.queue.lost
        counts["moments held"], counts["moments"] = world.liveness.count_held(world.schedule.seconds)
        findings.digest = world.digest
        return findings

    def _on_call_end(self, call: VirtualCall) -> None:
        self.world.checker.on_end(call)
        self._bots.on_call_end(call)
        # A tick skips what a requested sweep has just swept, so the end may be found one tick later.
        skipped_for = self.world.liveness.fresh if self.world.schedule.sweep_requests else 0
        self.world.loop.call_later(TICK + skipped_for + MINUTE, self.world.checker.check_end_found, call)
