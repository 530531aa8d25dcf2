"""Stand-ins that several tests share: a clock to step, a queue, and a Graph with leases, all in virtual time."""
