"""`make soak-real`: minutes of faults on real processes, judged by what the simulated Graph has on record."""

SPEED = 60  # a lease is 45 s. No faster: a host takes seconds to start, and HTTP's time-outs are not sped up
MINUTE = 60 / SPEED  # real seconds in a simulated minute
LEASE = 45  # minutes
