"""The rules for calls, leases, notifications and reasons of ends, without I/O."""
