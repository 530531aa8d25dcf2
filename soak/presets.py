"""The presets: fault profiles for `python -m soak --preset`.

`usual` mixes all faults of the keeper, `relay` those of the relay too. In most others only one safety can prevent a
lapse or another violation, so that a test sees what happens without it. If the name of a preset does not begin with
`relay`, the relay is off.
"""

from dataclasses import replace

from soak.fault_kinds import FaultKind
from soak.fault_schedule import TENANTS, FaultProfile
from soak.relay_faults import RelayProfile

NEVER = FaultKind(0, 0, 0)
ALWAYS = FaultKind(0.01, 100_000, 100_000)
NO_QUEUE = FaultKind(0.01, 100_000, 100_000, ("away",), ("queues",))
USUAL = FaultProfile()
CALM = FaultProfile(  # no fault, and calls last: a preset adds its faults to this
    hours=4,
    calls=12,
    intensities=(1.0,),
    storage=NEVER,
    graph=NEVER,
    tenant=NEVER,
    timer_paused=NEVER,
    timer_doubled=NEVER,
    timer_death_share=0,
    queue_loses=NEVER,
    queue_stalls=NEVER,
    queue_duplicates=NEVER,
    no_requests=NEVER,
    kills=NEVER,
    sweep_requesters=("none",),
    mean_call_hours=1_000,
    short_share=0,
    late_share=0,
    notification_fault_shares=(0.0,),
)
DEAD_TIMER = replace(CALM, timer_paused=ALWAYS)

CALM_RELAY = RelayProfile(
    target=NEVER,
    timer_paused=NEVER,
    queue_loses=NEVER,
    queue_stalls=NEVER,
    queue_duplicates=NEVER,
    no_token=NEVER,
    kills=NEVER,
    old_bearer_share=0.0,
    no_to_share=0.0,
)
RELAY = replace(USUAL, relay=RelayProfile(), hours=6, calls=20, mean_call_hours=1.0, max_clock_offset=2.0)
RELAY_CALM = replace(CALM, relay=CALM_RELAY, hours=1.5, mean_call_hours=1.0, short_share=0.15, max_clock_offset=0.5)
FLAPPING_BOTS = FaultKind(20, 5, 20, ("flapping", "500"))

PRESETS = {
    "usual": USUAL,
    # All faults, and the timer leaves one message for each shard.
    "fan-out": replace(USUAL, fan_out_threshold=10, queue_processes=4, http_processes=3),
    # Graph answers 503 at each tick, and normally between the ticks.
    "graph-down-at-ticks": replace(CALM, graph=FaultKind(0.01, 2, 3, ("503",), at_ticks=True)),
    # The timer is dead and no requests come: only the watchdog can start a sweep.
    "watchdog-only": replace(DEAD_TIMER, no_requests=ALWAYS),
    # The timer is dead and the queue loses the watchdog early: only requests can start a sweep.
    "requests-only": replace(DEAD_TIMER, queue_loses=FaultKind(1_000, 1, 60)),
    # The timer is dead and the queue delivers nothing: a request must sweep in its own process.
    "no-timer-no-queue": replace(DEAD_TIMER, queue_stalls=ALWAYS),
    # Only the watchdog can start a sweep, and outages of the tables last longer than five deliveries of a message.
    "storage-outages": replace(DEAD_TIMER, no_requests=ALWAYS, storage=FaultKind(20, 4, 20, ("away",), ("tables",))),
    # All calls are in one shard, whose sweep takes longer than the time between two ticks.
    "large-shard": replace(CALM, calls=110, one_shard=True, concurrency=(1,), graph_latency=6.0),
    # The same without the queue, so that a sweep gets only the four minutes of each tick.
    "large-shard-no-queue": replace(
        CALM, calls=56, one_shard=True, concurrency=(1,), graph_latency=6.0, storage=NO_QUEUE, no_requests=ALWAYS
    ),
    # Graph throttles all tenants.
    "throttled": replace(CALM, calls=60, concurrency=(4,), graph=FaultKind(30, 10, 20, ("429",))),
    # Graph answers nothing for one tenant.
    "graph-timeouts": replace(CALM, calls=240, tenant=FaultKind(20, 20, 25, ("hangs",), TENANTS)),
    # The timer leaves one message for each shard, and the queue delivers none of them.
    "fan-out-queue-stalled": replace(CALM, hours=12, fan_out_threshold=1, queue_stalls=ALWAYS, no_requests=ALWAYS),
    # Only the watchdog can start a sweep, and the queue accepts only some of the messages.
    "flaky-queue": replace(
        DEAD_TIMER, hours=24, calls=6, no_requests=ALWAYS, storage=FaultKind(40, 15, 20, ("flaky",), ("queues",))
    ),
    # The tables accept only some of the writes of a sweep.
    "flaky-tables": replace(
        CALM,
        calls=60,
        storage=FaultKind(10, 2, 5, ("flaky",), ("tables",), at_ticks=True),
        graph=FaultKind(10, 2, 5, ("503",), at_ticks=True),
    ),
    # The timer is dead, and the queue delivers some messages twice, to different processes: the watchdog's too.
    "duplicate-messages": replace(DEAD_TIMER, hours=24, calls=4, queue_processes=16, queue_duplicates=ALWAYS),
    # Several processes write the same calls at the same time, and writes are slow.
    "write-races": replace(
        CALM,
        calls=40,
        mean_call_hours=0.3,
        short_share=0.5,
        storage=FaultKind(10, 15, 20, ("slow",), ("tables",)),
        graph=FaultKind(20, 5, 10, ("mixed",)),
        queue_duplicates=ALWAYS,
        notification_fault_shares=(0.5,),
    ),
    # Calls are registered late, and at processes with different clocks.
    "late-registration": replace(CALM, calls=60, mean_call_hours=1.0, late_share=1.0, no_notification_share=1.0),
    # The timer is dead, no call is registered, and its first notification comes long after its start.
    "unregistered": replace(DEAD_TIMER, calls=60, mean_call_hours=1.0, late_share=1.0, unregistered_share=1.0),
    # Calls start all the time, and Graph does not find them at first.
    "early-not-found": replace(CALM, calls=60, mean_call_hours=0.5, early_404_share=1.0),
    # Graph renews calls, but its answers are lost.
    "lost-answers": replace(CALM, graph=FaultKind(30, 60, 90, ("lost",))),
    # The relay with all faults, its own and the keeper's.
    "relay": RELAY,
    # The same, and clocks that are wrong by up to two minutes.
    "relay-skewed": replace(RELAY, max_clock_offset=120.0),
    # The relay without any fault.
    "relay-calm": RELAY_CALM,
    # One bot answers nothing, ever. The others are well.
    "relay-dead-bot": replace(RELAY_CALM, relay=replace(CALM_RELAY, dead=(("bot/a", "hangs"), ("log", "hangs")))),
    # Processes die all the time, between any two requests.
    "relay-crashes": replace(
        RELAY_CALM, hours=4, kills=FaultKind(10, 0, 0), relay=replace(CALM_RELAY, kills=FaultKind(4, 0, 0))
    ),
    # Bots fail often, and the queue delivers nothing: only a look at the outbox finds what failed.
    "relay-no-queue": replace(
        RELAY_CALM, hours=3, relay=replace(CALM_RELAY, target=FLAPPING_BOTS, queue_stalls=ALWAYS)
    ),
    # Bots are slow, notifications come in bursts, and several processes get each message.
    "relay-races": replace(
        RELAY_CALM,
        relay=replace(
            CALM_RELAY,
            target=FaultKind(10, 5, 20, ("slow", "flapping", "slow")),
            queue_duplicates=ALWAYS,
            processes=6,
            burst_share=0.8,
            update_interval=4.0,
        ),
    ),
    # Bots fail when they are asked first, and Graph's bearers end soon.
    "relay-old-bearers": replace(
        RELAY_CALM,
        relay=replace(CALM_RELAY, target=FaultKind(10, 5, 20, ("401 once", "500", "hangs")), old_bearer_share=0.8),
    ),
    # Two processes relay the same notification, by clocks that differ.
    "relay-twins": replace(
        RELAY_CALM, max_clock_offset=5.0, relay=replace(CALM_RELAY, duplicate_share=1.0, burst_share=1.0)
    ),
}
