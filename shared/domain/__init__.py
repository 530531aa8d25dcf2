"""Calls, leases, notifications and the reasons of ends: rules without I/O."""
