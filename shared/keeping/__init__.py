"""Sweeps that renew the lease of every active call."""
