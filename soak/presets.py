"""Kinds of life: the usual one, and some in which little but one safety stands between a call and its end."""

from dataclasses import replace

from soak.fault_schedule import TENANTS, Climate, Kind

NEVER = Kind(0, 0, 0)
ALWAYS = Kind(0.01, 100_000, 100_000)
NO_QUEUE = Kind(0.01, 100_000, 100_000, ("away",), ("queues",))
USUAL = Climate()
QUIET = Climate(  # nothing goes wrong, and calls last: what a preset names comes on top
    hours=4,
    calls=12,
    intensities=(1.0,),
    storage=NEVER,
    graph=NEVER,
    tenant=NEVER,
    timer_paused=NEVER,
    timer_doubled=NEVER,
    timer_dies=0,
    queue_loses=NEVER,
    queue_stands=NEVER,
    queue_doubles=NEVER,
    quiet=NEVER,
    kills=NEVER,
    asked_by=("nobody",),
    lives=1_000,
    short=0,
    late=0,
    heard=(0.0,),
)
DEAD_TIMER = replace(QUIET, timer_paused=ALWAYS)

PRESETS = {
    "usual": USUAL,
    "wide": replace(USUAL, fan_out_above=10, queues=4, https=3),  # the timer leaves a message a shard
    # Graph is away at each tick, and there in between.
    "ticks": replace(QUIET, graph=Kind(0.01, 2, 3, ("503",), at_ticks=True)),
    # Only the dead man's switch is left.
    "switch": replace(DEAD_TIMER, quiet=ALWAYS),
    # Only requests are left: the queue has lost the switch, early on.
    "requests": replace(DEAD_TIMER, queue_loses=Kind(1_000, 1, 60)),
    # The timer is dead, and the queue hands nothing out.
    "alone": replace(DEAD_TIMER, queue_stands=ALWAYS),
    # Only the switch is left, and tables are away for longer than five tries last.
    "outages": replace(DEAD_TIMER, quiet=ALWAYS, storage=Kind(20, 4, 20, ("away",), ("tables",))),
    # One shard, whose sweep takes longer than a tick.
    "crowded": replace(QUIET, calls=110, one_shard=True, concurrency=(1,), graph_seconds=6.0),
    # The same without the queue: each tick has four minutes.
    "unhanded": replace(
        QUIET, calls=56, one_shard=True, concurrency=(1,), graph_seconds=6.0, storage=NO_QUEUE, quiet=ALWAYS
    ),
    # Graph throttles all.
    "throttled": replace(QUIET, calls=60, concurrency=(4,), graph=Kind(30, 10, 20, ("429",))),
    # One tenant gets no answer.
    "hung": replace(QUIET, calls=240, tenant=Kind(20, 20, 25, ("hangs",), TENANTS)),
    # The timer leaves a message a shard, and the queue hands none out.
    "stands": replace(QUIET, hours=12, fan_out_above=1, queue_stands=ALWAYS, quiet=ALWAYS),
    # Only the switch is left, and the queue takes some messages and others not.
    "flaky": replace(DEAD_TIMER, hours=24, calls=6, quiet=ALWAYS, storage=Kind(40, 15, 20, ("flaky",), ("queues",))),
    # Tables take some of what a sweep must write.
    "unwritten": replace(
        QUIET,
        calls=60,
        storage=Kind(10, 2, 5, ("flaky",), ("tables",), at_ticks=True),
        graph=Kind(10, 2, 5, ("503",), at_ticks=True),
    ),
    # Each message comes twice at times, the switch too, and another process takes each.
    "doubled": replace(DEAD_TIMER, hours=24, calls=4, queues=16, queue_doubles=ALWAYS),
    # Everybody writes the same calls, and writing takes its time.
    "races": replace(
        QUIET,
        calls=40,
        lives=0.3,
        short=0.5,
        storage=Kind(10, 15, 20, ("slow",), ("tables",)),
        graph=Kind(20, 5, 10, ("mixed",)),
        queue_doubles=ALWAYS,
        heard=(0.5,),
    ),
    # Calls are registered late, at machines with other clocks.
    "late": replace(QUIET, calls=60, lives=1.0, late=1.0, deaf=1.0),
    # Nobody registers a call, and the first notification of it comes in mid-life. The timer is dead.
    "met": replace(DEAD_TIMER, calls=60, lives=1.0, late=1.0, unregistered=1.0),
    # Calls begin all the time, and Graph does not find them at first.
    "young": replace(QUIET, calls=60, lives=0.5, unseen=1.0),
    # Graph renews, and its answer is lost.
    "lost": replace(QUIET, graph=Kind(30, 60, 90, ("lost",))),
}
