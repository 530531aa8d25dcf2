"""Measures Call Keeper: `make bench`. Contestants in processes of their own, against the same Graph on this machine."""
