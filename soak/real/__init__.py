"""Runs Call Keeper as real processes under faults for some minutes, and checks it against the simulator's records."""

SPEED = 60  # a lease takes 45 s. Not faster: a host takes seconds to start, and HTTP time-outs are not sped up
MINUTE = 60 / SPEED  # real seconds of a simulated minute
LEASE = 45  # simulated minutes
